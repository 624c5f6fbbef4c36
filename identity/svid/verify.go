package svid

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// What a peer may make us work through before it has proved anything.
const (
	maxChain            = 8
	maxCertificateBytes = 16 << 10
	minRSABits          = 2048
	maxRSABits          = 8192
)

var oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}

// verify is the SPIFFE ID that a peer's chain, leaf first, proves at a time:
// X509-SVID section 5. usage is what the peer uses its leaf for, and
// ExtKeyUsageAny where that was checked before. Only the bundle of the ID's own
// trust domain counts.
func (st *state) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (spiffeid.ID, error) {
	if err := checkSize(chain); err != nil {
		return spiffeid.ID{}, err
	}
	leaf := chain[0]
	id, err := idOf(leaf)
	if err != nil {
		return spiffeid.ID{}, err
	}
	if err := checkLeaf(leaf, usage); err != nil {
		return spiffeid.ID{}, fmt.Errorf("the certificate of %s: %w", id, err)
	}
	trust, ok := st.trust[id.TrustDomain()]
	if !ok {
		return spiffeid.ID{}, fmt.Errorf("the certificate of %s: there is no trust bundle for trust domain %q"+
			" (federate it, and let this workload's entry federate with it)", id, id.TrustDomain().Name())
	}
	if err := trust.verify(chain, usage, now); err != nil {
		return spiffeid.ID{}, fmt.Errorf("the certificate of %s: %w", id, err)
	}
	return id, nil
}

// checkSize refuses a chain that is not worth reading.
func checkSize(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("the peer sent no certificate")
	}
	if len(chain) > maxChain {
		return fmt.Errorf("the peer sent %d certificates, more than %d", len(chain), maxChain)
	}
	for _, cert := range chain {
		if len(cert.Raw) > maxCertificateBytes {
			return fmt.Errorf("the peer sent a certificate of %d bytes, more than %d", len(cert.Raw), maxCertificateBytes)
		}
		if err := checkKey(cert); err != nil {
			return err
		}
	}
	return nil
}

// checkKey refuses keys that are too weak to prove anything, or so large that
// checking them is an attack.
func checkKey(cert *x509.Certificate) error {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits is not accepted, only %d to %d", bits, minRSABits, maxRSABits)
		}
		return nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521() {
			return nil
		}
		return fmt.Errorf("an ECDSA key on %s is not accepted, only P-256, P-384 and P-521", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a %s key is not accepted, only RSA, ECDSA and Ed25519", cert.PublicKeyAlgorithm)
}

// checkLeaf holds a leaf to X509-SVID sections 4 and 5.2.
func checkLeaf(leaf *x509.Certificate, usage x509.ExtKeyUsage) error {
	switch {
	case leaf.IsCA:
		return errors.New("it is a CA, and a CA speaks for no workload")
	case leaf.KeyUsage&x509.KeyUsageCertSign != 0:
		return errors.New("its key usage has keyCertSign, which only a CA has")
	case leaf.KeyUsage&x509.KeyUsageCRLSign != 0:
		return errors.New("its key usage has cRLSign, which only a CA has")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("its key usage lacks digitalSignature")
	case usage != x509.ExtKeyUsageAny && hasExtKeyUsage(leaf) && !slices.Contains(leaf.ExtKeyUsage, usage):
		return fmt.Errorf("its extended key usage lacks %s", usageName(usage))
	}
	return nil
}

// hasExtKeyUsage looks for the extension itself: one with an empty list allows
// nothing, where none at all allows everything.
func hasExtKeyUsage(leaf *x509.Certificate) bool {
	for _, ext := range leaf.Extensions {
		if ext.Id.Equal(oidExtKeyUsage) {
			return true
		}
	}
	return false
}

func usageName(usage x509.ExtKeyUsage) string {
	if usage == x509.ExtKeyUsageServerAuth {
		return "serverAuth"
	}
	return "clientAuth"
}

// verify checks the chain's signatures and lives up to an authority of the one
// trust domain: RFC 5280 section 6, with exact URI name constraints.
func (t trust) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	chains, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         t.pool,
		Intermediates: between,
		KeyUsages:     []x509.ExtKeyUsage{usage},
		CurrentTime:   now,
	})
	if err != nil {
		return err
	}
	for _, c := range chains {
		if err = checkURIConstraints(c); err == nil {
			return nil
		}
	}
	return err
}

// checkURIConstraints holds the leaf to its CAs' permitted URI hosts. A host is
// that host and no other, RFC 5280 section 4.2.1.10; crypto/x509 lets its
// subdomains pass too, and a subdomain is another trust domain.
func checkURIConstraints(chain []*x509.Certificate) error {
	host := chain[0].URIs[0].Hostname()
	for _, ca := range chain[1:] {
		permitted := ca.PermittedURIDomains
		if len(permitted) == 0 {
			continue
		}
		if !slices.ContainsFunc(permitted, func(c string) bool { return matchURIHost(host, c) }) {
			return fmt.Errorf("its CA may only speak for %s", strings.Join(permitted, ", "))
		}
	}
	return nil
}

// matchURIHost matches a host with a constraint. One that begins with a period
// is any number of labels below it, and not the domain itself.
func matchURIHost(host, constraint string) bool {
	constraint = strings.ToLower(constraint)
	if strings.HasPrefix(constraint, ".") {
		return len(host) > len(constraint) && strings.HasSuffix(host, constraint)
	}
	return host == constraint
}
