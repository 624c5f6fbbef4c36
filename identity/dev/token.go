package dev

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"
)

const defaultTokenLife = 10 * time.Minute

// TokenRequest says what is in a user token.
type TokenRequest struct {
	// Audience is whom the token is for: one or more.
	Audience []string
	// Subject is the user.
	Subject string
	// Scope is what the user's client may do; joined by spaces (RFC 8693
	// section 4.2). None leaves the claim out.
	Scope []string
	// Lifetime is until the token expires; 0 means 10m. A negative one makes a
	// token that has expired.
	Lifetime time.Duration
	// Claims are added, and take the place of those above and of iss, iat and
	// exp. A nil value leaves that claim out. For tests, and for claims of
	// one's own.
	Claims map[string]any
	// Type is the header's typ; "JWT" if empty. RFC 9068 asks for "at+jwt".
	Type string
}

// Issuer is the iss of the domain's user tokens: https://dev.TRUST-DOMAIN. It is
// a name only, and nothing answers there: the keys are in [Domain.KeySetFile].
func (d *Domain) Issuer() string { return "https://dev." + d.td.Name() }

// KeySetFile is the path of the JWKS that verifies the domain's user tokens.
func (d *Domain) KeySetFile() string { return filepath.Join(d.dir, keySetFile) }

// Token makes a user token: a JWT (RFC 7519) signed with ES256 by the domain's
// token issuer, with iss, sub, aud, iat, exp and scope, and a kid.
func (d *Domain) Token(r TokenRequest) (string, error) {
	_, own := r.Claims["aud"]
	if len(r.Audience) == 0 && !own {
		return "", errors.New("making a user token: it needs an audience, whom the token is for")
	}
	_, own = r.Claims["sub"]
	if r.Subject == "" && !own {
		return "", errors.New("making a user token: it needs a subject, the user it speaks for")
	}
	typ := r.Type
	if typ == "" {
		typ = "JWT"
	}
	token, err := d.issuer.sign(typ, d.claims(r))
	if err != nil {
		return "", fmt.Errorf("making a user token for %q: %w", r.Subject, err)
	}
	return token, nil
}

func (d *Domain) claims(r TokenRequest) map[string]any {
	life := r.Lifetime
	if life == 0 {
		life = defaultTokenLife
	}
	now := d.opt.Now()
	claims := map[string]any{
		"iss": d.Issuer(),
		"sub": r.Subject,
		"aud": r.Audience,
		"iat": now.Unix(),
		"exp": now.Add(life).Unix(),
	}
	if len(r.Scope) > 0 {
		claims["scope"] = strings.Join(r.Scope, " ")
	}
	maps.Copy(claims, r.Claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}
