package dev

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// followEvery is how soon a change of another directory's bundle is seen. It is
// a small local file, and reading it is simpler than watching for it.
const followEvery = 250 * time.Millisecond

// partner is another trust domain that ours trusts.
type partner struct {
	dir    string
	raw    []byte
	bundle *spiffebundle.Bundle
	broken bool // the last reading failed and was announced
}

// Federate trusts the trust domain of another directory: its bundle is sent on
// every socket as a federated one, and again when it changes there. While it
// cannot be read the last good one is kept. The other side does not trust ours
// before it does the same.
func (d *Domain) Federate(otherDir string) error {
	otherDir, err := filepath.Abs(otherDir)
	if err != nil {
		return fmt.Errorf("federating with %s: %w", otherDir, err)
	}
	p, err := readPartner(otherDir)
	if err != nil {
		return fmt.Errorf("federating with %s: %w", otherDir, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	td := p.bundle.TrustDomain()
	if td == d.td {
		return fmt.Errorf("federating with %s: it is trust domain %q too: a federated one has another name", otherDir, td)
	}
	d.partners[td] = p
	d.bundlesChanged()
	if !d.following {
		d.following = true
		d.owned.Go(d.followPartners)
	}
	return nil
}

// Unfederate trusts td no longer. It does nothing if it was not trusted.
func (d *Domain) Unfederate(td spiffeid.TrustDomain) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.partners[td] == nil {
		return
	}
	delete(d.partners, td)
	d.bundlesChanged()
}

func readPartner(dir string) (*partner, error) {
	raw, err := os.ReadFile(filepath.Join(dir, bundleFile)) //nolint:gosec // named by the user
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noDomain(dir)
	}
	if err != nil {
		return nil, err
	}
	bundle, err := parseBundle(raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", bundleFile, err)
	}
	return &partner{dir: dir, raw: raw, bundle: bundle}, nil
}

// parseBundle reads a SPIFFE bundle (SPIFFE Trust Domain and Bundle section 4).
// The format does not say whose it is; our authorities do, in their URI SAN.
func parseBundle(raw []byte) (*spiffebundle.Bundle, error) {
	anyone := spiffeid.RequireTrustDomainFromString(defaultTrustDomain)
	nameless, err := spiffebundle.Parse(anyone, raw)
	if err != nil {
		return nil, err
	}
	td, err := commonTrustDomain(nameless.X509Authorities())
	if err != nil {
		return nil, err
	}
	if td.IsZero() {
		return nil, errors.New("it has no X.509 authority")
	}
	bundle := spiffebundle.FromX509Authorities(td, nameless.X509Authorities())
	bundle.SetJWTAuthorities(nameless.JWTAuthorities())
	return bundle, nil
}

// followPartners is the goroutine that rereads the partners' bundles.
func (d *Domain) followPartners() {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.refreshPartners()
		case <-d.ctx.Done():
			return
		}
	}
}

func (d *Domain) refreshPartners() {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := false
	for td, p := range d.partners {
		fresh, err := readPartner(p.dir)
		if err == nil && fresh.bundle.TrustDomain() != td {
			err = fmt.Errorf("it is trust domain %q now", fresh.bundle.TrustDomain())
		}
		if err != nil {
			if !p.broken {
				d.opt.Logger.Warn("federated bundle cannot be read, the last good one is kept", "trust_domain", td.Name(), "directory", p.dir, "error", err)
			}
			p.broken = true
			continue
		}
		if !bytes.Equal(fresh.raw, p.raw) {
			changed = true
		}
		d.partners[td] = fresh
	}
	if changed {
		d.bundlesChanged()
	}
}
