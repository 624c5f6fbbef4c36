package inbound_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/everyhop/everyhop/inbound"
	"github.com/everyhop/everyhop/policy"
)

var public = request{method: "GET", target: "/public/a"}

// Nothing that follows what has more than one reading is read, and each is recorded
// once.
func TestInbound_BadFramingReachesNobody(t *testing.T) {
	h := newHouse(t, nil)
	const head = "POST /api/a HTTP/1.1\r\nHost: app.test\r\n"
	for name, raw := range map[string]string{
		"H15 userinfo":   "GET /public/a HTTP/1.1\r\nHost: user@app.test\r\n\r\n",
		"S04":            head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"S05":            head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"S06":            head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"S07":            head + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
		"S08":            head + "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\nhello",
		"S17":            head + "Content-Length: 5, 5\r\n\r\nhello",
		"S18":            head + "Content-Length: +5\r\n\r\nhello",
		"S20":            head + "Content-Length:\r\n\r\nhello",
		"S41":            head + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n",
		"S46":            "GET /public/a HTTP/1.1\r\nHost: app.test\r\nX: a\x00b\r\n\r\n",
		"S50":            "GET /public/a HTTP/1.1\r\nHost: app.test\r\nX Y: 1\r\n\r\n",
		"S51":            "GET /public/a HTTP/3.0\r\nHost: app.test\r\n\r\n",
		"S58":            "GET /public/a HTTP/1.1\r\n\r\n",
		"S58 two":        "GET /public/a HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n",
		"S59 list":       "GET /public/a HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
		"S27":            head + "Expect: y100-continue\r\nContent-Length: 1\r\n\r\nx",
		"P26":            "GET public/a HTTP/1.1\r\nHost: app.test\r\n\r\n",
		"T35":            "\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"TLS inside TLS": "\x16\x03\x01\x00\x05hello",
	} {
		client := h.dial(web, "http/1.1")
		got := client.do(request{raw: raw + "GET /public/next HTTP/1.1\r\nHost: app.test\r\n\r\n"})
		if got.open || got.status != 0 && got.status < 400 {
			t.Errorf("%s: %+v", name, got)
		}
		if r := h.record(); r.Verdict != "deny" || r.Status != got.status {
			t.Errorf("%s: %+v, answered with %d", name, r, got.status)
		}
		if next := client.read1("GET"); next.status != 0 || len(h.records) != 0 {
			t.Errorf("%s: what followed was answered with %d", name, next.status)
		}
	}
	if seen := h.app.seen(); len(seen) != 0 {
		t.Errorf("the app got %q", seen)
	}
}

// S55.
func TestInbound_PipelinedRequestsAreEachJudged(t *testing.T) {
	h := newHouse(t, nil)
	client := h.dial(web, "http/1.1")
	var all strings.Builder
	for i := range 20 {
		fmt.Fprintf(&all, "GET /%s/%d HTTP/1.1\r\nHost: app.test\r\n\r\n", []string{"public", "admin"}[i%2], i)
	}
	io.WriteString(client.conn, all.String())
	for i := range 20 {
		if got, want := client.read1("GET").status, []int{200, 403}[i%2]; got != want {
			t.Errorf("request %d: %d", i, got)
		}
		if r := h.record(); !strings.HasSuffix(r.Path, fmt.Sprint("/", i)) {
			t.Errorf("record %d is of %s", i, r.Path)
		}
	}
	if seen := h.app.seen(); len(seen) != 10 {
		t.Errorf("the app got %d", len(seen))
	}
}

// S29, U09.
func TestInbound_ExpectedBodyThatNobodyReadsDesyncsNothing(t *testing.T) {
	h := newHouse(t, nil)
	client := h.dial(web, "http/1.1")
	for range 50 {
		got := client.do(request{method: "POST", target: "/admin/a", header: []string{"Expect: 100-continue", "Content-Length: 5"}})
		if r := h.record(); got.status != 403 || r.Reason != "caller_undeclared" {
			t.Fatalf("%+v, %+v", got, r)
		}
		if !got.open {
			client = h.dial(web, "http/1.1")
		}
	}
	if seen := h.app.seen(); len(seen) != 0 {
		t.Errorf("the app got %q", seen)
	}
}

// X-cases of a peer whose certificate ends while it is connected.
func TestInbound_PeerIsRefusedWhenItsCertificateHasExpired(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		h := newHouse(t, nil)
		client := h.dial(web, protocol)
		if got := client.do(public); got.status != 200 {
			t.Fatalf("%+v", got)
		}
		h.record()
		h.clock.Store(int64(2 * time.Hour)) // the development trust domain gives an hour
		got := client.do(public)
		if r := h.record(); got.status != 403 || r.Reason != "peer_expired" || r.Caller != "spiffe://td.test/"+web {
			t.Errorf("%+v, %+v", got, r)
		}
		if seen := h.app.seen(); len(seen) != 1 {
			t.Errorf("the app got %q", seen)
		}
	})
}

func TestInbound_ConnectionEndsWithItsPeersCertificate(t *testing.T) {
	h := newHouse(t, nil)
	short := h.mint(web, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(2 * time.Second) })
	c, err := tls.Dial("tcp", h.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{short}})
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(patient)))
	client := &client{t: t, conn: c, in: bufio.NewReader(c)}
	if got := client.do(public); got.status != 200 || !got.open {
		t.Fatalf("%+v", got)
	}
	if _, err := client.in.ReadByte(); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection was left open")
	}
}

// A refusal does not wait for a body that nobody wants.
func TestInbound_RefusalDoesNotWaitForTheBody(t *testing.T) {
	h := newHouse(t, nil)
	for _, framing := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
		got := h.dial(web, "http/1.1").do(request{method: "POST", target: "/admin/a", header: []string{framing}})
		if r := h.record(); got.status != 403 || got.open || r.Reason != "caller_undeclared" {
			t.Errorf("%s: %+v, %+v", framing, got, r)
		}
	}
}

func TestInbound_ZeroConfigIsRefused(t *testing.T) {
	if _, err := inbound.New(inbound.Config{}); err == nil {
		t.Error("no error")
	}
}

func TestInbound_WithoutAPolicyAllIsDenied(t *testing.T) {
	for _, none := range []*policy.Snapshot{nil, {}} {
		h := newHouse(t, func(c *inbound.Config) { c.Policy = func() *policy.Snapshot { return none } })
		eachProtocol(t, func(t *testing.T, protocol string) {
			got := h.dial(web, protocol).do(public)
			if r := h.record(); got.status != 503 || r.Reason != "no_policy" || r.Verdict != "deny" {
				t.Errorf("%+v, %+v", got, r)
			}
		})
	}
}

// L20.
func TestInbound_PanicIsADenialAndRecorded(t *testing.T) {
	var fail func()
	h := newHouse(t, func(c *inbound.Config) {
		current := c.Policy
		c.Policy = func() *policy.Snapshot {
			if fail != nil {
				fail()
			}
			return current()
		}
	})
	fail = func() { panic("a fault\nof ours") }
	eachProtocol(t, func(t *testing.T, protocol string) {
		client := h.dial(web, protocol)
		got := client.do(public)
		if r := h.record(); got.status != 500 || r.Reason != "evaluator_panic" || r.Verdict != "deny" || r.Status != 500 {
			t.Errorf("%+v, %+v", got, r)
		}
	})
	fail = nil
	if got := h.dial(web, "h2").do(public); got.status != 200 {
		t.Errorf("%+v", got)
	}
	if seen := h.app.seen(); len(seen) != 1 {
		t.Errorf("the app got %q", seen)
	}
}

// L05.
func TestInbound_NothingPassesThatCannotBeRecorded(t *testing.T) {
	h := newHouse(t, nil)
	client := h.dial(web, "h2")
	h.sink.broken.Store(true)
	client.do(public) // finds the log broken as it is written
	waitFor(t, "a refusal", func() bool { return client.do(public).status == 503 })
	h.app.seen()
	if got := client.do(public); got.status != 503 || len(h.app.seen()) != 0 {
		t.Errorf("%+v", got)
	}
	h.sink.broken.Store(false)
	waitFor(t, "a recovery", func() bool { return client.do(public).status == 200 })
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patient); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// What the app does wrong, and what is made of it.
func TestInbound_AppsFaultsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		raw, reason string
		status      int
	}{
		"U07":       {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "upstream_fault", 502},
		"B08":       {"hello", "upstream_fault", 502},
		"B09":       {"", "upstream_timeout", 504},
		"cut short": {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "upstream_fault", 200},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, protocol string) {
				h := newHouse(t, nil)
				s := *h.policy.Load()
				h.policy.Store(withTimeout(t, h, 50*time.Millisecond, &s))
				h.app.answer = func(conn net.Conn, _ *http.Request, _ int) {
					if c.raw != "" {
						io.WriteString(conn, c.raw)
						conn.Close()
					}
				}
				got := h.dial(web, protocol).do(request{method: "GET", target: "/api/a"})
				r := h.record()
				if r.Reason != c.reason || r.Status != c.status || r.Verdict != "allow" {
					t.Errorf("recorded %+v", r)
				}
				if c.status == 200 && !got.reset || c.status != 200 && got.status != c.status {
					t.Errorf("got %+v", got)
				}
				if n := len(h.app.seen()); n != 1 {
					t.Errorf("the app got %d requests", n)
				}
			})
		})
	}
}

// withTimeout is the base policy with another timeout for /api.
func withTimeout(t *testing.T, h *house, limit time.Duration, base *policy.Snapshot) *policy.Snapshot {
	t.Helper()
	api := grant(t, "api", "spiffe://td.test/"+web, "GET /api/**")
	api.Timeout = limit
	s, err := policy.Compile(&policy.Spec{Service: base.Service, App: base.App, Timeouts: base.Timeouts, Allow: []policy.Grant{api}}, base)
	must(t, err)
	return s
}

func TestInbound_AppThatIsNotThereIsUnreachable(t *testing.T) {
	h := newHouse(t, nil)
	h.policy.Store(basePolicy(t, "127.0.0.1:1"))
	eachProtocol(t, func(t *testing.T, protocol string) {
		client := h.dial(web, protocol)
		got := client.do(public)
		if r := h.record(); got.status != 502 || r.Reason != "upstream_unreachable" || r.Verdict != "allow" || !got.open {
			t.Errorf("%+v, %+v", got, r)
		}
	})
}

func TestInbound_AppOnAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	ln, err := net.Listen("unix", path)
	must(t, err)
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+r.URL.Path) })}
	var serving sync.WaitGroup
	serving.Go(func() { app.Serve(ln) })
	defer serving.Wait()
	defer app.Close()
	h := newHouse(t, nil)
	s := *basePolicy(t, "")
	s.App = &policy.App{Kind: policy.AppHTTP, Network: "unix", Address: path}
	h.policy.Store(&s)
	eachProtocol(t, func(t *testing.T, protocol string) {
		if got := h.dial(web, protocol).do(public); got.body != "app.test/public/a" {
			t.Errorf("%+v", got)
		}
	})
}

// Reload: each request is judged by one policy and goes to that policy's app.
func TestInbound_PolicySwapsUnderLoadMixNothing(t *testing.T) {
	h := newHouse(t, nil)
	other := newApp(t)
	apps := map[string]*app{"first": h.app, "second": other}
	var both []*policy.Snapshot
	for name, app := range apps {
		app.answer = func(c net.Conn, _ *http.Request, _ int) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(name), name)
		}
		s := basePolicy(t, app.address())
		s.Digest = name
		both = append(both, s)
	}
	h.policy.Store(both[0])
	var clients sync.WaitGroup
	answers := make(chan string, 1000)
	for _, protocol := range []string{"http/1.1", "h2"} {
		client := h.dial(web, protocol)
		clients.Go(func() {
			for range 200 {
				answers <- client.do(public).body
			}
		})
	}
	count := map[string]int{}
	for i := range 400 {
		count[<-answers]++
		h.policy.Store(both[i%2]) // while the other client's request is under way
	}
	clients.Wait()
	for range 400 {
		count[h.record().Policy]--
	}
	if count["first"] != 0 || count["second"] != 0 || count[""] != 0 {
		t.Errorf("answers less records: %v", count)
	}
}

func TestStop_LetsRequestsEnd(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		h := newHouse(t, nil)
		asked, leave := make(chan struct{}), make(chan struct{})
		answer := h.app.answer
		h.app.answer = func(c net.Conn, r *http.Request, n int) {
			close(asked)
			<-leave
			answer(c, r, n)
		}
		stopped := make(chan error, 1)
		go func() {
			<-asked
			go func() { stopped <- h.server.Stop(context.Background()) }()
			close(leave)
		}()
		if got := h.dial(web, protocol).do(public); got.status != 200 {
			t.Errorf("%+v", got)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

// T26, T32: what a real gRPC client makes of it.
func TestInbound_GRPC(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer()
	healthy := health.NewServer()
	healthy.SetServingStatus("svc", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, healthy)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(ln) })
	defer serving.Wait()
	defer server.Stop()

	h := newHouse(t, nil)
	base := h.policy.Load()
	spec := &policy.Spec{
		Service: base.Service, App: base.App, Timeouts: base.Timeouts,
		Allow: []policy.Grant{grant(t, "health", "spiffe://td.test/"+web, "POST /grpc.health.v1.Health/Check", "POST /grpc.health.v1.Health/Watch")},
	}
	s, err := policy.Compile(spec, base)
	must(t, err)
	inH2C := *s
	inH2C.App = &policy.App{Kind: policy.AppH2C, Network: "tcp", Address: ln.Addr().String()}
	h.policy.Store(&inH2C)

	health := func(as string) grpc_health_v1.HealthClient {
		c, err := grpc.NewClient("passthrough:///"+h.address, grpc.WithAuthority("app.test"), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			InsecureSkipVerify: true, Certificates: []tls.Certificate{h.mint(as)},
		})))
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return grpc_health_v1.NewHealthClient(c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	got, err := health(web).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "svc"})
	if err != nil || got.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Error(got, err)
	}
	if _, err := health(web).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "none"}); status.Code(err) != codes.NotFound { // trailers-only
		t.Error(err)
	}
	if _, err := health(admin).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	if _, err := health(web).List(ctx, &grpc_health_v1.HealthListRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	watching, stop := context.WithCancel(ctx)
	stream, err := health(web).Watch(watching, &grpc_health_v1.HealthCheckRequest{Service: "svc"})
	must(t, err)
	for i, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{1, 2, 1} {
		if i > 0 {
			healthy.SetServingStatus("svc", want)
		}
		if got, err := stream.Recv(); err != nil || got.Status != want {
			t.Error(got, err)
		}
	}
	stop()
	for r := h.record(); r.Reason != "client_gone"; r = h.record() { // the app was told
	}
}
