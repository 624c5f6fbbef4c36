package dev

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMint_EditsCanSpoilAnything(t *testing.T) {
	d := open(t, tempDir(t), Options{})
	yesterday := time.Now().Add(-24 * time.Hour)
	svid, err := d.Mint("web", func(c *x509.Certificate) {
		c.NotAfter = yesterday
		c.NotBefore = yesterday.Add(-time.Hour)
	}, func(c *x509.Certificate) {
		c.URIs = append(c.URIs, &url.URL{Scheme: "spiffe", Host: "example.org", Path: "/admin"})
	})
	must(t, err)
	leaf := svid.Certificates[0]
	if len(leaf.URIs) != 2 {
		t.Errorf("URIs %v", leaf.URIs)
	}
	var invalid x509.CertificateInvalidError
	if err := verify(leaf, d.Bundle(), time.Now()); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("got %v, want expired", err)
	}
	must(t, leaf.CheckSignatureFrom(d.Bundle()[0]))
}

func TestMint_SerialsAndKeysAreNew(t *testing.T) {
	d := open(t, tempDir(t), Options{})
	a, err := d.Mint("web")
	must(t, err)
	b, err := d.Mint("web")
	must(t, err)
	if a.PrivateKey.Equal(b.PrivateKey) || a.Certificates[0].SerialNumber.Cmp(b.Certificates[0].SerialNumber) == 0 {
		t.Error("two SVIDs share a key or a serial number")
	}
	if bits := a.Certificates[0].SerialNumber.BitLen(); bits < 64 || bits > 128 {
		t.Errorf("a serial number of %d bits", bits)
	}
}

func TestMint_NeverOutlivesTheAuthority(t *testing.T) {
	d := open(t, tempDir(t), Options{TTL: 2 * caLife, DNSNames: []string{"localhost"}})
	svid, err := d.Mint("web")
	must(t, err)
	leaf := svid.Certificates[0]
	if leaf.NotAfter.After(d.Bundle()[0].NotAfter) {
		t.Errorf("it lives until %v, its authority until %v", leaf.NotAfter, d.Bundle()[0].NotAfter)
	}
	must(t, leaf.VerifyHostname("localhost"))
}

func TestSign_MakesIntermediates(t *testing.T) {
	d := open(t, tempDir(t), Options{})
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	svid, err := d.Mint("web")
	must(t, err)
	template := *d.Bundle()[0]
	template.MaxPathLenZero = true
	between, err := d.Sign(&template, key.Public())
	must(t, err)
	must(t, between.CheckSignatureFrom(d.Bundle()[0]))
	der, err := x509.CreateCertificate(rand.Reader, svid.Certificates[0], between, svid.PrivateKey.Public(), key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	svid.Certificates = []*x509.Certificate{leaf, between}
	if got := svid.TLS(); len(got.Certificate) != 2 || got.Leaf != leaf {
		t.Error("the chain is not in the TLS certificate")
	}
	must(t, leaf.CheckSignatureFrom(between))
}

func TestWriteSVID_IsAPairThatTLSAndOpenSSLTake(t *testing.T) {
	d := open(t, tempDir(t), Options{TrustDomain: "a.test"})
	other := open(t, tempDir(t), Options{TrustDomain: "b.test"})
	must(t, d.Federate(other.Dir()))
	out := filepath.Join(t.TempDir(), "new", "web")
	must(t, d.WriteSVID("web", out))
	path := func(name string) string { return filepath.Join(out, name) }

	pair, err := tls.LoadX509KeyPair(path("svid.pem"), path("key.pem"))
	must(t, err)
	bundle, err := readCertificates(path("bundle.pem"))
	must(t, err)
	must(t, verify(pair.Leaf, bundle, time.Now()))
	if _, err := readCertificates(path("bundle.b.test.pem")); err != nil {
		t.Errorf("the federated bundle: %v", err)
	}
	stat, err := os.Stat(path("key.pem"))
	must(t, err)
	if stat.Mode().Perm() != 0o600 {
		t.Errorf("the key is %v", stat.Mode())
	}
	must(t, d.WriteSVID("web", out)) // in place of the last one

	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("NOT TESTED: no openssl in PATH to ask too")
	}
	for _, args := range [][]string{
		{"verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", path("bundle.pem"), path("svid.pem")},
		{"verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", path("bundle.pem"), path("svid.pem")},
		{"pkey", "-in", path("key.pem"), "-check", "-noout"},
	} {
		if said, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
			t.Errorf("openssl %v: %v\n%s", args, err, said)
		}
	}
	said, err := exec.CommandContext(t.Context(), openssl, "x509", "-in", path("svid.pem"), "-noout", "-text").CombinedOutput()
	must(t, err)
	for _, want := range []string{"URI:spiffe://a.test/web\n", "X509v3 Key Usage: critical", "Digital Signature", "prime256v1", "TLS Web Server Authentication, TLS Web Client Authentication", "Authority Key Identifier"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("openssl does not say %q:\n%s", want, said)
		}
	}
}

func TestWriteSVID_SaysWhatItCannotDo(t *testing.T) {
	d := open(t, tempDir(t), Options{})
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if err := d.WriteSVID("web", file); err == nil || !strings.Contains(err.Error(), "writing the SVID of spiffe://example.org/web") {
		t.Errorf("got %v", err)
	}
	if err := d.WriteSVID("the web", t.TempDir()); err == nil || !strings.Contains(err.Error(), "is no name for a workload") {
		t.Errorf("got %v", err)
	}
}
