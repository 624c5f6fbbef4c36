package sidecar

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/identity/dev"
	"github.com/everyhop/everyhop/identity/svid"
	"github.com/everyhop/everyhop/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop is a trust domain with a service, orders, whose app answers "order", and
// a policy that lets web read it.
type shop struct {
	t      *testing.T
	domain *dev.Domain
	app    *httptest.Server
	dir    string
	audit  lockedBuffer
	log    lockedBuffer
	config Config
}

const ordersPolicy = `service: spiffe://example.org/orders
app: http://%s
allow:
  - name: read-order
    from: spiffe://example.org/web
    to: GET /orders/{id}
`

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, dir: t.TempDir()}
	domain, err := dev.Open(filepath.Join(s.dir, "dev"), dev.Options{DNSNames: []string{"orders.test"}})
	if err != nil {
		t.Fatal(err)
	}
	s.domain = domain
	t.Cleanup(func() { domain.Close() })
	if err := domain.Serve("orders"); err != nil {
		t.Fatal(err)
	}
	s.app = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "order") }))
	t.Cleanup(s.app.Close)
	s.config = Config{
		PolicyFile:  filepath.Join(s.dir, "policy.yaml"),
		Identity:    domain.Socket("orders"),
		Inbound:     "127.0.0.1:0",
		Admin:       "127.0.0.1:0",
		AuditWriter: &s.audit,
		Logger:      slog.New(slog.NewTextHandler(&s.log, nil)),
		Drain:       10 * time.Second,
		Version:     "test",
	}
	s.write(s.policy())
	return s
}

func (s *shop) policy() string {
	return fmt.Sprintf(ordersPolicy, strings.TrimPrefix(s.app.URL, "http://"))
}

// write replaces the policy file as careful editors do: at once.
func (s *shop) write(text string) {
	s.t.Helper()
	next := s.config.PolicyFile + ".new"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(next, s.config.PolicyFile); err != nil {
		s.t.Fatal(err)
	}
}

// start starts the sidecar, which stops with the test.
func (s *shop) start() *Sidecar {
	s.t.Helper()
	sidecar, err := New(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { sidecar.Stop(context.Background()) })
	if err := sidecar.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return sidecar
}

// client is a client with the SVID of name, or with none where name is empty.
func (s *shop) client(name string) *http.Client {
	s.t.Helper()
	// Who answers is for identity/svid's tests; here only who asks.
	config := &tls.Config{InsecureSkipVerify: true}
	if name != "" {
		minted, err := s.domain.Mint(name)
		if err != nil {
			s.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{minted.TLS()}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func get(client *http.Client, url string) (int, string, error) {
	answer, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

func (s *shop) want(client *http.Client, url string, status int) string {
	s.t.Helper()
	got, body, err := get(client, url)
	if err != nil {
		s.t.Fatal(err)
	}
	if got != status {
		s.t.Errorf("GET %s: got %d %q, want %d\n%s", url, got, body, status, s.log.String())
	}
	return body
}

func adminURL(s *Sidecar, path string) string { return "http://" + s.Addr("admin").String() + path }
func orderURL(s *Sidecar) string              { return "https://" + s.Addr("inbound").String() + "/orders/7" }

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestStart_DeclaredCallerPassesAndNobodyElse(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	if body := shop.want(shop.client("web"), orderURL(s), 200); body != "order" {
		t.Errorf("got %q", body)
	}
	shop.want(shop.client("billing"), orderURL(s), 403)
	if status, _, err := get(shop.client(""), orderURL(s)); err == nil {
		t.Errorf("without a certificate: %d", status)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"caller":"spiffe://example.org/web"`, `"grant":"read-order"`, `"verdict":"allow"`,
		`"caller":"spiffe://example.org/billing"`, `"reason":"caller_undeclared"`, `"generation":1`,
	} {
		if !strings.Contains(shop.audit.String(), want) {
			t.Errorf("no %s in the audit log:\n%s", want, shop.audit.String())
		}
	}
}

func TestAdmin_TellsHowItIs(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	shop.want(shop.client("web"), orderURL(s), 200)
	plain := shop.client("")
	for path, want := range map[string][]string{
		"/livez":    {"alive\n"},
		"/readyz":   {"ready\n"},
		"/policy":   {`"service": "spiffe://example.org/orders"`, `"generation": 1`, `"name": "read-order"`, s.Policy().Digest},
		"/identity": {`"id": "spiffe://example.org/orders"`, `"example.org": 1`, `"not_after"`},
		"/metrics": {
			`everyhop_decisions_total{direction="inbound",grant="read-order",reason="allowed",verdict="allow"} 1`,
			"everyhop_ready 1", "everyhop_policy_generation 1", "everyhop_policy_last_reload_successful 1",
			`everyhop_policy_info{digest="` + s.Policy().Digest + `"} 1`, "everyhop_svid_not_after_seconds 1.",
			`everyhop_build_info{goversion="go`, "go_goroutines", "process_open_fds",
		},
	} {
		body := shop.want(plain, adminURL(s, path), 200)
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("no %s in %s:\n%s", text, path, body)
			}
		}
	}
	shop.want(plain, adminURL(s, "/debug/pprof/"), 404)
	var view map[string]any
	for _, path := range []string{"/policy", "/identity"} {
		if err := json.Unmarshal([]byte(shop.want(plain, adminURL(s, path), 200)), &view); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestMetrics_PassTheLinter(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	problems, err := testutil.GatherAndLint(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// L16.
func TestAdmin_IsNotServedOnTheDataPath(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	for _, path := range []string{"/metrics", "/readyz", "/livez", "/policy", "/identity", "/debug/pprof/", "/quitquitquit"} {
		shop.want(shop.client("web"), "https://"+s.Addr("inbound").String()+path, 403)
	}
}

// RT24.
func TestStart_NotReadyAndNothingPassesBeforeTheFirstSVID(t *testing.T) {
	shop := newShop(t)
	svids := filepath.Join(shop.dir, "svids")
	if err := os.Mkdir(svids, 0o700); err != nil {
		t.Fatal(err)
	}
	shop.config.Identity = "dir:" + svids
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(context.Background())
	started := make(chan error, 1)
	go func() { started <- s.Start(t.Context()) }()
	plain := shop.client("")
	until(t, "the admin listener", func() bool { status, _, _ := get(plain, adminURL(s, "/livez")); return status == 200 })
	if body := shop.want(plain, adminURL(s, "/readyz"), 503); !strings.Contains(body, "starting\n") || !strings.Contains(body, "identity: ") {
		t.Errorf("got %q", body)
	}
	if status, _, err := get(shop.client("web"), orderURL(s)); err == nil {
		t.Errorf("a request was answered: %d", status)
	}
	if err := shop.domain.WriteSVID("orders", svids); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	shop.want(plain, adminURL(s, "/readyz"), 200)
	shop.want(shop.client("web"), orderURL(s), 200)
}

func TestStart_SVIDOfSomebodyElseIsAnError(t *testing.T) {
	shop := newShop(t)
	shop.write(strings.Replace(shop.policy(), "example.org/orders", "example.org/billing", 1))
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Start(t.Context())
	if !errors.Is(err, svid.ErrNotOurs) || !strings.Contains(err.Error(), "got spiffe://example.org/orders") {
		t.Errorf("got %v", err)
	}
	if err := s.Start(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("started again: %v", err)
	}
}

func TestNew_FailureLeavesNothingBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name, want string
		spoil      func(*shop)
	}{
		{"bad policy", "policy.yaml:1:", func(s *shop) { s.write("nonsense: true\n") }},
		{"empty policy", "policy.yaml", func(s *shop) { s.write("") }},
		{"no policy", "no such file", func(s *shop) { s.config.PolicyFile += ".not" }},
		{"no socket", "opening the identity: " + filepath.Join("/no/such.sock") + " is not there", func(s *shop) { s.config.Identity = "unix:///no/such.sock" }},
		{"no identity", "opening the identity", func(s *shop) { s.config.Identity = "" }},
		{"admin port in use", "opening the admin listener: " + taken.Addr().String() + " is in use", func(s *shop) { s.config.Admin = taken.Addr().String() }},
		{"inbound port in use", "opening the inbound listener: " + taken.Addr().String() + " is in use", func(s *shop) { s.config.Inbound = taken.Addr().String() }},
		{"audit directory", "opening the audit log", func(s *shop) { s.config.Audit = "/no/such/dir/audit.log" }},
		{"audit mode", "neither refuse nor count", func(s *shop) { s.config.AuditOnFailure = "shrug" }},
		{"call's port in use", "in use", func(s *shop) {
			s.write(s.policy() + "calls:\n  db: {as: spiffe://example.org/db, at: 127.0.0.1:1, local: " + taken.Addr().String() + ", allow: [GET /]}\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			shop := newShop(t)
			c.spoil(shop)
			admin, inbound := held(t), held(t)
			shop.config.AdminListener, shop.config.InboundListener = admin, inbound
			if strings.HasPrefix(c.name, "admin port") {
				shop.config.AdminListener = nil
			}
			if strings.HasPrefix(c.name, "inbound port") {
				shop.config.InboundListener = nil
			}
			before := goleak.IgnoreCurrent()
			s, err := New(shop.config)
			if err == nil {
				s.Stop(context.Background())
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want …%s…", err, c.want)
			}
			goleak.VerifyNone(t, before)
			for _, ln := range []net.Listener{shop.config.AdminListener, shop.config.InboundListener} {
				if ln != nil && ln.Close() == nil {
					t.Errorf("%s is still open", ln.Addr())
				}
			}
		})
	}
}

// held is a listener that the test closes, unless the sidecar did.
func held(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestStop_AgainstStartLeavesNothing(t *testing.T) {
	shop := newShop(t)
	for range 20 {
		s, err := New(shop.config)
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() {
			if err := s.Start(t.Context()); err != nil && !errors.Is(err, ErrStopped) {
				t.Errorf("start: %v", err)
			}
		})
		both.Go(func() {
			if err := s.Stop(t.Context()); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
		both.Wait()
		if _, err := net.Dial("tcp", s.Addr("admin").String()); err == nil {
			t.Error("the admin listener is still open")
		}
	}
}

func TestStop_BeforeStartAndAgain(t *testing.T) {
	shop := newShop(t)
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Start(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("start: %v", err)
	}
}

func TestNew_TwoInOneProcess(t *testing.T) {
	one, two := newShop(t), newShop(t)
	first, second := one.start(), two.start()
	one.want(one.client("web"), orderURL(first), 200)
	two.want(two.client("web"), orderURL(second), 200)
	if err := first.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	two.want(two.client("web"), orderURL(second), 200)
}

// RT06, O10.
func TestStop_NotReadyAtOnceWhileSlowRequestsFinish(t *testing.T) {
	shop := newShop(t)
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	shop.app.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "slow order")
	})
	s := shop.start()
	client := shop.client("web")
	answers := make(chan string, 10)
	for range 10 {
		go func() {
			_, body, err := get(client, orderURL(s))
			answers <- fmt.Sprint(body, err)
		}()
	}
	for range 10 {
		<-arrived
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(ctx) }()
	plain := shop.client("")
	until(t, "not ready", func() bool { status, _, _ := get(plain, adminURL(s, "/readyz")); return status == 503 })
	if body := shop.want(plain, adminURL(s, "/readyz"), 503); !strings.Contains(body, "stopping") {
		t.Errorf("got %q", body)
	}
	until(t, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", s.Addr("inbound").String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(release)
	for range 10 {
		if got := <-answers; got != "slow order<nil>" {
			t.Errorf("got %q", got)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := strings.Count(shop.audit.String(), `"status":200`); n != 10 {
		t.Errorf("%d of 10 requests are in the audit log", n)
	}
}

// RT06: what outlasts the drain is cut, which is no fault.
func TestStop_CutsWhatOutlastsTheDrain(t *testing.T) {
	shop := newShop(t)
	arrived := make(chan struct{})
	shop.app.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	shop.config.Drain = 20 * time.Millisecond
	s := shop.start()
	answer := make(chan error, 1)
	go func() {
		_, _, err := get(shop.client("web"), orderURL(s))
		answer <- err
	}()
	<-arrived
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-answer; err == nil {
		t.Error("the request was answered")
	}
	if !strings.Contains(shop.log.String(), `msg="requests were cut: they outlasted the drain" side=inbound`) {
		t.Error(shop.log.String())
	}
}

func TestRun_EndsCleanlyWithItsContext(t *testing.T) {
	shop := newShop(t)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- Run(ctx, shop.config) }()
	until(t, "ready", func() bool { return strings.Contains(shop.log.String(), "msg=ready") })
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if !strings.Contains(shop.log.String(), "msg=stopped") {
		t.Error(shop.log.String())
	}
}

func TestRun_ListenerThatBreaksEndsIt(t *testing.T) {
	shop := newShop(t)
	shop.config.InboundListener = held(t)
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- s.Run(t.Context()) }()
	until(t, "ready", func() bool { return s.Ready() == nil })
	shop.config.InboundListener.Close()
	if err := <-ran; err == nil || !strings.Contains(err.Error(), "serving inbound") {
		t.Errorf("got %v", err)
	}
}

// C18, C24.
func TestReload_BadFileChangesNothingAndIsAnnounced(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	web, plain := shop.client("web"), shop.client("")
	before := s.Policy()
	shop.write("service: spiffe://example.org/orders\nalow: []\n")
	if err := s.Reload(); err == nil || !errors.As(err, new(policy.Problems)) {
		t.Errorf("reload: %v", err)
	}
	if s.Policy() != before {
		t.Error("the policy changed")
	}
	shop.want(web, orderURL(s), 200)
	if body := shop.want(plain, adminURL(s, "/readyz"), 200); !strings.HasPrefix(body, "ready, degraded\npolicy: still at generation 1: ") || !strings.Contains(body, "policy.yaml:2:1: ") {
		t.Errorf("readyz: %q", body)
	}
	if body := shop.want(plain, adminURL(s, "/metrics"), 200); !strings.Contains(body, "everyhop_policy_last_reload_successful 0") {
		t.Error("the metric says that all is well")
	}
	if body := shop.want(plain, adminURL(s, "/policy"), 200); !strings.Contains(body, "policy.yaml:2:1: ") {
		t.Errorf("policy: %s", body)
	}
	shop.write(strings.Replace(shop.policy(), "example.org/web", "example.org/billing", 1))
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	shop.want(web, orderURL(s), 403)
	shop.want(shop.client("billing"), orderURL(s), 200)
	if body := shop.want(plain, adminURL(s, "/readyz"), 200); body != "ready\n" {
		t.Errorf("readyz: %q", body)
	}
	if !strings.Contains(shop.log.String(), `msg="policy adopted"`) {
		t.Error(shop.log.String())
	}
}

func TestReload_FileIsWatched(t *testing.T) {
	shop := newShop(t)
	shop.config.Poll = 10 * time.Millisecond
	s := shop.start()
	shop.write(strings.Replace(shop.policy(), "example.org/web", "example.org/billing", 1))
	until(t, "the change", func() bool { return s.Policy().Generation > 1 })
	shop.want(shop.client("web"), orderURL(s), 403)
}

func TestReload_WhatDoesNotFitARunningProcessIsNotAdopted(t *testing.T) {
	taken := held(t)
	for _, c := range []struct{ name, want string }{
		{"service", "restart to become another service"},
		{"app", "restart to close the inbound listener"},
		{"call", "in use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			shop := newShop(t)
			s := shop.start()
			before := s.Policy()
			text := shop.policy()
			call := "calls:\n  db: {as: spiffe://example.org/db, at: 127.0.0.1:1, local: " + taken.Addr().String() + ", allow: [GET /]}\n"
			switch c.name {
			case "service":
				text = strings.Replace(text, "example.org/orders", "example.org/other", 1)
			case "app":
				text = "service: spiffe://example.org/orders\n" + strings.Replace(call, taken.Addr().String(), "127.0.0.1:1", 1)
			case "call":
				text += call
			}
			shop.write(text)
			if err := s.Reload(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("reload: %v", err)
			}
			if s.Policy() != before {
				t.Error("the policy changed")
			}
			shop.want(shop.client("web"), orderURL(s), 200)
			if body := shop.want(shop.client(""), adminURL(s, "/readyz"), 200); !strings.Contains(body, "degraded") || !strings.Contains(body, c.want) {
				t.Errorf("readyz: %q", body)
			}
		})
	}
}

func TestReload_CallAddedIsServed(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	if at := s.Addr("peer"); at != nil {
		t.Fatalf("a call that is not declared is at %s", at)
	}
	free := held(t)
	free.Close()
	shop.write(shop.policy() + "calls:\n  peer: {as: spiffe://example.org/peer, at: 127.0.0.1:1, local: " + free.Addr().String() + ", allow: [GET /x]}\n")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	at := s.Addr("peer")
	if at == nil {
		t.Fatal("the call has no address")
	}
	shop.want(shop.client(""), "http://"+at.String()+"/undeclared", 403)
	shop.want(shop.client(""), "http://"+at.String()+"/x", 502)
}

// L05, RT15.
func TestAudit_BrokenLogRefusesRequestsAndReadiness(t *testing.T) {
	shop := newShop(t)
	shop.config.Audit = "/dev/full"
	s := shop.start()
	web := shop.client("web")
	until(t, "refused", func() bool { status, _, err := get(web, orderURL(s)); return err == nil && status == 503 })
	if body := shop.want(shop.client(""), adminURL(s, "/readyz"), 503); !strings.Contains(body, "no space left on device") {
		t.Errorf("readyz: %q", body)
	}
	if err := s.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "closing the audit log") {
		t.Errorf("stop: %v", err)
	}
}

func TestRun_SaysWhatItWaitsForAndStopsCleanlyMeanwhile(t *testing.T) {
	shop := newShop(t)
	empty := filepath.Join(shop.dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	shop.config.Identity = "dir:" + empty
	var late atomic.Int64
	shop.config.Now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	until(t, "it says so", func() bool {
		late.Add(int64(identitySay))
		return strings.Contains(shop.log.String(), `msg="not ready: waiting for the identity" source=dir:`+empty)
	})
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
