package test

import (
	"crypto/x509"
	"testing"
	"time"
)

// X09, X10, U11 to U13, U27, C20, S-46: from the event to the end of everything
// that somebody has open, and of nothing that others have.
func TestLease_WhatIsOpenEndsWithWhatAllowedIt(t *testing.T) {
	const atOnce, drained = time.Second, 5 * time.Second
	for _, c := range []struct {
		event   string
		most    time.Duration
		change  func(h *house)
		edit    func(*x509.Certificate)
		reason  string
		talking map[string]string // what the client is told, where it can be
	}{
		{"ban", atOnce, func(h *house) {
			h.adopt("spiffe://example.org/web, "+shop, "ban: ["+shop+"]\n")
		}, nil, "caller_banned", map[string]string{"gRPC stream": "grpc-status 7", "WebSocket": "close 1008"}},
		{"bundle removal", atOnce, func(h *house) {
			h.domain.Unfederate(h.partner.TrustDomain())
		}, nil, "peer_unverified", map[string]string{"gRPC stream": "grpc-status 16", "WebSocket": "close 1008"}},
		{"peer expiry", atOnce, nil, func(leaf *x509.Certificate) {
			leaf.NotAfter = time.Now().Add(3 * time.Second)
		}, "peer_expired", nil},
		{"policy narrowing", drained, func(h *house) {
			h.adopt("spiffe://example.org/web", "")
		}, nil, "caller_undeclared", map[string]string{"gRPC stream": "grpc-status 7", "WebSocket": "close 1008"}},
	} {
		t.Run(c.event, func(t *testing.T) {
			h := newHouse(t)
			untouched := h.visit(h.domain, "web")
			var edits []func(*x509.Certificate)
			if c.edit != nil {
				edits = append(edits, c.edit)
			}
			touched := h.visit(h.partner, "shop", edits...)
			event := touched.svid.Certificates[0].NotAfter
			if c.change != nil {
				event = time.Now()
				c.change(h)
			}
			for _, kind := range kinds {
				stay := touched.open[kind]
				select {
				case <-stay.ended:
				case <-time.After(patience):
					t.Errorf("%s: the %s never ended", c.event, kind)
					continue
				}
				took := stay.at.Sub(event)
				t.Logf("%s: the %s ended after %v: %s", c.event, kind, took.Round(time.Millisecond), stay.how)
				// A certificate counts whole seconds, and holds to the end of its last;
				// the application may have taken the last breath of the peer with it.
				if took > c.most || took < 0 && c.change != nil {
					t.Errorf("%s: the %s ended after %v", c.event, kind, took)
				}
				if want := c.talking[kind]; want != "" && stay.how != want {
					t.Errorf("%s: the %s ended with %q, want %q", c.event, kind, stay.how, want)
				}
			}
			for _, kind := range kinds {
				if stay := untouched.open[kind]; stay.over() {
					t.Errorf("%s: the %s of somebody else ended: %s", c.event, kind, stay.how)
				}
			}
			untouched.leave()
			ended := map[string]int{}
			for _, s := range []*member{h.orders, h.db} {
				for _, r := range s.stopAndRead() {
					if r.Caller == shop && r.Route != "/hello" {
						ended[r.Reason]++
					} else if r.Caller != shop && r.Reason != "allowed" && r.Reason != "client_gone" {
						t.Errorf("of somebody else: %+v", r)
					}
				}
			}
			if ended[c.reason] != 4 || len(ended) != 1 {
				t.Errorf("%s: the records say %v, want %s of each of the four", c.event, ended, c.reason)
			}
		})
	}
}

// A change that takes nothing away ends nothing: the spread is over when the last
// stay of this test, which is narrowed afterwards, has ended.
func TestLease_AChangeThatTakesNothingAwayEndsNothing(t *testing.T) {
	h := newHouse(t)
	stays := h.visit(h.domain, "web")
	goes := h.visit(h.partner, "shop")
	h.adopt("spiffe://example.org/web, "+shop+", spiffe://example.org/billing", "")
	if err := h.domain.Rotate(); err != nil {
		t.Fatal(err)
	}
	h.adopt("spiffe://example.org/web", "ban: [spiffe://example.org/evil]\n")
	for _, kind := range kinds {
		<-goes.open[kind].ended
	}
	for _, kind := range kinds {
		if stay := stays.open[kind]; stay.over() {
			t.Errorf("the %s ended: %s", kind, stay.how)
		}
	}
}
