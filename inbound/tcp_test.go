package inbound_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/everyhop/everyhop/inbound"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

// bytesHouse is a house whose app speaks bytes: it says back what it hears.
func bytesHouse(t *testing.T, edit func(*inbound.Config)) (h *house, dialled *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	dialled = &atomic.Int32{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { <-done }) // after the house, whose connections it ends
	t.Cleanup(func() { _ = ln.Close() })
	h = newHouse(t, edit)
	caller, err := match.ParseCaller("spiffe://td.test/" + web)
	must(t, err)
	snapshot, err := policy.Compile(&policy.Spec{
		Service:  id(t, service),
		App:      &policy.App{Kind: policy.AppTCP, Network: "tcp", Address: ln.Addr().String()},
		Timeouts: policy.DefaultTimeouts(),
		Allow:    []policy.Grant{{Name: "bytes", From: []policy.Caller{{Pattern: caller}}, To: []policy.Route{{TCP: true}}}},
	}, nil)
	must(t, err)
	h.policy.Store(snapshot)
	return h, dialled
}

// bytesAs is a connection of the workload of that name.
func (h *house) bytesAs(name string) *tls.Conn {
	h.t.Helper()
	svid, err := h.domain.Mint(name)
	must(h.t, err)
	c, err := tls.Dial("tcp", h.address, &tls.Config{Certificates: []tls.Certificate{svid.TLS()}, InsecureSkipVerify: true})
	must(h.t, err)
	h.t.Cleanup(func() { _ = c.Close() })
	must(h.t, c.SetDeadline(time.Now().Add(patient)))
	return c
}

func wantEcho(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.WriteString(c, "hello")
	must(t, err)
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v, want a reset", n, err)
	}
}

func TestTCP_WhatCannotBeRecordedIsRefusedBeforeTheAppIsDialled(t *testing.T) {
	h, dialled := bytesHouse(t, nil)
	h.sink.broken.Store(true)
	wantReset(t, h.bytesAs(admin))    // its record cannot be written, and breaks the log
	for refused := false; !refused; { // until the log has noticed
		c := h.bytesAs(web)
		_, _ = io.WriteString(c, "x")
		_, err := c.Read(make([]byte, 1))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		refused = errors.Is(err, syscall.ECONNRESET)
		_ = c.Close()
	}
	before := dialled.Load()
	wantReset(t, h.bytesAs(web))
	if dialled.Load() != before {
		t.Error("the app was dialled")
	}
}

// X09, U13: the certificate of an open connection has an end.
func TestTCP_APeerWhoseCertificateEndsIsCut(t *testing.T) {
	h, _ := bytesHouse(t, nil)
	c := h.bytesAs(web)
	wantEcho(t, c)
	h.server.Recheck()
	wantEcho(t, c)
	if h.server.Tunnels() != 1 {
		t.Errorf("%d tunnels", h.server.Tunnels())
	}
	h.clock.Store(int64(48 * time.Hour))
	h.server.Recheck()
	wantReset(t, c)
	if r := h.record(); r.Verdict != "allow" || r.Reason != "peer_expired" || r.Route != "tcp" || r.BytesIn != 10 || r.BytesOut != 10 {
		t.Errorf("%+v", r)
	}
}

func TestTCP_APeerThatIsNotTrustedAnyMoreIsCut(t *testing.T) {
	var gone atomic.Bool
	h, _ := bytesHouse(t, func(c *inbound.Config) {
		c.Recheck = func(tls.ConnectionState) error {
			if gone.Load() {
				return errors.New("its bundle is gone")
			}
			return nil
		}
	})
	c := h.bytesAs(web)
	wantEcho(t, c)
	gone.Store(true)
	h.server.Recheck()
	wantReset(t, c)
	if r := h.record(); r.Reason != "peer_unverified" {
		t.Errorf("%+v", r)
	}
}

func TestTCP_ACallerThatNoGrantNamesIsRefused(t *testing.T) {
	h, dialled := bytesHouse(t, nil)
	wantReset(t, h.bytesAs(admin))
	if r := h.record(); r.Verdict != "deny" || r.Reason != "caller_undeclared" || r.Caller != "spiffe://td.test/"+admin {
		t.Errorf("%+v", r)
	}
	if dialled.Load() != 0 {
		t.Error("the app was dialled")
	}
}
