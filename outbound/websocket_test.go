package outbound_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/everyhop/everyhop/policy"
)

// chatTown is a town whose orders speaks WebSocket on /orders/ws, and says back
// what it hears.
func chatTown(t *testing.T) *town {
	t.Helper()
	w := newTown(t)
	w.app = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{OriginPatterns: []string{"shop.test"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, text) != nil {
				return
			}
		}
	})
	w.open(nil)
	calls := w.call("orders", "orders", w.orders)
	calls.Upgrade = &policy.Text{Text: "websocket"}
	w.apply(calls)
	return w
}

// open makes a policy of orders that opens /orders/ws to web, changed by edit.
func (w *town) open(edit func(*policy.Grant)) {
	w.t.Helper()
	old := w.intoPolicy.Load()
	grant := policy.Grant{Name: "chat", From: []policy.Caller{caller(w.t, "spiffe://td.test/web")}, To: []policy.Route{route(w.t, "GET /orders/ws")}, Upgrade: &policy.Text{Text: "websocket"}}
	if edit != nil {
		edit(&grant)
	}
	s, err := policy.Compile(&policy.Spec{
		Service: old.Service, App: old.App, Timeouts: old.Timeouts, Allow: []policy.Grant{grant},
	}, old)
	must(w.t, err)
	w.intoPolicy.Store(s)
}

func (w *town) dial(header ...string) (*websocket.Conn, *http.Response, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	w.t.Cleanup(cancel)
	h := http.Header{}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	c, answer, err := websocket.Dial(ctx, "ws://"+w.at("orders")+"/orders/ws", &websocket.DialOptions{HTTPHeader: h})
	if err == nil {
		w.t.Cleanup(func() { c.CloseNow() })
	}
	return c, answer, err
}

// talk opens a WebSocket and uses it.
func (w *town) talk() *websocket.Conn {
	w.t.Helper()
	c, _, err := w.dial()
	must(w.t, err)
	must(w.t, c.Write(w.t.Context(), websocket.MessageText, []byte("hello")))
	if _, got, err := c.Read(w.t.Context()); err != nil || string(got) != "hello" {
		w.t.Fatalf("%q, %v", got, err)
	}
	return c
}

// wantClosed is the status with which the client was closed, and the reasons that
// both sidecars recorded.
func (w *town) wantClosed(c *websocket.Conn, status websocket.StatusCode, out, in string) {
	w.t.Helper()
	if _, _, err := c.Read(w.t.Context()); websocket.CloseStatus(err) != status {
		w.t.Errorf("closed with %v, want %d", err, status)
	}
	for _, side := range []struct {
		name string
		records
		reason string
	}{{"out", w.records, out}, {"in", w.into, in}} {
		if r := side.next(w.t); r.Reason != side.reason || r.Verdict != "allow" {
			w.t.Errorf("%s: %+v, want %s", side.name, r, side.reason)
		}
	}
}

// U05 the other way round: what both policies open, over either protocol between
// the sidecars.
func TestWebSocket_WholeHop(t *testing.T) {
	for alpn, status := range map[string][2]int{"h2": {101, 200}, "http/1.1": {101, 101}} {
		t.Run(alpn, func(t *testing.T) {
			w := chatTown(t)
			w.alpn = []string{alpn}
			c := w.talk()
			must(t, c.Close(4000, "done"))
			out, in := w.records.next(t), w.into.next(t)
			if out.Status != status[0] || in.Status != status[1] || out.Reason != "allowed" || in.Reason != "allowed" || in.Grant != "chat" || in.Caller != "spiffe://td.test/web" || out.Peer != "spiffe://td.test/orders" {
				t.Errorf("%+v\n%+v", out, in)
			}
			if out.BytesIn == 0 || out.BytesIn != in.BytesIn || out.BytesOut != in.BytesOut || out.Duration <= 0 {
				t.Errorf("%+v\n%+v", out, in)
			}
		})
	}
}

// A grant with upgrade: lets the route be asked without it as well.
func TestWebSocket_OpenRouteAnswersWithoutASwitch(t *testing.T) {
	w := chatTown(t)
	w.app = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, "plain") })
	eachProtocol(t, func(t *testing.T, h2 bool) {
		if got := newWeb(t, h2).get(w.at("orders"), "/orders/ws"); got.status != 200 || got.body != "plain" {
			t.Errorf("%+v", got)
		}
	})
}

// U05, U28: what either policy does not open is refused, and the app hears nothing.
func TestWebSocket_UndeclaredIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		calls   bool // upgrade: on the call
		grant   func(*policy.Grant)
		header  string
		out, in string // reasons; empty: it does not get there
		status  int
	}{
		"U05 no upgrade in the call":  {false, nil, "", "upgrade_undeclared", "", 403},
		"U05 no upgrade in the grant": {true, func(g *policy.Grant) { g.Upgrade = nil }, "", "allowed", "upgrade_undeclared", 403},
		"another caller's":            {true, func(g *policy.Grant) { g.From[0] = caller(t, "spiffe://td.test/other") }, "", "allowed", "caller_undeclared", 403},
		"U28 a page's":                {true, nil, "Origin: https://evil.test", "allowed", "origin_undeclared", 403},
		"U28 a page that the app refuses": {true, func(g *policy.Grant) { g.Headers = []policy.Input{{Name: "origin"}} },
			"Origin: https://evil.test", "allowed", "allowed", 403},
		"U28 a page that the app takes": {true, func(g *policy.Grant) { g.Headers = []policy.Input{{Name: "origin"}} },
			"Origin: https://shop.test", "allowed", "allowed", 101},
	} {
		t.Run(name, func(t *testing.T) {
			for _, alpn := range []string{"h2", "http/1.1"} {
				w := chatTown(t)
				w.alpn = []string{alpn}
				w.open(c.grant)
				if !c.calls {
					w.apply(w.call("orders", "orders", w.orders))
				}
				var header []string
				if c.header != "" {
					header = []string{c.header}
				}
				conn, answer, err := w.dial(header...)
				if answer == nil || answer.StatusCode != c.status || (err == nil) != (c.status == 101) {
					t.Fatalf("%v, %+v", err, answer)
				}
				if err == nil {
					conn.CloseNow()
				}
				if r := w.records.next(t); c.status != 101 && r.Reason != c.out {
					t.Errorf("out: %+v", r)
				}
				if c.in == "" {
					if w.handshakes.Load() != 0 {
						t.Error("the peer was dialled")
					}
				} else if r := w.into.next(t); c.status != 101 && r.Reason != c.in {
					t.Errorf("in: %+v", r)
				}
			}
		})
	}
}

// U12: a policy that does not open it any more closes what is open.
func TestWebSocket_PolicyThatChangesClosesIt(t *testing.T) {
	for _, alpn := range []string{"h2", "http/1.1"} {
		w := chatTown(t)
		w.alpn = []string{alpn}
		c := w.talk()
		w.inbound.Recheck() // nothing has changed
		w.server.Recheck()
		must(t, c.Write(t.Context(), websocket.MessageText, []byte("still")))
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != "still" {
			t.Fatalf("%q, %v", got, err)
		}
		w.open(func(g *policy.Grant) { g.From[0] = caller(t, "spiffe://td.test/other") })
		w.inbound.Recheck()
		w.wantClosed(c, websocket.StatusPolicyViolation, "allowed", "caller_undeclared")

		w.open(nil)
		c = w.talk()
		w.apply(w.call("orders", "orders", w.orders)) // on another port, and without upgrade:
		w.server.Recheck()
		w.wantClosed(c, websocket.StatusPolicyViolation, "route_undeclared", "allowed")
	}
}

// A grant that ends takes along what it has opened.
func TestWebSocket_GrantThatEndsClosesIt(t *testing.T) {
	w := chatTown(t)
	w.open(func(g *policy.Grant) { g.Until = &policy.Until{Time: time.Now().Add(300 * time.Millisecond)} })
	w.wantClosed(w.talk(), websocket.StatusPolicyViolation, "allowed", "grant_ended")
}

// U14: what outlasts the drain is told so before it is cut.
func TestWebSocket_StopSaysGoodbye(t *testing.T) {
	for _, alpn := range []string{"h2", "http/1.1"} {
		w := chatTown(t)
		w.alpn = []string{alpn}
		c := w.talk()
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		defer cancel()
		drain, done := context.WithTimeout(ctx, time.Second)
		defer done()
		stopped := make(chan error, 1)
		go func() { stopped <- w.inbound.Stop(drain) }()
		w.wantClosed(c, websocket.StatusGoingAway, "allowed", "stopped")
		must(t, <-stopped)

		w = chatTown(t)
		w.alpn = []string{alpn}
		c = w.talk()
		drain, done = context.WithTimeout(ctx, time.Second)
		defer done()
		go func() { stopped <- w.server.Stop(drain) }()
		w.wantClosed(c, websocket.StatusGoingAway, "stopped", "allowed")
		must(t, <-stopped)
	}
}
