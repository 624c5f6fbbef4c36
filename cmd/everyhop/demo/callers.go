package demo

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"time"

	"github.com/everyhop/everyhop/identity/dev"
)

// caller is who makes a try: an app through its own sidecar, or a peer that dials
// the other side's by itself.
type caller struct {
	via   string      // the service whose sidecar carries the try
	admin bool        // an operator, on the admin listener
	tls   *tls.Config // how a peer shakes hands; nil: not at all
}

// mintCallers makes the identities that tries are made with, good and bad.
func (s *shop) mintCallers() error {
	s.callers = map[string]caller{
		"web":      {via: "web"},
		"billing":  {via: "billing"},
		"operator": {admin: true},
		"nobody":   {tls: peerTLS()},
		"plain":    {},
	}
	for name, mint := range map[string]func() (tls.Certificate, error){
		"web*":     minted(s.domain, "web"),
		"billing*": minted(s.domain, "billing"),
		"mallory":  minted(s.domain, "mallory"),
		"partner":  minted(s.partner, "web"),
		"expired":  minted(s.domain, "web", expired),
		"forged":   selfSigned,
	} {
		cert, err := mint()
		if err != nil {
			return err
		}
		s.callers[name] = caller{tls: peerTLS(cert)}
	}
	old := s.callers["web*"].tls.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	s.callers["tls12"] = caller{tls: old}
	return nil
}

// peerTLS is how a peer dials that cares for nothing but to be let in: it takes
// whoever answers, and shows its certificate whatever is asked for.
func peerTLS(certs ...tls.Certificate) *tls.Config {
	config := &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // it is the one to be proved
		NextProtos:         []string{"http/1.1"},
	}
	if len(certs) > 0 {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
	}
	return config
}

func minted(d *dev.Domain, name string, edits ...func(*x509.Certificate)) func() (tls.Certificate, error) {
	return func() (tls.Certificate, error) {
		svid, err := d.Mint(name, edits...)
		if err != nil {
			return tls.Certificate{}, err
		}
		return svid.TLS(), nil
	}
}

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = c.NotBefore.Add(-2*svidLife), c.NotBefore.Add(-svidLife)
}

// selfSigned says that it is web, and only it says so.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(svidLife),
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: home, Path: "/web"}},
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
