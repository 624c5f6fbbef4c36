package outbound_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/identity/dev"
	"github.com/everyhop/everyhop/identity/svid"
	"github.com/everyhop/everyhop/inbound"
	"github.com/everyhop/everyhop/outbound"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
	"github.com/everyhop/everyhop/sidecar/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patient = 20 * time.Second // longer than anything takes that is no fault

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// town is a trust domain with the service web, whose way out is tested, and
// orders, which it calls: each with a real sidecar's hop and an app.
type town struct {
	t       *testing.T
	domain  *dev.Domain
	server  *outbound.Server
	policy  atomic.Pointer[policy.Snapshot]
	records records // of web's way out

	orders     string // where orders' inbound hop is
	inbound    *inbound.Server
	app        http.Handler // of orders
	handshakes atomic.Int32 // that orders' hop has done
	into       records      // of orders' way in
	intoPolicy atomic.Pointer[policy.Snapshot]
	alpn       []string // between the two; both protocols if empty
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{t: t, records: make(records, 5000), into: make(records, 5000)}
	d, err := dev.Open(t.TempDir(), dev.Options{TrustDomain: "td.test"})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	w.domain = d
	must(t, d.Serve("web", "orders"))
	w.app = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, "orders") })
	w.serveOrders()

	source := w.source("web")
	log := w.records.log(t)
	w.policy.Store(w.compile(w.call("orders", "orders", w.orders)))
	w.server, err = outbound.New(outbound.Config{
		Policy: w.policy.Load,
		Audit:  log,
		TLS:    w.clientTLS(source),
	})
	must(t, err)
	must(t, w.server.Apply(w.policy.Load()))
	w.serve(w.server.Serve, w.server.Stop)
	return w
}

func (w *town) source(name string) *svid.Source {
	w.t.Helper()
	source, err := svid.Open(context.Background(), svid.Config{Identity: w.domain.Socket(name), Service: id(w.t, name)})
	must(w.t, err)
	w.t.Cleanup(func() { source.Close() })
	ready, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	must(w.t, source.WaitReady(ready))
	return source
}

// serveOrders opens the inbound hop of orders, before an app that w.app answers for.
func (w *town) serveOrders() {
	app, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.app.ServeHTTP(rw, r) })}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(app) })
	w.t.Cleanup(func() { server.Close(); serving.Wait() })

	w.intoPolicy.Store(w.ordersPolicy(app.Addr().String()))
	source := w.source("orders")
	config := source.ServerConfig([]string{"h2", "http/1.1"}, false)
	verify := config.VerifyConnection
	config.VerifyConnection = func(cs tlsState) error {
		w.handshakes.Add(1)
		return verify(cs)
	}
	w.inbound, err = inbound.New(inbound.Config{
		Policy: w.intoPolicy.Load,
		TLS:    config,
		Audit:  w.into.log(w.t),
		PeerOf: svid.PeerOf,
	})
	must(w.t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	w.orders = ln.Addr().String()
	w.serve(func() error { return w.inbound.Serve(ln) }, w.inbound.Stop)
}

func (w *town) ordersPolicy(app string) *policy.Snapshot {
	w.t.Helper()
	s, err := policy.Compile(&policy.Spec{
		Service: id(w.t, "orders"), App: &policy.App{Kind: policy.AppHTTP, Network: "tcp", Address: app}, Timeouts: policy.DefaultTimeouts(),
		Allow: []policy.Grant{{Name: "all", From: []policy.Caller{caller(w.t, "spiffe://td.test/web")}, To: []policy.Route{route(w.t, "GET /orders/**"), route(w.t, "POST /orders/**")},
			Headers: []policy.Input{{Name: "x-request-id"}}, Query: []policy.Input{{Name: "a"}, {Name: "b"}}}},
	}, nil)
	must(w.t, err)
	return s
}

func (w *town) serve(serve func() error, stop func(context.Context) error) {
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := serve(); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		stop(ctx)
		serving.Wait()
	})
}

func id(t *testing.T, name string) spiffeid.ID {
	t.Helper()
	id, err := spiffeid.FromString("spiffe://td.test/" + name)
	must(t, err)
	return id
}

func caller(t *testing.T, text string) policy.Caller {
	t.Helper()
	pattern, err := match.ParseCaller(text)
	must(t, err)
	return policy.Caller{Pattern: pattern}
}

func route(t *testing.T, text string) policy.Route {
	t.Helper()
	method, template, _ := strings.Cut(text, " ")
	path, err := match.ParsePath(template, nil)
	must(t, err)
	return policy.Route{Method: method, Path: path}
}

// call is a call to as at the addresses, on a free local port.
func (w *town) call(name, as string, at ...string) policy.Call {
	w.t.Helper()
	c := policy.Call{
		Name: name, As: id(w.t, as), Local: &policy.Local{Network: "tcp", Address: freePort(w.t)},
		Allow: []policy.Route{route(w.t, "GET /orders/**"), route(w.t, "POST /orders/**")},
	}
	for _, address := range at {
		c.At = append(c.At, policy.Endpoint{Text: address})
	}
	return c
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func (w *town) compile(calls ...policy.Call) *policy.Snapshot {
	w.t.Helper()
	s, err := policy.Compile(&policy.Spec{
		Digest: "digest1", Service: id(w.t, "web"), Timeouts: policy.DefaultTimeouts(), Calls: calls,
	}, w.policy.Load())
	must(w.t, err)
	return s
}

// apply makes the calls the policy, as a sidecar does.
func (w *town) apply(calls ...policy.Call) {
	w.t.Helper()
	s := w.compile(calls...)
	must(w.t, w.server.Apply(s))
	w.policy.Store(s)
}

func (w *town) applyNone() {
	w.t.Helper()
	s := &policy.Snapshot{}
	must(w.t, w.server.Apply(s))
	w.policy.Store(s)
}

type records chan record

type record struct {
	Direction, Call, Caller, Peer, Method, Route, Grant, Verdict, Reason, Policy string

	PeerSerial string `json:"peer_serial"`
	Status     int
	BytesIn    int64   `json:"bytes_in"`
	BytesOut   int64   `json:"bytes_out"`
	Duration   float64 `json:"duration_seconds"`
	Dropped    int     `json:"dropped_headers"`
}

func (rs records) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return 0, err
		}
		rs <- r
	}
	return len(p), nil
}

func (rs records) log(t *testing.T) *audit.Log {
	t.Helper()
	log, err := audit.Open(audit.Config{Writer: rs})
	must(t, err)
	t.Cleanup(func() { log.Close() })
	return log
}

func (rs records) next(t *testing.T) record {
	t.Helper()
	select {
	case r := <-rs:
		return r
	case <-time.After(patient):
		t.Fatal("nothing was recorded")
		return record{}
	}
}

// web is the app of web: it calls by plain HTTP/1.1 or HTTP/2.
type web struct {
	t      *testing.T
	client *http.Client
}

func newWeb(t *testing.T, h2 bool) *web {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(!h2)
	protocols.SetUnencryptedHTTP2(h2)
	transport := &http.Transport{Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &web{t, &http.Client{Transport: transport}}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a *web) do(method, address, target string, header ...string) (answer, error) {
	a.t.Helper()
	r, err := http.NewRequest(method, "http://"+address+target, nil)
	must(a.t, err)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	got, err := a.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	return answer{got.StatusCode, got.Header, string(body)}, err
}

func (a *web) get(address, target string, header ...string) answer {
	a.t.Helper()
	got, err := a.do("GET", address, target, header...)
	must(a.t, err)
	return got
}

func (w *town) at(call string) string {
	w.t.Helper()
	address := w.server.Addr(call)
	if address == nil {
		w.t.Fatalf("call %s is not open", call)
	}
	return address.String()
}
