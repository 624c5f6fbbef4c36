package sidecar

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/identity/dev"
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

// L16.
// RT24.
// held is a listener that the test closes, unless the sidecar did.
// RT06, O10.
// RT06: what outlasts the drain is cut, which is no fault.
// C18, C24.
// L05, RT15.
