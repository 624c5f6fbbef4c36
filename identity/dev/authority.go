package dev

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	caLife = 5 * 365 * 24 * time.Hour
	// backdate is how much before its making a certificate begins, for peers
	// whose clock is late. SPIRE takes the same.
	backdate = 10 * time.Second
)

// authority is the domain's certificate authority. It is never changed: a new
// one takes its place.
type authority struct {
	td     spiffeid.TrustDomain
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	bundle []*x509.Certificate // cert is one of them
}

// openAuthority reads the authority in dir, or makes one. A zero want takes any
// trust domain.
func openAuthority(dir string, want spiffeid.TrustDomain, o Options) (*authority, error) {
	ca, err := readAuthority(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if want.IsZero() {
			want = spiffeid.RequireTrustDomainFromString(defaultTrustDomain)
		}
		return createAuthority(dir, want, o.Now())
	case err != nil:
		return nil, err
	case !want.IsZero() && want != ca.td:
		return nil, fmt.Errorf("it is trust domain %q, not %q: use another directory for another trust domain", ca.td, want)
	case o.Now().After(ca.cert.NotAfter):
		return nil, fmt.Errorf("its certificate authority expired at %s: remove the directory to start a new trust domain", ca.cert.NotAfter.Format(time.RFC3339))
	}
	return ca, nil
}

// readAuthority's error is fs.ErrNotExist only if there is no ca.pem. A ca.key
// alone is what a process leaves that was killed while it made a new domain.
func readAuthority(dir string) (*authority, error) {
	path := filepath.Join(dir, caFile)
	bundle, err := readCertificates(path)
	if err != nil {
		return nil, err
	}
	keyPath := filepath.Join(dir, caKeyFile)
	key, err := readKey(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: restore it, or remove %s to start a new trust domain", keyPath, dir)
	}
	if err != nil {
		return nil, err
	}
	td, err := commonTrustDomain(bundle)
	if err != nil {
		return nil, damaged(path, err)
	}
	i := slices.IndexFunc(bundle, func(c *x509.Certificate) bool { return key.PublicKey.Equal(c.PublicKey) })
	if i < 0 {
		return nil, damaged(path, fmt.Errorf("no certificate in it is of the key in %s", keyPath))
	}
	return &authority{td: td, cert: bundle[i], key: key, bundle: bundle}, nil
}

// commonTrustDomain is the one that all the authorities say they are of.
func commonTrustDomain(bundle []*x509.Certificate) (spiffeid.TrustDomain, error) {
	var common spiffeid.TrustDomain
	for _, c := range bundle {
		if !c.IsCA || len(c.URIs) != 1 {
			return common, fmt.Errorf("certificate %s is not of a SPIFFE authority", c.Subject)
		}
		id, err := spiffeid.FromURI(c.URIs[0])
		if err != nil {
			return common, err
		}
		if !common.IsZero() && common != id.TrustDomain() {
			return common, fmt.Errorf("it holds authorities of both %q and %q", common, id.TrustDomain())
		}
		common = id.TrustDomain()
	}
	return common, nil
}

func createAuthority(dir string, td spiffeid.TrustDomain, now time.Time) (*authority, error) {
	ca, err := newAuthority(td, now)
	if err != nil {
		return nil, err
	}
	// The key first: see readAuthority.
	if err := writeKey(filepath.Join(dir, caKeyFile), ca.key); err != nil {
		return nil, err
	}
	return ca, writeCertificates(filepath.Join(dir, caFile), ca.bundle)
}

// newAuthority is one as SPIRE makes without an upstream authority: its SPIFFE
// ID is the trust domain (X509-SVID section 3.1), and it sets no path length.
func newAuthority(td spiffeid.TrustDomain, now time.Time) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// The serial number keeps two authorities of one domain apart by name.
		Subject:               pkix.Name{Organization: []string{"everyhop dev"}, CommonName: td.Name(), SerialNumber: serial.Text(16)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		URIs:                  []*url.URL{td.ID().URL()},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the certificate authority: %w", err)
	}
	return &authority{td: td, cert: cert, key: key, bundle: []*x509.Certificate{cert}}, nil
}

// sign makes the certificate that template describes, for the owner of key.
func (ca *authority) sign(template *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key, ca.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newSerial is 128 random bits, never 0 (RFC 5280 section 4.1.2.2).
func newSerial() (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	n, err := rand.Int(rand.Reader, limit.Sub(limit, big.NewInt(1)))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}
