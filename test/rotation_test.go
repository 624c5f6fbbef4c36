package test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A whole hop: web's app, web's sidecar, mutual TLS, orders' sidecar, its app.
func TestRotation_UnderLoadNoRequestIsLostAndTheNewSVIDIsPresented(t *testing.T) {
	const rotations = 10
	m := newMesh(t, "web", "orders")
	app, seen := m.app()
	orders := m.join("orders", fmt.Sprintf(`service: spiffe://example.org/orders
app: http://%s
allow:
  - {from: spiffe://example.org/web, to: "GET /orders/{id}"}
`, app))
	socket := filepath.Join(m.dir, "calls.sock")
	web := m.join("web", fmt.Sprintf(`service: spiffe://example.org/web
calls:
  orders:
    as: spiffe://example.org/orders
    at: %s
    local: unix://%s
    allow: ["GET /orders/{id}"]
`, orders.Addr("inbound"), socket))

	first := m.leaf(orders.Addr("inbound").String())
	var stop atomic.Bool
	var asked atomic.Int64
	var load sync.WaitGroup
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 8,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	for range 4 {
		load.Go(func() {
			for !stop.Load() {
				n := asked.Add(1)
				path := fmt.Sprintf("/orders/%d", n)
				want := "GET " + path + " for spiffe://example.org/web"
				if status, body, err := get(client, "http://orders"+path); status != http.StatusOK || body != want {
					t.Errorf("GET %s: %d %q, %v", path, status, body, err)
					return
				}
			}
		})
	}
	for n := range rotations {
		if t.Failed() {
			break
		}
		if err := m.domain.Rotate(); err != nil {
			t.Fatalf("rotation %d: %v", n, err)
		}
		enough := asked.Load() + 100
		for asked.Load() < enough && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	load.Wait()
	client.CloseIdleConnections()

	web.stop()
	if last := m.leaf(orders.Addr("inbound").String()); last.Equal(first) {
		t.Error("orders still presents its first SVID")
	}
	records := orders.stopAndRead()
	if len(records) != int(asked.Load()) || countLines(seen.String()) != int(asked.Load()) {
		t.Errorf("%d requests, %d records, %d at the app", asked.Load(), len(records), countLines(seen.String()))
	}
	t.Logf("%d requests, %d rotations", asked.Load(), rotations)
}

func countLines(text string) (n int) {
	for _, c := range text {
		if c == '\n' {
			n++
		}
	}
	return n
}
