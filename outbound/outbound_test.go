package outbound_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/identity/dev"
	"github.com/everyhop/everyhop/identity/svid"
	"github.com/everyhop/everyhop/outbound"
	"github.com/everyhop/everyhop/policy"
)

type tlsState = tls.ConnectionState

func (w *town) clientTLS(source *svid.Source) func(spiffeid.ID) *tls.Config {
	return func(expected spiffeid.ID) *tls.Config {
		if len(w.alpn) > 0 {
			return source.ClientConfig(expected, w.alpn, false)
		}
		return source.ClientConfig(expected, []string{"h2", "http/1.1"}, false)
	}
}

func eachProtocol(t *testing.T, test func(t *testing.T, h2 bool)) {
	for name, h2 := range map[string]bool{"http/1.1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) { test(t, h2) })
	}
}

// A whole hop: app, way out, mutual TLS, way in, app. O07.
func TestOutbound_WholeHopTellsTheOtherAppWhoCalls(t *testing.T) {
	w := newTown(t)
	eachProtocol(t, func(t *testing.T, h2 bool) {
		got := make(chan *http.Request, 1)
		w.app = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			got <- r
			rw.Header().Set("Server", "hidden")
			io.WriteString(rw, "for "+r.Header.Get("Everyhop-Caller"))
		})
		answer := newWeb(t, h2).get(w.at("orders"), "/orders/%37?b=1&a=2%20", "X-Request-Id: 9", "Everyhop-Caller: spoofed", "X-Spiffe-Id: spoofed", "X-Forwarded-Client-Cert: spoofed", "Accept-Encoding: identity")
		if answer.status != 200 || answer.body != "for spiffe://td.test/web" || answer.header.Get("Server") != "" {
			t.Errorf("%+v", answer)
		}
		r := <-got
		if r.RequestURI != "/orders/7?b=1&a=2%20" || r.Host != w.orders || r.Header.Get("X-Request-Id") != "9" || strings.Contains(fmt.Sprint(r.Header), "spoofed") {
			t.Errorf("%s at %s, %v", r.RequestURI, r.Host, r.Header)
		}
		if via := r.Header.Get("Via"); strings.Count(via, "everyhop") != 2 || !strings.Contains(via, ", 2 everyhop") {
			t.Errorf("Via: %s", via)
		}
		out, in := w.records.next(t), w.into.next(t)
		if out.PeerSerial == "" || out.Duration <= 0 {
			t.Errorf("the peer's certificate or the time is not recorded: %+v", out)
		}
		out.PeerSerial, out.Duration = "", 0
		want := record{Direction: "outbound", Call: "orders", Peer: "spiffe://td.test/orders", Method: "GET", Route: "/orders/**", Grant: "orders", Verdict: "allow", Reason: "allowed", Policy: "digest1", Status: 200, BytesOut: int64(len(answer.body)), Dropped: 3}
		if diff := cmp.Diff(want, out); diff != "" {
			t.Error(diff)
		}
		if in.Caller != "spiffe://td.test/web" || in.Reason != "allowed" {
			t.Errorf("%+v", in)
		}
	})
	if n := w.handshakes.Load(); n != 1 {
		t.Errorf("%d connections for two requests", n)
	}
}

// O01: what is not declared is not dialled.
func TestOutbound_UndeclaredIsRefusedAndNotDialled(t *testing.T) {
	w := newTown(t)
	eachProtocol(t, func(t *testing.T, h2 bool) {
		app := newWeb(t, h2)
		for _, c := range []struct {
			method, target, reason string
			status                 int
		}{
			{"GET", "/admin", "route_undeclared", 403},
			{"DELETE", "/orders/7", "route_undeclared", 403},
			{"GET", "/orders/%2e%2e/admin", "target_ambiguous", 400},
			{"GET", "/orders//x", "target_ambiguous", 400},
			{"TRACE", "/orders/7", "method_refused", 405},
		} {
			got, err := app.do(c.method, w.at("orders"), c.target)
			if r := w.records.next(t); err != nil || got.status != c.status || r.Reason != c.reason || r.Verdict != "deny" || r.Call == "" && c.status == 403 {
				t.Errorf("%+v: %+v, %v, %+v", c, got, err, r)
			}
		}
		if got := app.get(w.at("orders"), "/orders/7"); got.status != 200 {
			t.Errorf("%+v", got)
		}
		w.records.next(t)
	})
	if n := w.handshakes.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestOutbound_WhoeverDoesNotProveTheExpectedIDGetsNothing(t *testing.T) {
	w := newTown(t)
	var mu sync.Mutex
	got := ""
	peer := func(config *tls.Config) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		var conns sync.WaitGroup
		conns.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				conns.Go(func() {
					defer c.Close()
					if config != nil {
						c = tls.Server(c, config)
					} else {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
					if secret, err := io.ReadAll(c); config != nil && err == nil {
						mu.Lock()
						got += string(secret)
						mu.Unlock()
					}
				})
			}
		})
		t.Cleanup(func() { ln.Close(); conns.Wait() })
		return ln.Addr().String()
	}
	mint := func(d *dev.Domain, name string) *tls.Config {
		minted, err := d.Mint(name)
		must(t, err)
		return &tls.Config{Certificates: []tls.Certificate{minted.TLS()}, NextProtos: []string{"h2"}, ClientAuth: tls.RequestClientCert}
	}
	elsewhere, err := dev.Open(t.TempDir(), dev.Options{TrustDomain: "td.test"}) // the same name, another authority
	must(t, err)
	defer elsewhere.Close()
	old := mint(w.domain, "orders")
	old.MaxVersion = tls.VersionTLS12
	for name, c := range map[string]struct{ at, reason string }{
		"another service":   {peer(mint(w.domain, "billing")), "upstream_unverified"},
		"another authority": {peer(mint(elsewhere, "orders")), "upstream_unverified"},
		"TLS 1.2":           {peer(old), "upstream_unreachable"},
		"no TLS":            {peer(nil), "upstream_unverified"},
		"nobody":            {"127.0.0.1:1", "upstream_unreachable"},
	} {
		w.apply(w.call("orders", "orders", c.at))
		got := newWeb(t, false).get(w.at("orders"), "/orders/7", "Authorization: secret")
		if r := w.records.next(t); got.status != 502 || r.Reason != c.reason || r.Verdict != "allow" || r.Peer != "" {
			t.Errorf("%s: %+v, %+v", name, got, r)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got != "" {
		t.Errorf("a stranger got %q", got)
	}
}

// X51.
func TestOutbound_CallsShareNoConnectionEvenToOneAddress(t *testing.T) {
	w := newTown(t)
	w.apply(w.call("orders", "orders", w.orders), w.call("billing", "billing", w.orders))
	app := newWeb(t, true)
	if got := app.get(w.at("orders"), "/orders/7"); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	w.records.next(t)
	got := app.get(w.at("billing"), "/orders/7")
	if r := w.records.next(t); got.status != 502 || r.Reason != "upstream_unverified" || r.Call != "billing" {
		t.Errorf("%+v, %+v", got, r)
	}
}

func TestOutbound_NextAddressAnswersForADeadOne(t *testing.T) {
	w := newTown(t)
	s := w.compile(w.call("orders", "orders", "127.0.0.1:1"))
	s.Calls[0].At = append(s.Calls[0].At, policy.Endpoint{Text: w.orders})
	must(t, w.server.Apply(s))
	w.policy.Store(s)
	if got := newWeb(t, false).get(w.at("orders"), "/orders/7"); got.status != 200 {
		t.Errorf("%+v", got)
	}
}

// X36.
func TestRefresh_NewRequestsShakeHandsAnewAndOldOnesEnd(t *testing.T) {
	w := newTown(t)
	asked, leave := make(chan struct{}), make(chan struct{})
	w.app = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/orders/slow" {
			close(asked)
			<-leave
		}
		io.WriteString(rw, "done")
	})
	slow := make(chan answer, 1)
	go func() {
		got, _ := newWeb(t, false).do("GET", w.at("orders"), "/orders/slow")
		slow <- got
	}()
	<-asked
	w.server.Refresh()
	for range 2 {
		if got := newWeb(t, false).get(w.at("orders"), "/orders/7"); got.body != "done" {
			t.Errorf("%+v", got)
		}
	}
	if n := w.handshakes.Load(); n != 2 {
		t.Errorf("%d handshakes", n)
	}
	close(leave)
	if got := <-slow; got.body != "done" {
		t.Errorf("%+v", got)
	}
}

func TestOutbound_RotationUnderLoadLosesNothing(t *testing.T) {
	w := newTown(t)
	var clients sync.WaitGroup
	for range 4 {
		app := newWeb(t, false)
		clients.Go(func() {
			for range 100 {
				if got, err := app.do("POST", w.at("orders"), "/orders/7"); err != nil || got.status != 200 {
					t.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
	for range 5 {
		must(t, w.domain.Rotate("web", "orders"))
		w.server.Refresh()
	}
	clients.Wait()
}

// H28: the app of orders sends everything back to where it came from.
func TestOutbound_LoopIsStopped(t *testing.T) {
	w := newTown(t)
	w.intoPolicy.Store(w.ordersPolicy(w.at("orders")))
	eachProtocol(t, func(t *testing.T, h2 bool) {
		got := newWeb(t, h2).get(w.at("orders"), "/orders/7")
		if got.status != 508 {
			t.Errorf("%+v", got)
		}
		if r := w.records.next(t); r.Reason != "request_loop" {
			t.Errorf("%+v", r)
		}
		if w.records.next(t); len(w.records) != 0 {
			t.Errorf("it went round %d times more", len(w.records))
		}
	})
}

func TestApply_OpensAndClosesPorts(t *testing.T) {
	w := newTown(t)
	first := w.at("orders")
	orders := w.policy.Load().Calls[0]
	keep := w.call("orders", "orders", w.orders)
	keep.Local.Address = orders.Local.Address
	w.apply(keep, w.call("more", "orders", w.orders))
	app := newWeb(t, false)
	for _, call := range []string{"orders", "more"} {
		if got := app.get(w.at(call), "/orders/7"); got.status != 200 {
			t.Errorf("%s: %+v", call, got)
		}
	}
	if w.at("orders") != first {
		t.Error("a port that stays was opened anew")
	}
	w.apply(keep)
	if w.server.Addr("more") != nil {
		t.Error("a call that is gone has an address")
	}
	w.applyNone()
	waitFor(t, "a closed port", func() bool {
		c, err := net.Dial("tcp", first)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

func TestApply_CallsMaySwapTheirPorts(t *testing.T) {
	w := newTown(t)
	one, two := w.call("orders", "orders", w.orders), w.call("billing", "billing", w.orders)
	w.apply(one, two)
	one.Local, two.Local = two.Local, one.Local
	w.apply(one, two)
	if got := newWeb(t, false).get(one.Local.Address, "/orders/7"); got.status != 200 {
		t.Errorf("%+v", got)
	}
	if r := w.records.next(t); r.Call != "orders" {
		t.Errorf("%+v", r)
	}
}

func TestApply_ErrorLeavesThePortsAsTheyAre(t *testing.T) {
	w := newTown(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	good := w.call("good", "orders", w.orders)
	for name, edit := range map[string]func(*policy.CallRule){
		"in use":           func(c *policy.CallRule) { c.Local = &policy.Local{Network: "tcp", Address: taken.Addr().String()} },
		"not loopback":     func(c *policy.CallRule) { c.Local = &policy.Local{Network: "tcp", Address: "0.0.0.0:0"} }, // O04
		"a name":           func(c *policy.CallRule) { c.Local = &policy.Local{Network: "tcp", Address: "localhost:0"} },
		"a file":           func(c *policy.CallRule) { c.Local = &policy.Local{Network: "unix", Address: file} }, // O05
		"no such folder":   func(c *policy.CallRule) { c.Local = &policy.Local{Network: "unix", Address: filepath.Join(file, "x")} },
		"nobody to answer": func(c *policy.CallRule) { c.As = spiffeid.ID{} },
		"no address":       func(c *policy.CallRule) { c.At = nil },
		"srv":              func(c *policy.CallRule) { c.At = []policy.Endpoint{{Text: "srv:_orders._tcp"}} },
		"https":            func(c *policy.CallRule) { c.At = []policy.Endpoint{{Text: "https://api.test"}} },
		"one address":      func(c *policy.CallRule) { c.Local = good.Local },
	} {
		s := w.compile(good, w.call("bad", "orders", w.orders))
		bad := *s.Calls[1]
		edit(&bad)
		s.Calls[1] = &bad
		if err := w.server.Apply(s); err == nil || !strings.Contains(err.Error(), "bad") {
			t.Errorf("%s: %v", name, err)
		}
		if c, err := net.Dial("tcp", good.Local.Address); err == nil {
			c.Close()
			t.Errorf("%s: a port of the refused policy is open", name)
		}
		if got := newWeb(t, false).get(w.at("orders"), "/orders/7"); got.status != 200 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// O05.
func TestApply_UnixSocketReplacesOnlyAStaleOne(t *testing.T) {
	w := newTown(t)
	path := filepath.Join(t.TempDir(), "orders.sock")
	stale, err := net.Listen("unix", path)
	must(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	call := w.call("orders", "orders", w.orders)
	call.Local = &policy.Local{Network: "unix", Address: path}
	if err := w.server.Apply(w.compile(call)); err == nil {
		t.Fatal("a socket that answers was taken")
	}
	must(t, stale.Close())
	w.apply(call)
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}
	defer transport.CloseIdleConnections()
	app := &web{t, &http.Client{Transport: transport}}
	if got := app.get("orders", "/orders/7"); got.status != 200 {
		t.Errorf("%+v", got)
	}
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm() != 0o660 {
		t.Error(stat.Mode(), err)
	}
	w.applyNone()
	waitFor(t, "the socket to go", func() bool { _, err := os.Stat(path); return os.IsNotExist(err) })
}

func TestOutbound_PortThatThePolicyNoLongerKnowsRefuses(t *testing.T) {
	w := newTown(t)
	address := w.at("orders")
	w.policy.Store(&policy.Snapshot{})
	got := newWeb(t, false).get(address, "/orders/7")
	if r := w.records.next(t); got.status != 403 || r.Reason != "route_undeclared" {
		t.Errorf("%+v, %+v", got, r)
	}
}

func TestStop_LetsRequestsEnd(t *testing.T) {
	w := newTown(t)
	asked, leave := make(chan struct{}), make(chan struct{})
	w.app = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-leave
		io.WriteString(rw, "done")
	})
	stopped := make(chan error, 1)
	go func() {
		<-asked
		go func() { stopped <- w.server.Stop(context.Background()) }()
		close(leave)
	}()
	if got := newWeb(t, true).get(w.at("orders"), "/orders/7"); got.body != "done" {
		t.Errorf("%+v", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := w.server.Apply(w.policy.Load()); err == nil {
		t.Error("a stopped server opened ports")
	}
}

func TestStop_BesideServeAndBeforeIt(t *testing.T) {
	d, err := dev.Open(t.TempDir(), dev.Options{TrustDomain: "td.test"})
	must(t, err)
	defer d.Close()
	w := &town{t: t, domain: d, records: make(records, 10)}
	s := w.compile(w.call("orders", "orders", "127.0.0.1:1"))
	log := w.records.log(t)
	for i := range 20 {
		server, err := outbound.New(outbound.Config{
			Policy: func() *policy.Snapshot { return s }, Audit: log, TLS: func(spiffeid.ID) *tls.Config { return nil },
		})
		must(t, err)
		must(t, server.Apply(s))
		var both sync.WaitGroup
		if i%2 == 0 {
			both.Go(func() {
				if err := server.Serve(); err != nil {
					t.Error(err)
				}
			})
		}
		both.Go(func() {
			if err := server.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestOutbound_ZeroConfigIsRefused(t *testing.T) {
	if _, err := outbound.New(outbound.Config{}); err == nil {
		t.Error("no error")
	}
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patient); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}
