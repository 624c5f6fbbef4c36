package svid

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func bundlePEM(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return text
}

// readyDir is an open source of files that is orders, with its directory and CA.
func readyDir(t testing.TB) (*Source, string, *authority, *clock) {
	t.Helper()
	ca, dir, c := newAuthority(t), shortDir(t), newClock(midway)
	writePEM(t, dir, ca.issue(t, orders))
	writeFile(t, filepath.Join(dir, bundleFile), bundlePEM(ca.cert))
	s := open(t, "dir:"+dir, c.now)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s, dir, ca, c
}

func TestDirectory_IsAsGoodAsAWorkloadAPI(t *testing.T) {
	t.Parallel()
	s, dir, _, c := readyDir(t)
	other := newAuthority(t)
	writeFile(t, filepath.Join(dir, "bundle.partner.test.pem"), bundlePEM(other.cert))
	writeFile(t, filepath.Join(dir, "bundle.bad.test.pem"), []byte("garbage"))
	status := await(t, s, "federation", func(s Status) bool { return s.TrustDomains["partner.test"] == 1 && len(s.Warnings) > 0 })
	if len(status.TrustDomains) != 2 {
		t.Fatalf("status is %+v", status)
	}
	server := s.ServerConfig(h2h1, false)
	if _, _, serverErr, clientErr := handshake(t, server, dialer(other.issue(t, partner))); serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	if err := os.Remove(filepath.Join(dir, "bundle.partner.test.pem")); err != nil {
		t.Fatal(err)
	}
	await(t, s, "the end of federation", func(s Status) bool { return s.TrustDomains["partner.test"] == 0 })
	_, _, serverErr, _ := handshake(t, server, dialer(other.issue(t, partner)))
	mustFail(t, serverErr, "no trust bundle")
	if _, _, serverErr, clientErr := handshake(t, server, s.ClientConfig(spiffeid.RequireFromString(orders), h2h1, false)); serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	c.set(end.Add(1))
	_, _, serverErr, _ = handshake(t, server, dialer(other.issue(t, partner)))
	mustFail(t, serverErr, "expired at")
}

// Half of a rotation does not fit together; the other half completes it.
func TestDirectory_HalfARotationChangesNothing(t *testing.T) {
	t.Parallel()
	s, dir, ca, _ := readyDir(t)
	before := s.Status()
	next := shortDir(t)
	i := ca.issue(t, orders)
	certFile, nextKey := writePEM(t, next, i)
	rename(t, certFile, filepath.Join(dir, svidFile))
	half := await(t, s, "the failure", func(s Status) bool { return s.Failures > before.Failures })
	if half.Serial != before.Serial || s.Ready() != nil || !strings.Contains(half.LastError, "not the one") {
		t.Fatalf("status is %+v", half)
	}
	rename(t, nextKey, filepath.Join(dir, keyFile))
	await(t, s, "the rotation", serialIs(i.chain[0].SerialNumber.Text(16)))
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// A ConfigMap or a Secret is swapped as a whole, by one symlink.
func TestDirectory_FollowsASymlinkSwap(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), shortDir(t)
	first, second := filepath.Join(dir, "1"), filepath.Join(dir, "2")
	var serials []string
	for _, d := range []string{first, second} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		i := ca.issue(t, orders)
		serials = append(serials, i.chain[0].SerialNumber.Text(16))
		writePEM(t, d, i)
		writeFile(t, filepath.Join(d, bundleFile), bundlePEM(ca.cert))
	}
	mount := filepath.Join(dir, "mount")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	link := func(from, to string) {
		t.Helper()
		if err := os.Symlink(from, to); err != nil {
			t.Fatal(err)
		}
	}
	link(first, filepath.Join(mount, "..data"))
	for _, name := range []string{svidFile, keyFile, bundleFile} {
		link(filepath.Join("..data", name), filepath.Join(mount, name))
	}
	s := open(t, "dir://"+mount, newClock(midway).now)
	await(t, s, "the first", serialIs(serials[0]))
	link(second, filepath.Join(mount, "..data_tmp"))
	rename(t, filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data"))
	await(t, s, "the second", serialIs(serials[1]))
}

func TestDirectory_MissingFilesChangeNothing(t *testing.T) {
	t.Parallel()
	s, dir, _, _ := readyDir(t)
	before := s.Status().Serial
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	after := await(t, s, "the failure", func(s Status) bool { return s.Failures > 0 })
	if after.Serial != before || s.Ready() != nil {
		t.Fatalf("status is %+v", after)
	}
}

func TestDirectory_AnotherIdentityIsNotOurs(t *testing.T) {
	t.Parallel()
	s, dir, ca, _ := readyDir(t)
	updated := s.Updated()
	next := shortDir(t)
	certFile, key := writePEM(t, next, ca.issue(t, web))
	rename(t, key, filepath.Join(dir, keyFile))
	rename(t, certFile, filepath.Join(dir, svidFile))
	<-updated
	mustFail(t, s.Ready(), "got "+web)
}

func TestDirectory_SaysWhichFileIsWrong(t *testing.T) {
	ca := newAuthority(t)
	good := func(t *testing.T, dir string) {
		writePEM(t, dir, ca.issue(t, orders))
		writeFile(t, filepath.Join(dir, bundleFile), bundlePEM(ca.cert))
	}
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { good(t, dir); writeFile(t, filepath.Join(dir, name), []byte(text)) }
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}))
	encrypted := string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}))
	for _, c := range []struct {
		name string
		make func(*testing.T, string)
		want string
	}{
		{"nothing", func(*testing.T, string) {}, "has no svid.pem (it must hold svid.pem, key.pem and bundle.pem)"},
		{"no key", func(t *testing.T, dir string) { good(t, dir); os.Remove(filepath.Join(dir, keyFile)) }, "has no key.pem"},
		{"no bundle", func(t *testing.T, dir string) { good(t, dir); os.Remove(filepath.Join(dir, bundleFile)) }, "has no bundle.pem"},
		{"an empty certificate", write(svidFile, ""), "svid.pem: it holds no certificate"},
		{"a key for a certificate", write(svidFile, key), "svid.pem: it has a PRIVATE KEY block"},
		{"a certificate for a key", write(keyFile, string(bundlePEM(ca.cert))), "key.pem: it has a CERTIFICATE block"},
		{"no PEM", write(keyFile, "garbage"), "key.pem: it holds no private key"},
		{"an encrypted key", write(keyFile, encrypted), "openssl pkcs8"},
		{"a garbage key", write(keyFile, key), "parsing the private key"},
		{"an empty bundle", write(bundleFile, "\n"), "bundle.pem: it holds no certificate"},
		{"a CA as SVID", write(svidFile, string(bundlePEM(ca.cert))), "svid.pem: the certificate has no URI SAN"},
		{"a huge file", write(bundleFile, strings.Repeat(" ", maxPEMBytes+1)), "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := shortDir(t)
			c.make(t, dir)
			s := open(t, "dir:"+dir, newClock(midway).now)
			status := await(t, s, "the failure", func(s Status) bool { return s.Failures > 0 })
			if !strings.Contains(status.LastError, c.want) {
				t.Fatalf("error is %q, want one with %q", status.LastError, c.want)
			}
		})
	}
}

func TestDirectory_ReadsKeysInEachUsualForm(t *testing.T) {
	ca := newAuthority(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := ca.issue(t, orders)
	ec, err := x509.MarshalECPrivateKey(i.key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		block string
		der   []byte
		key   identityOf
	}{
		{"PRIVATE KEY", pkcs8, i},
		{"EC PRIVATE KEY", ec, i},
		{"RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), ca.issueFor(t, rsaKey, orders)},
	} {
		t.Run(c.block, func(t *testing.T) {
			dir := shortDir(t)
			writeFile(t, filepath.Join(dir, svidFile), bundlePEM(c.key.chain...))
			writeFile(t, filepath.Join(dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: c.block, Bytes: c.der}))
			writeFile(t, filepath.Join(dir, bundleFile), bundlePEM(ca.cert))
			s := open(t, "dir:"+dir, newClock(midway).now)
			await(t, s, "the SVID", serialIs(c.key.chain[0].SerialNumber.Text(16)))
		})
	}
}

// Whatever a file holds, what is read of it is blocks that stand in it.
func FuzzPEM(f *testing.F) {
	block := func(kind string) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte{1, 2}}) }
	f.Add(block("CERTIFICATE"))
	f.Add(append(block("CERTIFICATE"), block("CERTIFICATE")...))
	f.Add(append([]byte("subject=\n"), block("CERTIFICATE")...))
	f.Add(block("PRIVATE KEY"))
	f.Add(block("EC PRIVATE KEY"))
	f.Add(block("RSA PRIVATE KEY"))
	f.Add([]byte("-----BEGIN"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if der, err := certificatesDER(text); err == nil && (len(der) == 0 || len(der) > len(text)) {
			t.Fatalf("%d bytes of DER in %d of PEM", len(der), len(text))
		}
		if der, err := keyDER(text); err == nil && !bytes.Contains(text, []byte("PRIVATE KEY")) {
			t.Fatalf("a key %x in %q", der, text)
		}
	})
}
