package dev

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestOpen_AgainKeepsAuthorityAndKeys(t *testing.T) {
	dir := tempDir(t)
	first := open(t, dir, Options{TrustDomain: "td.test"})
	svid, err := first.Mint("web")
	must(t, err)
	token, err := first.Token(TokenRequest{Audience: []string{"a"}, Subject: "s"})
	must(t, err)
	must(t, first.Close())

	again := open(t, dir, Options{}) // takes the name that is there
	if again.TrustDomain() != first.TrustDomain() {
		t.Errorf("it is %q now", again.TrustDomain())
	}
	must(t, verify(svid.Certificates[0], again.Bundle(), time.Now()))
	if _, err := parseToken(t, again, token); err != nil {
		t.Errorf("a token from before: %v", err)
	}
	if again.jwtKey.id != first.jwtKey.id {
		t.Error("the key of JWT-SVIDs is another")
	}
}

func TestOpen_ManyAtOnceMakeOneAuthority(t *testing.T) {
	dir := tempDir(t)
	domains := make([]*Domain, 8)
	var all sync.WaitGroup
	for i := range domains {
		all.Go(func() {
			var err error
			if domains[i], err = Open(dir, Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, d := range domains {
		if d == nil || !d.Bundle()[0].Equal(domains[0].Bundle()[0]) {
			t.Error("two authorities")
		}
		must(t, d.Close())
	}
}

func TestOpen_KeepsKeysFromOthers(t *testing.T) {
	dir := tempDir(t)
	must(t, os.Mkdir(dir, 0o755))
	d := serve(t, Options{}, "web")
	for _, dir := range []string{dir, d.Dir()} {
		open(t, dir, Options{})
		stat, err := os.Stat(dir)
		must(t, err)
		if stat.Mode().Perm() != 0o700 {
			t.Errorf("%s is %v", dir, stat.Mode())
		}
		keys, err := filepath.Glob(dir + "/*.key")
		must(t, err)
		if len(keys) != 3 {
			t.Errorf("keys %v", keys)
		}
		for _, k := range keys {
			stat, err := os.Stat(k)
			must(t, err)
			if stat.Mode().Perm() != 0o600 {
				t.Errorf("%s is %v", k, stat.Mode())
			}
		}
	}
}

func TestOpen_LeavesForeignDirectoriesAlone(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600))
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), `holds "thesis.txt", which is not of a trust domain: name a new directory`) {
		t.Errorf("got %v", err)
	}
	stat, err := os.Stat(dir)
	must(t, err)
	if entries, _ := os.ReadDir(dir); stat.Mode().Perm() != 0o755 || len(entries) != 1 {
		t.Errorf("it was changed: %v, %v", stat.Mode(), entries)
	}
	// One that nobody else can enter needs no change, and may hold anything.
	must(t, os.Chmod(dir, 0o700))
	open(t, dir, Options{})
}

func TestOpen_RefusesBadOptions(t *testing.T) {
	dir := tempDir(t)
	open(t, dir, Options{TrustDomain: "td.test"})
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	unmade := tempDir(t)
	late := func() time.Time { return time.Now().Add(caLife + time.Hour) }
	for _, tc := range []struct {
		dir  string
		o    Options
		want string
	}{
		{dir, Options{TrustDomain: "other.test"}, `it is trust domain "td.test", not "other.test": use another directory`},
		{dir, Options{Now: late}, "its certificate authority expired at"},
		{unmade, Options{TrustDomain: "Td.Test"}, `trust domain "Td.Test": trust domain characters are limited`},
		{tempDir(t), Options{TTL: time.Second}, "cannot live 1s: use 2s or more"},
		{tempDir(t), Options{TTL: -time.Hour}, "cannot live -1h0m0s"},
		{unmade, Options{Existing: true}, "there is no trust domain there: start one with"},
		{t.TempDir(), Options{Existing: true}, "there is no trust domain there: start one with"},
		{file, Options{}, "it is a file, not a directory"},
	} {
		if _, err := Open(tc.dir, tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q in it", err, tc.want)
		}
	}
	if _, err := os.Stat(unmade); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused trust domain left a directory")
	}
}

func TestOpen_SaysWhichFileIsDamaged(t *testing.T) {
	other := open(t, tempDir(t), Options{})
	otherCA, err := os.ReadFile(filepath.Join(other.Dir(), caFile))
	must(t, err)
	strange := open(t, tempDir(t), Options{TrustDomain: "strange.test"})
	strangeCA, err := os.ReadFile(filepath.Join(strange.Dir(), caFile))
	must(t, err)
	otherKey, err := os.ReadFile(filepath.Join(other.Dir(), caKeyFile))
	must(t, err)
	leaf, err := other.Mint("web")
	must(t, err)
	leafPath := filepath.Join(t.TempDir(), "leaf.pem")
	must(t, writeCertificates(leafPath, leaf.Certificates))
	leafPEM, err := os.ReadFile(leafPath)
	must(t, err)

	for _, tc := range []struct {
		why, file string
		content   []byte
		want      string
	}{
		{"garbage", caFile, []byte("garbage"), "ca.pem is damaged: it is not only PEM blocks CERTIFICATE: restore it, or remove"},
		{"empty", caFile, nil, "ca.pem is damaged: it is empty"},
		{"cut short", caFile, otherCA[:len(otherCA)/2], "ca.pem is damaged"},
		{"bad DER", caFile, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "ca.pem is damaged: x509"},
		{"a key", caFile, otherKey, "ca.pem is damaged"},
		{"another's", caFile, otherCA, "ca.pem is damaged: no certificate in it is of the key in"},
		{"two domains", caFile, append(otherCA, strangeCA...), "it holds authorities of both"},
		{"a leaf", caFile, leafPEM, "is not of a SPIFFE authority"},
		{"garbage", caKeyFile, []byte("garbage"), "ca.key is damaged"},
		{"a certificate", caKeyFile, otherCA, "ca.key is damaged"},
		{"bad DER", jwtKeyFile, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "jwt.key is damaged"},
		{"empty", issuerKeyFile, nil, "issuer.key is damaged"},
	} {
		dir := tempDir(t)
		open(t, dir, Options{})
		path := filepath.Join(dir, tc.file)
		must(t, os.WriteFile(path, tc.content, 0o600))
		if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %s: got %v, want %q in it", tc.file, tc.why, err, tc.want)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != string(tc.content) {
			t.Errorf("%s %s: it was overwritten (%v)", tc.file, tc.why, err)
		}
	}
}

func TestOpen_TellsMissingKeyFromUnfinishedStart(t *testing.T) {
	dir := tempDir(t)
	open(t, dir, Options{})
	// What a process leaves that was killed while it began.
	must(t, os.Remove(filepath.Join(dir, caFile)))
	open(t, dir, Options{})
	must(t, os.Remove(filepath.Join(dir, caKeyFile)))
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "ca.key is missing: restore it") {
		t.Errorf("got %v", err)
	}
}

func FuzzParseCertificates(f *testing.F) {
	d, err := Open(filepath.Join(f.TempDir(), "d"), Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer d.Close()
	ca, err := os.ReadFile(filepath.Join(d.Dir(), caFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca)
	f.Add(append(ca, ca...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if certs, err := parseCertificates(content); err == nil && len(certs) == 0 {
			t.Error("took nothing for certificates")
		}
	})
}
