//go:build linux

package spire

import (
	"net/http"
	"testing"
	"time"
)

func TestOutage_OfTheAgentLosesNoRequestAndEndsSoonAfterItsReturn(t *testing.T) {
	begin(t)
	lives, away := ttls{svid: 2 * time.Minute}, 15*time.Second
	if long {
		lives, away = ttls{svid: time.Hour}, 5*time.Minute
	} else {
		t.Log("NOT RUN: an outage of 5 minutes with SVIDs of an hour (EVERYHOP_LONG=1 runs it)")
	}
	d := newDomain(t, "example.org", lives)
	web, orders := d.pair()
	l := d.load(web)
	elapsed(t, 2*time.Second)
	d.agent.kill()
	elapsed(t, away)
	old := web.identity()
	d.startAgent()
	healthy := time.Now()
	web.awaitRenewal(old)
	t.Logf("agent away for %v: web has a newer SVID %s after it is healthy", away, tookOfTwo(healthy))
	web.awaitReady()
	orders.awaitReady()
	elapsed(t, 2*time.Second)
	d.mustPass(l)
}

func TestOutage_OfTheAgentPastTheCallersNotAfterPassesNothing(t *testing.T) {
	begin(t)
	d := newDomain(t, "example.org", ttls{svid: 25 * time.Second})
	caller := webEntry
	caller.ttl = 15 * time.Second
	if late := d.outlive(caller, ordersEntry); late > 0 {
		t.Errorf("%d requests of a caller passed after its SVID expired", late)
	}
}

func TestOutage_OfTheAgentPastTheCalledOnesNotAfterPassesNothing(t *testing.T) {
	begin(t)
	d := newDomain(t, "example.org", ttls{svid: 25 * time.Second})
	called := ordersEntry
	called.ttl = 15 * time.Second
	late := d.outlive(webEntry, called)
	if late > 0 {
		t.Errorf("%d requests passed after the called service's SVID expired", late)
	}
}

// outlive has the agent away until both SVIDs are expired, and back. It counts the
// requests that pass while either is: both sides' word is taken.
func (d *domain) outlive(caller, called entry) (late int) {
	d.t.Helper()
	web, orders := d.pairOf(caller, called)
	l := d.load(web)
	elapsed(d.t, 2*time.Second)
	d.agent.kill()
	old := web.identity()
	end, lastEnd := old.NotAfter, orders.identity().NotAfter
	if end.After(lastEnd) {
		end, lastEnd = lastEnd, end
	}
	elapsed(d.t, time.Until(lastEnd)+3*time.Second)
	for _, s := range []*sidecar{web, orders} {
		if status, says := s.readiness(); status != http.StatusServiceUnavailable {
			d.t.Errorf("%s with an expired SVID: %d %q", s.name, status, says)
		}
	}
	returning := time.Now()
	d.comeBack(l, web, old)
	orders.awaitReady()
	return d.count(l, orders, end, returning)
}

// comeBack starts the agent again, and prints how long everything else takes.
func (d *domain) comeBack(l *load, web *sidecar, old identity) {
	d.t.Helper()
	d.startAgent()
	healthy := time.Now()
	web.awaitRenewal(old)
	renewed := tookOfTwo(healthy)
	await(d.t, "a request to pass again", func() bool { _, ok := l.firstPassed(healthy); return ok })
	first, _ := l.firstPassed(healthy)
	d.t.Logf("web has a newer SVID %s after the agent is healthy, and requests pass from %v on",
		renewed, first.began.Sub(healthy).Round(time.Millisecond))
	web.awaitReady()
}

// count ends the load. Every request before end must have passed; those that
// passed from then until the agent returned are counted.
func (d *domain) count(l *load, orders *sidecar, end, returning time.Time) (late int) {
	d.t.Helper()
	early, recorded := 0, 0
	for _, a := range l.stop() {
		switch {
		case a.began.Before(end.Add(-time.Second)) && a.fault != "": // one that is under way at the end may be cut
			d.t.Errorf("refused %v before any SVID expired: %s", end.Sub(a.began), a.fault)
		case a.began.Before(end) && a.fault == "":
			early++
		case a.began.Before(returning) && a.fault == "":
			late++
		}
	}
	for _, r := range orders.stopAndRead() {
		if r.Verdict == "allow" && r.Time.After(end) && r.Time.Before(returning) {
			recorded++
		}
	}
	if early == 0 {
		d.t.Error("no request passed while the SVIDs were good")
	}
	d.t.Logf("%d requests passed before NotAfter, %d later by the caller's word, %d by the records of the called one", early, late, recorded)
	return max(late, recorded)
}

func TestOutage_OfTheServerLosesNoRequest(t *testing.T) {
	begin(t)
	// Renewed every 15 s: the agent asks in vain at least once. Once the server is
	// back it takes its time: its own back-off has grown to 10 s and more.
	d := newDomain(t, "example.org", ttls{svid: 40 * time.Second})
	web, _ := d.pair()
	l := d.load(web)
	elapsed(t, 2*time.Second)
	d.server.kill()
	elapsed(t, 18*time.Second)
	old := web.identity()
	left := time.Until(old.NotAfter)
	d.startServer()
	healthy := time.Now()
	web.awaitRenewal(old)
	t.Logf("server away for 18 s, %v of web's SVID left: a newer one %v after the server is healthy",
		left.Round(time.Second), took(healthy))
	elapsed(t, 2*time.Second)
	d.mustPass(l)
}

// took is a figure that these tests print. None is asserted: on a machine that is
// busy otherwise it says more of the machine.
func took(since time.Time) time.Duration { return time.Since(since).Round(time.Millisecond) }

// tookOfTwo is took for what a sidecar has two seconds for.
func tookOfTwo(since time.Time) string {
	d := took(since)
	if d > 2*time.Second {
		return d.String() + " (SLOW: 2 s are promised, on an idle machine)"
	}
	return d.String()
}
