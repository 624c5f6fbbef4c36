//go:build linux

package spire

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEntry_ACallerWithoutItStopsAndGoesOnWithIt(t *testing.T) {
	begin(t)
	d := newDomain(t, "example.org", ttls{svid: time.Hour})
	web, _ := d.pair()
	l := d.load(web)
	await(t, "a request to pass", func() bool { _, ok := l.firstPassed(time.Time{}); return ok })

	d.loseEntry(web, webEntry)
	stopped := time.Now()
	elapsed(t, time.Second)
	registered := time.Now()
	d.register(webEntry)
	web.awaitReady()
	t.Logf("ready %v after the entry is back, most of it SPIRE's", took(registered))
	await(t, "a request to pass again", func() bool { _, ok := l.firstPassed(registered); return ok })
	for _, a := range l.stop() {
		if a.fault == "" && a.began.After(stopped) && a.began.Before(registered) {
			t.Errorf("a request passed %v after web was not ready, with no entry", a.began.Sub(stopped))
		}
	}
}

func TestEntry_ACalledServiceWithoutItStopsAndGoesOnWithIt(t *testing.T) {
	begin(t)
	d := newDomain(t, "example.org", ttls{svid: time.Hour})
	web, orders := d.pair()
	thirdEntry := entry{name: "third", user: thirdUser}
	d.register(thirdEntry)
	third := d.web(thirdEntry, map[string]*sidecar{d.id("orders"): orders})
	third.awaitReady()
	if status, body, err := get(web.caller("orders"), "/orders/7"); err != nil || status != http.StatusOK {
		t.Fatalf("the hop: %d %q, %v", status, body, err)
	}

	d.loseEntry(orders, ordersEntry)
	if status, body, err := get(third.caller("orders"), "/orders/7"); err != nil || status < 500 {
		t.Errorf("a caller without a connection yet: %d %q, %v", status, body, err)
	}
	status, _, err := get(web.caller("orders"), "/orders/7")
	if err == nil && status < 500 {
		t.Errorf("a caller with an open connection, when the called service is nobody: %d", status)
	}

	registered := time.Now()
	d.register(ordersEntry)
	orders.awaitReady()
	t.Logf("ready %v after the entry is back, most of it SPIRE's", took(registered))
	await(t, "the caller without a connection yet to be answered", func() bool {
		status, _, err := get(third.caller("orders"), "/orders/7")
		return err == nil && status == http.StatusForbidden // it proves who it is, and the policy does not name it
	})
}

// loseEntry takes the entry of a sidecar, and holds that it stops using its SVID.
func (d *domain) loseEntry(s *sidecar, e entry) {
	d.t.Helper()
	deleted := time.Now()
	d.unregister(e.name)
	says := s.awaitUnready()
	d.t.Logf("not ready %s after the entry is deleted", tookOfTwo(deleted))
	if !strings.Contains(says, "no identity issued") {
		d.t.Errorf("%s without its entry: %q", s.name, says)
	}
	if got := s.identity(); got.Serial != "" {
		d.t.Errorf("%s without its entry still holds %+v", s.name, got)
	}
}
