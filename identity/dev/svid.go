package dev

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// SVID is an X.509-SVID with its private key.
type SVID struct {
	// ID is whom it was made for.
	ID spiffeid.ID
	// Certificates is the chain, the leaf first.
	Certificates []*x509.Certificate
	// PrivateKey is the leaf's: ECDSA P-256.
	PrivateKey *ecdsa.PrivateKey
}

// TLS is the SVID as crypto/tls takes it.
func (s *SVID) TLS() tls.Certificate {
	c := tls.Certificate{PrivateKey: s.PrivateKey, Leaf: s.Certificates[0]}
	for _, cert := range s.Certificates {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// Mint makes a new X.509-SVID for name (X509-SVID section 4), signed by the
// domain's authority. Each edit is given the certificate before it is signed,
// and may spoil it in any way: that is how tests make leaves which peers must
// refuse.
func (d *Domain) Mint(name string, edits ...func(*x509.Certificate)) (*SVID, error) {
	id, err := d.ID(name)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	ca := d.ca
	d.mu.Unlock()
	return d.mint(ca, id, edits...)
}

func (d *Domain) mint(ca *authority, id spiffeid.ID, edits ...func(*x509.Certificate)) (*SVID, error) {
	template, err := d.leaf(ca, id)
	if err != nil {
		return nil, err
	}
	for _, edit := range edits {
		edit(template)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := ca.sign(template, key.Public())
	if err != nil {
		return nil, fmt.Errorf("making an SVID for %s: %w", id, err)
	}
	return &SVID{ID: id, Certificates: []*x509.Certificate{cert}, PrivateKey: key}, nil
}

// leaf describes an SVID just as SPIRE makes it, key encipherment included
// although an ECDSA key has no use for it.
func (d *Domain) leaf(ca *authority, id spiffeid.ID) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := d.opt.Now()
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"everyhop dev"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              earlier(now.Add(d.opt.TTL), ca.cert.NotAfter),
		URIs:                  []*url.URL{id.URL()},
		DNSNames:              d.opt.DNSNames,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Sign makes any certificate at all, such as an intermediate authority or a
// leaf with an RSA key, signed by the domain's authority. For tests.
func (d *Domain) Sign(template *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	d.mu.Lock()
	ca := d.ca
	d.mu.Unlock()
	cert, err := ca.sign(template, key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return cert, nil
}

// Message is the Workload API's answer to FetchX509SVID that hands out the
// SVIDs, with the bundles as they are now. What [Domain.Push] sends is often
// this with something spoiled.
func (d *Domain) Message(svids ...*SVID) (*workload.X509SVIDResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.message(svids...)
}

func (d *Domain) message(svids ...*SVID) (*workload.X509SVIDResponse, error) {
	resp := &workload.X509SVIDResponse{FederatedBundles: d.federatedX509()}
	for _, s := range svids {
		key, err := x509.MarshalPKCS8PrivateKey(s.PrivateKey)
		if err != nil {
			return nil, fmt.Errorf("handing out the SVID of %s: %w", s.ID, err)
		}
		resp.Svids = append(resp.Svids, &workload.X509SVID{
			SpiffeId:    s.ID.String(),
			X509Svid:    concatenate(s.Certificates),
			X509SvidKey: key,
			Bundle:      concatenate(d.ca.bundle),
		})
	}
	return resp, nil
}

func concatenate(certs []*x509.Certificate) []byte {
	var der []byte
	for _, c := range certs {
		der = append(der, c.Raw...)
	}
	return der
}

// WriteSVID makes a new SVID for name and writes it to the directory out, made
// if need be: svid.pem, key.pem (0600) and bundle.pem, as curl, openssl and
// `--identity dir:` take them. A bundle.TRUST-DOMAIN.pem is added for each
// domain that ours federates with.
func (d *Domain) WriteSVID(name, out string) error {
	svid, err := d.Mint(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return fmt.Errorf("writing the SVID of %s: %w", svid.ID, err)
	}
	d.mu.Lock()
	bundles := map[string][]*x509.Certificate{"bundle.pem": d.ca.bundle}
	for td, p := range d.partners {
		bundles["bundle."+td.Name()+".pem"] = p.bundle.X509Authorities()
	}
	d.mu.Unlock()
	for file, certs := range bundles {
		if err := writeCertificates(filepath.Join(out, file), certs); err != nil {
			return err
		}
	}
	// The certificate last: who watches it finds its key and bundle there.
	if err := writeKey(filepath.Join(out, "key.pem"), svid.PrivateKey); err != nil {
		return err
	}
	return writeCertificates(filepath.Join(out, "svid.pem"), svid.Certificates)
}
