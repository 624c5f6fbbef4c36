package dev

import (
	"crypto/x509"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"
)

// retryAfter is how long a rotation that failed waits, and the least time
// between two.
const retryAfter = time.Second

// Rotate makes new SVIDs for the names now, and for all that are served if none
// is named. Every open stream is sent them.
func (d *Domain) Rotate(names ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rotate(names...)
}

func (d *Domain) rotate(names ...string) error {
	if len(names) == 0 {
		names = slices.Collect(maps.Keys(d.endpoints))
	}
	for _, name := range names {
		e, err := d.served(name)
		if err != nil {
			return fmt.Errorf("rotating: %w", err)
		}
		if err := e.renew(); err != nil {
			return fmt.Errorf("rotating: %w", err)
		}
		e.svids.fire()
	}
	return nil
}

// renew gives the endpoint a new SVID, to be renewed at half of its life give
// or take a tenth, so that a hundred workloads do not all renew at once.
func (e *endpoint) renew() error {
	svid, err := e.d.mint(e.d.ca, e.id)
	if err != nil {
		return err
	}
	now := e.d.opt.Now()
	life := svid.Certificates[0].NotAfter.Sub(now)
	tenth := max(life/10, 1)
	e.svid = svid
	e.renewAt = now.Add(life/2 - tenth + rand.N(2*tenth)) //nolint:gosec // when, not what
	return nil
}

// rotateWhenDue is the goroutine that renews SVIDs at half of their life.
func (d *Domain) rotateWhenDue() {
	for {
		timer := time.NewTimer(d.rotateDue())
		select {
		case <-timer.C:
		case <-d.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// rotateDue renews what is due and is the time until something may be again.
func (d *Domain) rotateDue() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.opt.Now()
	wait := d.opt.TTL / 3 // a socket that opens meanwhile is not due before
	for name, e := range d.endpoints {
		if !now.Before(e.renewAt) {
			if err := d.rotate(name); err != nil {
				d.opt.Logger.Error("rotation failed", "id", e.id.String(), "error", err)
				e.renewAt = now.Add(retryAfter)
			} else {
				d.opt.Logger.Info("rotated", "id", e.id.String(), "not_after", e.svid.Certificates[0].NotAfter)
			}
		}
		wait = min(wait, e.renewAt.Sub(now))
	}
	return max(wait, 10*time.Millisecond)
}

// RotateCA puts a new certificate authority in the old one's place, and makes
// new SVIDs of it for all that are served. The old one stays in the bundle, so
// that what it signed is still trusted, until [Domain.RetireCA].
func (d *Domain) RotateCA() error {
	return d.replaceCA(func(old *authority) (*authority, error) {
		ca, err := newAuthority(d.td, d.opt.Now())
		if err != nil {
			return nil, err
		}
		ca.bundle = append(ca.bundle, old.bundle...)
		return ca, nil
	})
}

// RetireCA takes every authority but the present one out of the bundle: what
// they signed is trusted no longer.
func (d *Domain) RetireCA() error {
	return d.replaceCA(func(old *authority) (*authority, error) {
		return &authority{td: old.td, cert: old.cert, key: old.key, bundle: []*x509.Certificate{old.cert}}, nil
	})
}

func (d *Domain) replaceCA(next func(old *authority) (*authority, error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.claim(); err != nil {
		return fmt.Errorf("changing the certificate authority: %w", err)
	}
	unlock, err := lockFiles(d.dir)
	if err != nil {
		return fmt.Errorf("changing the certificate authority: %w", err)
	}
	defer unlock()
	ca, err := next(d.ca)
	if err != nil {
		return err
	}
	// The bundle first: whenever we are killed, it has a certificate of the key.
	if err := writeCertificates(filepath.Join(d.dir, caFile), ca.bundle); err != nil {
		return err
	}
	if err := writeKey(filepath.Join(d.dir, caKeyFile), ca.key); err != nil {
		return err
	}
	renew := ca.key != d.ca.key
	d.ca = ca
	d.bundlesChanged()
	if err := d.publish(); err != nil || !renew {
		return err
	}
	return d.rotate()
}

// bundlesChanged wakes every stream, for all of them carry bundles; d.mu is held.
func (d *Domain) bundlesChanged() {
	for _, e := range d.endpoints {
		e.bundles.fire()
		e.svids.fire()
	}
}
