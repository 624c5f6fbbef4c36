package dev

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// jwtLife is how long a JWT-SVID lives, as in SPIRE.
const jwtLife = 5 * time.Minute

// signingKey signs tokens with ES256. Its id is the RFC 7638 thumbprint.
type signingKey struct {
	id  string
	key *ecdsa.PrivateKey
	jwk jwk.Key
}

func openSigningKey(path string) (*signingKey, error) {
	key, err := openKey(path)
	if err != nil {
		return nil, err
	}
	k, err := jwk.FromRaw(key)
	if err != nil {
		return nil, damaged(path, err)
	}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, damaged(path, err)
	}
	id := base64.RawURLEncoding.EncodeToString(sum)
	if err := k.Set(jwk.KeyIDKey, id); err != nil {
		return nil, damaged(path, err)
	}
	return &signingKey{id: id, key: key, jwk: k}, nil
}

// sign is the claims as a compact JWS (RFC 7515 section 3.1).
func (k *signingKey) sign(typ string, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	header := jws.NewHeaders()
	if typ != "" {
		if err := header.Set(jws.TypeKey, typ); err != nil {
			return "", err
		}
	}
	token, err := jws.Sign(payload, jws.WithKey(jwa.ES256, k.jwk, jws.WithProtectedHeaders(header)))
	return string(token), err
}

// keySet is the public half as a JWKS (RFC 7517 section 5).
func (k *signingKey) keySet() ([]byte, error) {
	public, err := k.jwk.PublicKey()
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]any{jwk.KeyUsageKey: jwk.ForSignature, jwk.AlgorithmKey: jwa.ES256} {
		if err := public.Set(name, value); err != nil {
			return nil, err
		}
	}
	set := jwk.NewSet()
	if err := set.AddKey(public); err != nil {
		return nil, err
	}
	return json.MarshalIndent(set, "", "  ")
}

// jwtSVID makes a JWT-SVID (JWT-SVID section 3).
func (d *Domain) jwtSVID(id spiffeid.ID, audience []string) (string, error) {
	now := d.opt.Now()
	token, err := d.jwtKey.sign("JWT", map[string]any{
		"sub": id.String(),
		"aud": audience,
		"iat": now.Unix(),
		"exp": now.Add(jwtLife).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("making a JWT-SVID for %s: %w", id, err)
	}
	return token, nil
}
