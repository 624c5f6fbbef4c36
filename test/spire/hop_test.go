//go:build linux

package spire

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHop_TwoUsersGetTheirOwnIdentitiesAndAThirdGetsNone(t *testing.T) {
	begin(t)
	d := newDomain(t, "example.org", ttls{svid: time.Hour})
	web, orders := d.pair()
	for s, want := range map[*sidecar]string{web: d.id("web"), orders: d.id("orders")} {
		if got := s.identity(); got.ID != want {
			t.Errorf("%s is %+v, want %s", s.name, got, want)
		}
	}
	status, body, err := get(web.caller("orders"), "/orders/7")
	if want := "/orders/7 for " + d.id("web"); err != nil || status != http.StatusOK || body != want {
		t.Errorf("the whole hop: %d %q, %v", status, body, err)
	}

	third := entry{name: "third", user: thirdUser} // not registered
	stranger := d.orders(third, d.id("web"))
	const cause = "no identity issued (register the workload"
	await(t, stranger.name+" to log what it waits for", func() bool {
		stranger.mustRun()
		return strings.Contains(stranger.said(), "not ready: waiting for the identity") && strings.Contains(stranger.said(), cause)
	})
	if status, says := stranger.readiness(); status != http.StatusServiceUnavailable || !strings.Contains(says, cause) {
		t.Errorf("a sidecar without an entry: %d %q", status, says)
	}
	d.register(third)
	stranger.awaitReady() // by itself
}

func TestHop_ASidecarOfAnotherServiceSaysSoAndEnds(t *testing.T) {
	begin(t)
	d := newDomain(t, "example.org", ttls{svid: time.Hour})
	d.pair() // so that the agent has both
	impostor := d.orders(entry{name: "payments", user: webUser}, d.id("web"))
	await(t, "the impostor to end", impostor.ended)
	want := "got " + d.id("web") + ", policy says service: " + d.id("payments")
	if code := impostor.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(impostor.said(), want) {
		t.Errorf("exit %d, want 1 and %q:\n%s", code, want, impostor.logTail())
	}
}
