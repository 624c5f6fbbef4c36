package hop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"log/slog"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/audit"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/lease"
)

// bytesOf are tunnels with a log that can be read once it is closed.
func bytesOf(t *testing.T) (set *Tunnels, records func() []map[string]any) {
	t.Helper()
	var buf bytes.Buffer
	log, err := audit.Open(audit.Config{Writer: &buf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	set = NewTunnels(Config{Direction: audit.Inbound, Audit: log, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Leases: lease.NewBook(lease.Config{})}, nil)
	return set, func() (all []map[string]any) {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		for line := range bytes.Lines(buf.Bytes()) {
			var r map[string]any
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		return all
	}
}

func ends(t *testing.T) (far, near net.Conn) {
	t.Helper()
	far, near = net.Pipe()
	t.Cleanup(func() { _ = far.Close(); _ = near.Close() })
	return far, near
}

func stop(t *testing.T, set *Tunnels) {
	t.Helper()
	if err := set.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func allowed(time.Time) lease.Standing { return lease.Standing{Reason: policy.Allowed} }

func TestTunnel_APanicIsADenialThatIsRecorded(t *testing.T) {
	set, records := bytesOf(t)
	far, near := ends(t)
	set.Serve(near, func(x *Tunnel) {
		x.Record.Verdict = policy.Allow
		panic("a bug")
	})
	stop(t, set)
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
	if all := records(); len(all) != 1 || all[0]["verdict"] != "deny" || all[0]["reason"] != "evaluator_panic" {
		t.Errorf("%v", all)
	}
}

func TestTunnel_WhatHasNoDecisionIsADenial(t *testing.T) {
	set, records := bytesOf(t)
	_, near := ends(t)
	set.Serve(near, func(*Tunnel) {})
	stop(t, set)
	if all := records(); len(all) != 1 || all[0]["verdict"] != "deny" || all[0]["reason"] != "no_policy" {
		t.Errorf("%v", all)
	}
}

// A change that comes between the decision and the first look is not missed.
func TestTunnel_IsJudgedAgainBeforeAnythingIsDialled(t *testing.T) {
	set, records := bytesOf(t)
	_, near := ends(t)
	set.Serve(near, func(x *Tunnel) {
		x.Decided(policy.Decision{Verdict: policy.Allow, Reason: policy.Allowed})
		x.Keep(func(time.Time) lease.Standing { return lease.Standing{Reason: policy.CallerBanned} })
		if x.Life().Err() == nil {
			t.Error("it would be dialled")
		}
		x.Fail(forward.Unreachable, context.Canceled)
	})
	stop(t, set)
	if all := records(); len(all) != 1 || all[0]["reason"] != "caller_banned" {
		t.Errorf("%v", all)
	}
}

func TestTunnel_IsJudgedAgainWhenItsStandingEndsAndOnRecheck(t *testing.T) {
	set, records := bytesOf(t)
	far, near := ends(t)
	_, upstream := ends(t)
	var asked atomic.Int32
	var banned atomic.Bool
	again := make(chan struct{})
	set.Serve(near, func(x *Tunnel) {
		x.Decided(policy.Decision{Verdict: policy.Allow, Reason: policy.Allowed})
		x.Keep(func(now time.Time) lease.Standing {
			switch {
			case banned.Load():
				return lease.Standing{Reason: policy.CallerBanned}
			case asked.Add(1) == 1:
				return lease.Standing{Reason: policy.Allowed, Until: now.Add(time.Millisecond)}
			}
			close(again)
			return lease.Standing{Reason: policy.Allowed}
		})
		x.Carry(upstream, 0)
	})
	<-again
	if set.Count() != 1 {
		t.Errorf("%d tunnels", set.Count())
	}
	banned.Store(true)
	set.config.Leases.Recheck()
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
	stop(t, set)
	if set.Count() != 0 {
		t.Errorf("%d tunnels are left", set.Count())
	}
	if all := records(); len(all) != 1 || all[0]["verdict"] != "allow" || all[0]["reason"] != "caller_banned" {
		t.Errorf("%v", all)
	}
}

func TestTunnels_StopCutsWhatOutlastsTheDrainAndTakesNoMore(t *testing.T) {
	set, records := bytesOf(t)
	_, near := ends(t)
	_, upstream := ends(t)
	set.Serve(near, func(x *Tunnel) {
		x.Decided(policy.Decision{Verdict: policy.Allow, Reason: policy.Allowed})
		x.Keep(allowed)
		x.Carry(upstream, 0)
	})
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := set.Stop(over); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped with %v", err)
	}
	late, nearLate := ends(t)
	set.Serve(nearLate, func(*Tunnel) { t.Error("it was taken after the stop") })
	if _, err := late.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the late connection is open: %v", err)
	}
	if err := set.Stop(over); err != nil {
		t.Errorf("stopped again with %v", err)
	}
	if all := records(); len(all) != 1 || all[0]["reason"] != "stopped" {
		t.Errorf("%v", all)
	}
}

func TestSplit_GivesOnWhatIsNotTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	split := Split(ln, func(c net.Conn) bool {
		defer c.Close()
		taken++
		return taken < 3
	})
	for range 3 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := split.Accept(); err != nil || taken != 3 {
		t.Errorf("%d connections were asked about, %v", taken, err)
	}
	_ = split.Close()
	if _, err := split.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting after the close: %v", err)
	}
}
