package spire

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEntry_WithoutItTheSidecarStopsAndWithItGoesOn(t *testing.T) {
	begin(t)
	d := newDomain(t, "example.org", ttls{svid: time.Hour})
	web, orders := d.pair()
	app := web.caller("orders")
	passes := func() bool {
		status, _, err := get(app, "/orders/7")
		return err == nil && status == http.StatusOK
	}
	for _, c := range []struct {
		name string
		user uint32
		*sidecar
	}{{"web", webUser, web}, {"orders", ordUser, orders}} {
		if !passes() {
			t.Fatalf("%s: the hop fails while there are both entries", c.name)
		}
		deleted := time.Now()
		d.unregister(c.name)
		says := c.awaitUnready()
		t.Logf("%s: not ready %s after its entry is deleted", c.name, since(deleted))
		if !strings.Contains(says, "no identity issued") {
			t.Errorf("%s without its entry: %q", c.name, says)
		}
		// The hop has connections from before: they must not help.
		for range 20 {
			if passes() {
				t.Errorf("a request passes although %s has no entry", c.name)
				break
			}
		}
		if got := c.identity(); got.Serial != "" {
			t.Errorf("%s without its entry still holds %+v", c.name, got)
		}
		d.register(c.name, c.user)
		registered := time.Now()
		c.awaitReady()
		t.Logf("%s: ready %s after its entry is back, most of it SPIRE's", c.name, since(registered))
		await(t, "a request to pass again", passes)
	}
}
