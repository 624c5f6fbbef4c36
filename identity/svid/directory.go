package svid

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
)

// directory is an identity in PEM files: svid.pem (leaf first), key.pem,
// bundle.pem for our own trust domain, and bundle.TD.pem for each other one.
type directory struct {
	path string
}

const (
	svidFile     = "svid.pem"
	keyFile      = "key.pem"
	bundleFile   = "bundle.pem"
	bundlePrefix = "bundle."
	bundleSuffix = ".pem"
	maxPEMBytes  = 1 << 20
)

// pollEvery is how often the files are read. Reading their bytes, instead of
// asking to be told of changes, sees a ConfigMap's swap, a rename and a network
// file system alike.
const pollEvery = time.Second

// follow reads the files until ctx ends. Files of which some are new and some
// old do not belong together: they are refused, and read again.
func (d *directory) follow(ctx context.Context, s *Source) {
	var seen [sha256.Size]byte
	for {
		files, err := d.read()
		switch sum := digest(files); {
		case err != nil:
			seen = [sha256.Size]byte{}
			s.fail(err)
		case sum != seen:
			seen = sum
			d.offer(s, files)
		}
		if !pause(ctx, pollEvery) {
			return
		}
	}
}

// offer turns the files into the message that a Workload API would have sent.
func (d *directory) offer(s *Source, files []namedFile) {
	message, err := d.message(files)
	if err != nil {
		s.fail(err)
		return
	}
	s.offer(message)
}

type namedFile struct {
	name  string
	bytes []byte
}

// read reads all files of the directory that matter, in the order of their names.
func (d *directory) read() ([]namedFile, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("reading the identity directory: %w (it must hold %s, %s and %s)", err, svidFile, keyFile, bundleFile)
	}
	var files []namedFile
	for _, entry := range entries {
		if name := entry.Name(); name == svidFile || name == keyFile || isBundle(name) {
			text, err := readFile(filepath.Join(d.path, name))
			if err != nil {
				return nil, err
			}
			files = append(files, namedFile{name, text})
		}
	}
	for _, name := range []string{svidFile, keyFile, bundleFile} {
		if !slices.ContainsFunc(files, func(f namedFile) bool { return f.name == name }) {
			return nil, fmt.Errorf("the identity directory %s has no %s (it must hold %s, %s and %s)",
				d.path, name, svidFile, keyFile, bundleFile)
		}
	}
	return files, nil
}

func isBundle(name string) bool {
	return name == bundleFile || strings.HasPrefix(name, bundlePrefix) && strings.HasSuffix(name, bundleSuffix)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the identity: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPEMBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the identity: %w", err)
	}
	if len(text) > maxPEMBytes {
		return nil, fmt.Errorf("reading the identity: %s is larger than %d bytes", path, maxPEMBytes)
	}
	return text, nil
}

func digest(files []namedFile) [sha256.Size]byte {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d\n", f.name, len(f.bytes))
		h.Write(f.bytes)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// message is the files as a Workload API message. A bundle of another trust
// domain that is no PEM becomes an empty one, which costs that domain only.
func (d *directory) message(files []namedFile) (*workload.X509SVIDResponse, error) {
	ours := &workload.X509SVID{}
	federated := make(map[string][]byte)
	for _, f := range files {
		var err error
		switch f.name {
		case svidFile:
			ours.X509Svid, err = certificatesDER(f.bytes)
		case keyFile:
			ours.X509SvidKey, err = keyDER(f.bytes)
		case bundleFile:
			ours.Bundle, err = certificatesDER(f.bytes)
		default:
			td := strings.TrimSuffix(strings.TrimPrefix(f.name, bundlePrefix), bundleSuffix)
			federated[td], _ = certificatesDER(f.bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", filepath.Join(d.path, f.name), err)
		}
	}
	leaf, err := firstCertificate(ours.X509Svid)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(d.path, svidFile), err)
	}
	id, err := idOf(leaf)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(d.path, svidFile), err)
	}
	ours.SpiffeId = id.String()
	return &workload.X509SVIDResponse{Svids: []*workload.X509SVID{ours}, FederatedBundles: federated}, nil
}

func firstCertificate(der []byte) (*x509.Certificate, error) {
	certs, err := x509.ParseCertificates(der)
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return certs[0], nil
}

// certificatesDER is every CERTIFICATE block of a PEM file, one after the other.
func certificatesDER(text []byte) ([]byte, error) {
	var der []byte
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it has a %s block, where only certificates belong", block.Type)
		}
		der, text = append(der, block.Bytes...), rest
	}
	if len(der) == 0 {
		return nil, errors.New("it holds no certificate in PEM form")
	}
	return der, nil
}

// keyDER is the one private key of a PEM file as PKCS #8.
func keyDER(text []byte) ([]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it holds no private key in PEM form")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		return block.Bytes, nil
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("it has a %s block (convert it: openssl pkcs8 -topk8 -nocrypt)", block.Type)
	}
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}
