package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"
)

const (
	idleConns   = 1000
	settleTime  = 10 * time.Second // until memory must stand still
	settleEvery = 500 * time.Millisecond
	settleShare = 0.002 // what still counts as standing still
)

// clientTLS is what the bench shakes hands with: the service web's certificate,
// and the curves given. It does not verify the other side, which costs only the
// bench itself.
func (b *bench) clientTLS(curves ...tls.CurveID) (*tls.Config, error) {
	svid, err := tls.LoadX509KeyPair(filepath.Join(b.world.Web, "svid.pem"), filepath.Join(b.world.Web, "key.pem"))
	if err != nil {
		return nil, err
	}
	c := strangerTLS()
	c.Certificates, c.CurvePreferences = []tls.Certificate{svid}, curves
	return c, nil
}

// strangerTLS has no certificate.
func strangerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: hostName, NextProtos: []string{"http/1.1"},
	}
}

// strangers is an error if the pair's inbound side serves someone who has shown no
// certificate: it would be measured without what the others do.
func (b *bench) strangers(ctx context.Context, r *running) error {
	c, err := dialTLS(r.place.Hop, b.world.Token, strangerTLS())
	if err != nil {
		return ctx.Err()
	}
	defer c.close()
	if c.ask() == nil {
		return fmt.Errorf("%s serves a client without a certificate", r.name)
	}
	return ctx.Err()
}

// handshakes opens connections to the inbound side one after another until the
// time is over, and returns how many. Each asks once: only an answer shows that
// the server has verified our certificate.
func (b *bench) handshakes(ctx context.Context, address string, config *tls.Config) (int, error) {
	n := 0
	for end := time.Now().Add(b.duration); time.Now().Before(end) && ctx.Err() == nil; n++ {
		c, err := dialTLS(address, b.world.Token, config)
		if err != nil {
			return n, err
		}
		err = c.ask()
		c.close()
		if err != nil {
			return n, err
		}
	}
	if err := ctx.Err(); err != nil {
		return n, err
	}
	return n, nil
}

// idle is the memory in KiB of a fresh pair's inbound side: with nothing to do,
// and with so many more for each of idleConns connections that have asked once.
func (b *bench) idle(ctx context.Context, p *pair) (rss, each float64, err error) {
	config, err := b.clientTLS()
	if err != nil {
		return 0, 0, err
	}
	r, err := b.start(ctx, p)
	if err != nil {
		return 0, 0, err
	}
	defer r.stop()
	if rss, err = b.settled(ctx, r.inPIDs); err != nil {
		return 0, 0, err
	}
	clients := make([]*client, idleConns)
	defer closeAll(clients)
	for i := range clients {
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
		if clients[i], err = dialTLS(r.place.Hop, b.world.Token, config); err != nil {
			return 0, 0, err
		}
		if err := clients[i].ask(); err != nil {
			return 0, 0, err
		}
	}
	full, err := b.settled(ctx, r.inPIDs)
	return rss, (full - rss) / idleConns, err
}

// settled is the resident memory once it stands still; if it never does, what it
// is in the end.
func (b *bench) settled(ctx context.Context, pids []int) (float64, error) {
	last := math.Inf(1)
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for end := time.Now().Add(min(settleTime, 2*b.duration)); ; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-ticker.C:
		}
		now, err := residentKiB(pids)
		if err != nil {
			return 0, err
		}
		if still := math.Abs(now-last) <= settleShare*now; still || time.Now().After(end) {
			return now, errors.Join(ctx.Err())
		}
		last = now
	}
}
