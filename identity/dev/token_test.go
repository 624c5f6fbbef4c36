package dev

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/lestrrat-go/jwx/v2/jwt"
)

func parseToken(t *testing.T, d *Domain, token string, o ...jwt.ParseOption) (jwt.Token, error) {
	t.Helper()
	content, err := os.ReadFile(d.KeySetFile())
	must(t, err)
	keys, err := jwk.Parse(content)
	must(t, err)
	return jwt.ParseString(token, append(o, jwt.WithKeySet(keys))...)
}

func TestToken_IsVerifiedByKeySetFile(t *testing.T) {
	d := open(t, tempDir(t), Options{TrustDomain: "td.test"})
	token, err := d.Token(TokenRequest{Audience: []string{"orders"}, Subject: "ann", Scope: []string{"a:read", "a:write"}, Claims: map[string]any{"tenant": "acme"}})
	must(t, err)
	got, err := parseToken(t, d, token, jwt.WithIssuer("https://dev.td.test"), jwt.WithAudience("orders"), jwt.WithSubject("ann"), jwt.WithClaimValue("scope", "a:read a:write"), jwt.WithClaimValue("tenant", "acme"))
	must(t, err)
	if life := got.Expiration().Sub(got.IssuedAt()); life != 10*time.Minute {
		t.Errorf("it lives %v", life)
	}
	message, err := jws.ParseString(token)
	must(t, err)
	header := message.Signatures()[0].ProtectedHeaders()
	if header.Type() != "JWT" || header.Algorithm() != "ES256" || header.KeyID() == "" {
		t.Errorf("typ %q, alg %q, kid %q", header.Type(), header.Algorithm(), header.KeyID())
	}
}

func TestToken_NoJWTSVIDIsAUserToken(t *testing.T) {
	d := open(t, tempDir(t), Options{})
	id, err := d.ID("web")
	must(t, err)
	svid, err := d.jwtSVID(id, []string{"orders"})
	must(t, err)
	if _, err := parseToken(t, d, svid); err == nil {
		t.Error("the token issuer's keys verify a JWT-SVID")
	}
}

func TestToken_CanBeMadeWrongOnPurpose(t *testing.T) {
	d := open(t, tempDir(t), Options{})
	expired, err := d.Token(TokenRequest{Audience: []string{"a"}, Subject: "s", Lifetime: -time.Minute})
	must(t, err)
	if _, err := parseToken(t, d, expired); err == nil {
		t.Error("a negative lifetime made a token that lives")
	}
	bare, err := d.Token(TokenRequest{Claims: map[string]any{"aud": nil, "sub": nil, "exp": nil, "iss": "https://evil.test"}})
	must(t, err)
	got, err := parseToken(t, d, bare, jwt.WithIssuer("https://evil.test"))
	must(t, err)
	if !got.Expiration().IsZero() || got.Subject() != "" || len(got.Audience()) != 0 {
		t.Errorf("nil claims are still there: %v", got)
	}
}

func TestToken_NeedsAudienceAndSubject(t *testing.T) {
	d := open(t, tempDir(t), Options{})
	for want, r := range map[string]TokenRequest{
		"needs an audience": {Subject: "s"},
		"needs a subject":   {Audience: []string{"a"}},
		"making a user":     {Audience: []string{"a"}, Subject: "s", Claims: map[string]any{"x": func() {}}},
	} {
		if _, err := d.Token(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
