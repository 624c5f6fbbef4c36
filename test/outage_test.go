package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/everyhop/everyhop/identity/dev"
)

// long is set where the figures are wanted that take minutes.
var long = os.Getenv("EVERYHOP_LONG") != ""

// hop is web's app, web's sidecar, orders' sidecar and its app, under load.
type hop struct {
	*mesh
	web, orders *member
	client      *http.Client
	end         context.CancelFunc
	running     sync.WaitGroup

	mu    sync.Mutex
	asked []asking
}

// asking is one request: when it began and ended, and what came of it.
type asking struct {
	began, ended time.Time
	status       int
	err          error
}

func (a asking) fine() bool { return a.status == http.StatusOK && a.err == nil }

func newHop(t *testing.T, options dev.Options) *hop {
	t.Helper()
	h := &hop{mesh: newMeshOf(t, options, "web", "orders")}
	app, _ := h.app()
	h.orders = h.join("orders", fmt.Sprintf(`service: spiffe://example.org/orders
app: http://%s
allow:
  - {from: spiffe://example.org/web, to: "GET /orders/{id}"}
`, app))
	socket := filepath.Join(h.dir, "calls.sock")
	h.web = h.join("web", fmt.Sprintf(`service: spiffe://example.org/web
calls:
  orders: {as: spiffe://example.org/orders, at: "%s", local: "unix://%s", allow: ["GET /orders/{id}"]}
`, h.orders.Addr("inbound"), socket))
	h.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		MaxIdleConnsPerHost: 8,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	return h
}

// load asks on, from four places, until unload.
func (h *hop) load() {
	ctx, end := context.WithCancel(context.Background())
	h.end = end
	for range 4 {
		h.running.Go(func() {
			for ctx.Err() == nil {
				a := asking{began: time.Now()}
				a.status, _, a.err = get(h.client, "http://orders/orders/7")
				a.ended = time.Now()
				h.mu.Lock()
				h.asked = append(h.asked, a)
				h.mu.Unlock()
				if !a.fine() {
					time.Sleep(5 * time.Millisecond) // refusals are quick
				}
			}
		})
	}
	h.t.Cleanup(h.unload)
}

func (h *hop) unload() {
	h.end()
	h.running.Wait()
	h.client.CloseIdleConnections()
}

func (h *hop) all() []asking {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]asking(nil), h.asked...)
}

// expires is when the sidecar's SVID does.
func (h *hop) expires(s *member) time.Time {
	h.t.Helper()
	answer, err := http.Get("http://" + s.Addr("admin").String() + "/identity")
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	var view struct {
		NotAfter time.Time `json:"not_after"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&view); err != nil || view.NotAfter.IsZero() {
		h.t.Fatalf("%+v, %v", view, err)
	}
	return view.NotAfter
}

// X35, RT01.
func TestRotation_EverySecondLosesNoRequest(t *testing.T) {
	rotations := 15
	if long {
		rotations = 60
	} else {
		t.Log("NOT RUN: 60 rotations (EVERYHOP_LONG=1 runs them)")
	}
	h := newHop(t, dev.Options{})
	h.load()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	slowest := time.Duration(0)
	for range rotations {
		before := h.leaf(h.orders.Addr("inbound").String())
		began := time.Now()
		if err := h.domain.Rotate(); err != nil {
			t.Fatal(err)
		}
		for h.leaf(h.orders.Addr("inbound").String()).Equal(before) && time.Since(began) < patience {
		}
		slowest = max(slowest, time.Since(began))
		<-tick.C
	}
	h.unload()
	failed := 0
	for _, a := range h.all() {
		if !a.fine() {
			failed++
			t.Logf("%d, %v", a.status, a.err)
		}
	}
	t.Logf("%d requests across %d rotations a second apart, %d failed; a new SVID was shown within %v", len(h.all()), rotations, failed, slowest.Round(time.Millisecond))
	if failed > 0 || len(h.all()) < rotations*100 || slowest > time.Second {
		t.Error("requests were lost, or there were hardly any, or a new SVID was late")
	}
}

// X39, RT03, RT04, S-34: the agent is away until both SVIDs have expired, and comes
// back.
func TestOutage_FailsClosedAtTheEndOfTheSVIDAndRecoversSoon(t *testing.T) {
	ttl := 8 * time.Second
	if long {
		ttl = time.Minute
	}
	h := newHop(t, dev.Options{TTL: ttl})
	if err := h.domain.Stop("web", "orders"); err != nil {
		t.Fatal(err)
	}
	first, last := h.expires(h.web), h.expires(h.orders)
	if last.Before(first) {
		first, last = last, first
	}
	h.load()
	time.Sleep(time.Until(last.Add(2 * time.Second))) // what is waited for is the end of certificates
	if err := h.domain.Serve("web", "orders"); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	var recovered time.Duration
	eventually(t, "the first request after the outage", func() bool {
		for _, a := range h.all() {
			if a.began.After(last) && a.fine() {
				recovered = a.ended.Sub(back)
				return true
			}
		}
		return false
	})
	h.unload()
	good, lost, late, refused := 0, 0, 0, 0
	for _, a := range h.all() {
		switch {
		case a.ended.Before(first) && a.fine():
			good++
		case a.ended.Before(first):
			lost++
			t.Logf("%v before the end: %d, %v", first.Sub(a.ended), a.status, a.err)
		case a.began.After(first) && a.ended.Before(back) && a.fine():
			late++
		case a.began.After(first) && !a.fine():
			refused++
		}
	}
	t.Logf("outage with an SVID of %v: %d requests passed while it lasted, %d failed; %d passed after its end, %d were refused; the first passed %v after the return", ttl, good, lost, late, refused, recovered.Round(time.Millisecond))
	if lost > 0 || late > 0 || good < 100 || refused == 0 || recovered > 2*time.Second {
		t.Error("the outage was felt too early, too late, or too long")
	}
}
