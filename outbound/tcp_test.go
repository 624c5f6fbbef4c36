package outbound_test

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/everyhop/everyhop/policy"
)

// bytesCall is a call of bytes to whoever is at that address.
func (w *town) bytesCall(name, as, at string) policy.Call {
	call := w.call(name, as, at)
	call.Allow, call.TCP = nil, true
	return call
}

// A hop that was not told how to speak bytes to anyone speaks them to no one.
func TestTCP_WithoutAConfigurationOfItsOwnNobodyIsReached(t *testing.T) {
	w := newTown(t)
	w.apply(w.bytesCall("db", "orders", w.orders))
	c, err := net.Dial("tcp", w.server.Addr("db").String())
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(patient))
		_, err = io.ReadAll(c)
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the app saw %v", err)
	}
	if r := w.records.next(t); r.Verdict != "allow" || r.Reason != "upstream_unverified" || r.Call != "db" {
		t.Errorf("%+v", r)
	}
}

// A call that becomes one of bytes keeps its port.
func TestTCP_APortFollowsItsCall(t *testing.T) {
	w := newTown(t)
	call := w.call("orders", "orders", w.orders)
	w.apply(call)
	before := w.server.Addr("orders")
	if got := newWeb(t, false).get(before.String(), "/orders/7"); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	_ = w.records.next(t)
	call.Allow, call.TCP = nil, true
	w.apply(call)
	if after := w.server.Addr("orders"); after.String() != before.String() {
		t.Errorf("the port moved from %s to %s", before, after)
	}
	c, err := net.Dial("tcp", before.String())
	if err == nil {
		_ = c.Close()
	}
	if r := w.records.next(t); r.Call != "orders" || r.Route != "tcp" {
		t.Errorf("%+v", r)
	}
}

// A unix socket knows no reset: the app sees an end.
func TestTCP_AUnixSocketEndsWhereNobodyAnswers(t *testing.T) {
	w := newTown(t)
	call := w.bytesCall("db", "orders", freePort(t))
	call.Local = &policy.Local{Network: "unix", Address: filepath.Join(t.TempDir(), "db.sock")}
	w.apply(call)
	c, err := net.Dial("unix", call.Local.Address)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(patient)))
	if all, err := io.ReadAll(c); len(all) > 0 || err != nil {
		t.Errorf("%q, %v", all, err)
	}
	if r := w.records.next(t); r.Reason != "upstream_unreachable" {
		t.Errorf("%+v", r)
	}
}
