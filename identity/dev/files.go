package dev

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The files of a directory. Keys are 0600, and the directory is 0700.
const (
	caFile        = "ca.pem" // every authority; the bundle
	caKeyFile     = "ca.key" // of the one that signs
	jwtKeyFile    = "jwt.key"
	issuerKeyFile = "issuer.key"
	bundleFile    = "bundle.json" // SPIFFE bundle, for those who federate
	keySetFile    = "jwks.json"   // of the user-token issuer
	lockFile      = "lock"        // held while the files above are written
	servingFile   = "serving"     // held while sockets are served
	socketSuffix  = ".sock"
)

// prepareDir makes sure of a directory that is ours and that only we can enter.
func prepareDir(dir string, existing bool) error {
	stat, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) && !existing {
		return os.MkdirAll(dir, 0o700)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return noDomain(dir)
	}
	if err != nil {
		return err
	}
	if !stat.IsDir() {
		return errors.New("it is a file, not a directory: name a directory that does not exist yet")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if existing && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == caFile }) {
		return noDomain(dir)
	}
	if stat.Mode().Perm()&0o077 == 0 {
		return nil
	}
	// Others must be shut out, but not of a directory that only looks like
	// ours: someone may have said --dir /tmp.
	for _, e := range entries {
		if !isOurs(e.Name()) {
			return fmt.Errorf("it is open to other users (mode %#o) and holds %q, which is not of a trust domain: name a new directory", stat.Mode().Perm(), e.Name())
		}
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // a directory needs x
}

func noDomain(dir string) error {
	return fmt.Errorf("there is no trust domain there: start one with `everyhop dev identity --dir %s NAME`", dir)
}

func isOurs(name string) bool {
	switch name {
	case caFile, caKeyFile, jwtKeyFile, issuerKeyFile, bundleFile, keySetFile, lockFile, servingFile:
		return true
	}
	return strings.HasSuffix(name, socketSuffix) || strings.HasPrefix(name, tempPrefix)
}

// lockFiles waits until no other process reads or writes the files. The lock is
// the kernel's and ends with the process, so a kill -9 leaves none behind.
func lockFiles(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own directory
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// lockServing takes the lock of the one process that serves dir, or says which
// process has it. Closing the file gives it back.
func lockServing(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, servingFile), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own directory
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(f.Name()) // for the reader only; empty is fine
		return nil, errors.Join(fmt.Errorf("process %s serves %s already: stop it, or use another directory", bytes.TrimSpace(pid), dir), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

const tempPrefix = ".tmp-"

// replaceFile writes the file as a whole or not at all, and not if it is so
// already.
func replaceFile(path string, content []byte, mode os.FileMode) (err error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) { //nolint:gosec // our own directory
		return os.Chmod(path, mode)
	}
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", path, err)
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// openKey reads a P-256 key, and makes it if there is none.
func openKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, err = newKey()
	if err != nil {
		return nil, err
	}
	return key, writeKey(path, key)
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	content, err := os.ReadFile(path) //nolint:gosec // our own directory
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(content)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, damaged(path, errors.New("it is not one PEM block PRIVATE KEY"))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, damaged(path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, damaged(path, errors.New("it holds no ECDSA P-256 key"))
	}
	return key, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return replaceFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path) //nolint:gosec // our own directory
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(rest)
	if err != nil {
		return nil, damaged(path, err)
	}
	return certs, nil
}

func parseCertificates(rest []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(bytes.TrimSpace(rest)) != 0 {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("it is not only PEM blocks CERTIFICATE")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("it is empty")
	}
	return certs, nil
}

func writeCertificates(path string, certs []*x509.Certificate) error {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return replaceFile(path, out, 0o644)
}

// damaged is the error of a file that we wrote and can no longer read.
func damaged(path string, err error) error {
	return fmt.Errorf("%s is damaged: %w: restore it, or remove %s to start a new trust domain", path, err, filepath.Dir(path))
}
