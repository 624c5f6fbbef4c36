// Package dev is a development trust domain in one directory: a certificate
// authority, a SPIFFE Workload API on unix sockets, and an issuer of user
// tokens. It serves `everyhop dev`, `everyhop demo` and the tests.
//
// It gives an identity to whoever can open a socket in its directory, and
// attests nobody: what protects the identities is the directory's mode, 0700.
// That is right for one developer's machine and wrong for everything else, so
// a sidecar in production cannot reach this package.
//
// All that a client can see is the real protocol, so that what works here works
// with SPIRE: SPIFFE Workload API and Endpoint, X509-SVID, JWT-SVID, and the
// SPIFFE bundle format between two directories that federate.
package dev

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	defaultTrustDomain = "example.org"
	defaultTTL         = time.Hour
	// minTTL leaves a second to rotate in: certificates count whole seconds.
	minTTL = 2 * time.Second
)

// Options says how a trust domain behaves. The zero value is a good one.
type Options struct {
	// TrustDomain is its name. Empty means the one that the directory already
	// holds, and example.org for a new directory.
	TrustDomain string
	// TTL is the life of an X.509-SVID, from 2s; 0 means 1h. Those served on a
	// socket are replaced at half of it.
	TTL time.Duration
	// DNSNames are put beside the SPIFFE ID in every certificate, for clients
	// such as curl that know only host names. None by default, as in SPIRE.
	DNSNames []string
	// Existing refuses to make a new trust domain: a directory without one is
	// then an error that says so.
	Existing bool
	// Now is the clock that certificates and tokens are dated by; time.Now if
	// nil.
	Now func() time.Time
	// Logger is told of sockets, rotations and clients; nobody if nil.
	Logger *slog.Logger
}

// Domain is an open trust domain. It is safe for use by many goroutines, and
// must be closed.
type Domain struct {
	dir    string
	td     spiffeid.TrustDomain
	opt    Options
	jwtKey *signingKey // signs JWT-SVIDs
	issuer *signingKey // signs user tokens

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	owned  sync.WaitGroup

	mu        sync.Mutex // guards all below
	closed    bool
	serving   *os.File // the lock that says so; nil if we do not serve
	ca        *authority
	endpoints map[string]*endpoint // by name
	partners  map[spiffeid.TrustDomain]*partner
	following bool // the partners' bundles
}

// Open makes a trust domain in dir, or opens the one that is there.
//
// Many processes may have a directory open, and mint from it; only one may
// serve it. Errors: another trust domain than the one asked for, a directory
// with something else in it, a file that is damaged.
func Open(dir string, o Options) (*Domain, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening trust domain in %q: %w", dir, err)
	}
	d := &Domain{
		dir:       dir,
		opt:       o,
		endpoints: map[string]*endpoint{},
		partners:  map[spiffeid.TrustDomain]*partner{},
	}
	if err := d.load(); err != nil {
		return nil, fmt.Errorf("opening trust domain in %s: %w", dir, err)
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

func (o *Options) complete() error {
	if o.TTL == 0 {
		o.TTL = defaultTTL
	}
	if o.TTL < minTTL {
		return fmt.Errorf("a certificate cannot live %v: use %v or more", o.TTL, minTTL)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.DNSNames = slices.Clone(o.DNSNames)
	return nil
}

// load reads the directory, and makes what is not there yet.
func (d *Domain) load() error {
	want, err := parseTrustDomain(d.opt.TrustDomain)
	if err != nil {
		return err
	}
	if err := prepareDir(d.dir, d.opt.Existing); err != nil {
		return err
	}
	unlock, err := lockFiles(d.dir)
	if err != nil {
		return err
	}
	defer unlock()

	if d.ca, err = openAuthority(d.dir, want, d.opt); err != nil {
		return err
	}
	d.td = d.ca.td
	if d.jwtKey, err = openSigningKey(filepath.Join(d.dir, jwtKeyFile)); err != nil {
		return err
	}
	if d.issuer, err = openSigningKey(filepath.Join(d.dir, issuerKeyFile)); err != nil {
		return err
	}
	return d.publish()
}

func parseTrustDomain(name string) (spiffeid.TrustDomain, error) {
	if name == "" {
		return spiffeid.TrustDomain{}, nil
	}
	td, err := spiffeid.TrustDomainFromString(name)
	if err != nil {
		return td, fmt.Errorf("trust domain %q: %w: use a name such as %s", name, err, defaultTrustDomain)
	}
	return td, nil
}

// publish writes what others may read: the bundle for those who federate with
// us, and the key set for those who verify our users' tokens.
func (d *Domain) publish() error {
	bundle, err := d.bundle().Marshal()
	if err != nil {
		return fmt.Errorf("writing %s: %w", bundleFile, err)
	}
	if err := replaceFile(filepath.Join(d.dir, bundleFile), bundle, 0o644); err != nil {
		return err
	}
	keys, err := d.issuer.keySet()
	if err != nil {
		return fmt.Errorf("writing %s: %w", keySetFile, err)
	}
	return replaceFile(filepath.Join(d.dir, keySetFile), keys, 0o644)
}

// bundle is what others need to verify our SVIDs of both kinds.
func (d *Domain) bundle() *spiffebundle.Bundle {
	b := spiffebundle.New(d.td)
	b.SetX509Authorities(d.ca.bundle)
	// Our key has an id and is no nil, which is all that this can refuse.
	_ = b.AddJWTAuthority(d.jwtKey.id, d.jwtKey.key.Public())
	return b
}

// Dir is the directory, as an absolute path.
func (d *Domain) Dir() string { return d.dir }

// TrustDomain is its name.
func (d *Domain) TrustDomain() spiffeid.TrustDomain { return d.td }

// ID is spiffe://TRUST-DOMAIN/name. A name is one or more parts of letters,
// digits, ".", "-" and "_", with "/" between them (SPIFFE-ID section 2.2).
func (d *Domain) ID(name string) (spiffeid.ID, error) {
	id, err := spiffeid.FromPath(d.td, "/"+name)
	if err != nil || name == "" {
		return spiffeid.ID{}, fmt.Errorf(`%q is no name for a workload: use letters, digits, ".", "-" and "_", with "/" between parts, such as web or shop/web`, name)
	}
	return id, nil
}

// Bundle is the certificate authorities that verify this domain's X.509-SVIDs:
// the one that signs now, and those before it that have not been retired.
func (d *Domain) Bundle() []*x509.Certificate {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.ca.bundle)
}

// Close stops serving, removes the sockets and waits for all that it started.
// What is in the directory stays. Calling it again does nothing.
func (d *Domain) Close() error {
	d.mu.Lock()
	d.closed = true
	endpoints := slices.Collect(maps.Values(d.endpoints))
	clear(d.endpoints)
	serving := d.serving
	d.serving = nil
	d.mu.Unlock()

	d.cancel()
	for _, e := range endpoints {
		e.server.Stop()
	}
	d.owned.Wait()
	// Last, so that nobody serves here while we still do.
	if serving != nil {
		return serving.Close()
	}
	return nil
}

var errClosed = errors.New("the trust domain is closed")
