package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everyhop/everyhop/identity/dev"
	"github.com/everyhop/everyhop/sidecar"
)

// hostName is in every certificate: most foreign programs know no SPIFFE ID, and
// cannot verify a chain without a host name.
const hostName = "orders.internal"

// mesh is a trust domain, and the sidecars and apps of one test in it.
type mesh struct {
	t      testing.TB
	dir    string
	domain *dev.Domain
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	dir, err := os.MkdirTemp("", "mesh") // t.TempDir is too long for the path of a socket
	must(t, err)
	must(t, os.Chmod(dir, 0o755)) // nginx and HAProxy may drop what root may
	domain, err := dev.Open(filepath.Join(dir, "td"), dev.Options{DNSNames: []string{hostName}})
	must(t, err)
	t.Cleanup(func() {
		if err := domain.Close(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	must(t, domain.Serve("web", "orders"))
	return &mesh{t: t, dir: dir, domain: domain}
}

// member is one service of the mesh with its sidecar.
type member struct {
	*sidecar.Sidecar
	t     testing.TB
	audit string // the audit file's path
	log   *syncBuffer
}

// join starts the sidecar of name, with that policy.
func (m *mesh) join(name, policy string) *member {
	m.t.Helper()
	file := filepath.Join(m.dir, name+".yaml")
	must(m.t, os.WriteFile(file, []byte(policy), 0o600))
	s := &member{t: m.t, audit: filepath.Join(m.dir, name+".audit"), log: &syncBuffer{}}
	var err error
	s.Sidecar, err = sidecar.New(sidecar.Config{
		PolicyFile: file,
		Identity:   m.domain.Socket(name),
		Inbound:    "127.0.0.1:0",
		Admin:      "127.0.0.1:0",
		Audit:      s.audit,
		AuditPaths: true,
		Logger:     slog.New(slog.NewTextHandler(s.log, nil)),
	})
	must(m.t, err)
	m.t.Cleanup(s.stop)
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	must(m.t, s.Start(ctx))
	return s
}

func (s *member) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		s.t.Error(err)
	}
	if log := s.log.String(); strings.Contains(log, "panic") {
		s.t.Errorf("the sidecar's log tells of a panic:\n%s", log)
	}
}

// record is what the tests read of an audit record.
type record struct {
	Method  string
	Path    string
	Grant   string
	Verdict string
	Reason  string
	Status  int
}

// stopAndRead stops the sidecar, so that every record is written, and reads them.
func (s *member) stopAndRead() []record {
	s.t.Helper()
	s.stop()
	file, err := os.Open(s.audit)
	must(s.t, err)
	defer file.Close()
	var records []record
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			s.t.Fatalf("audit line %q: %v", lines.Text(), err)
		}
		records = append(records, r)
	}
	return records
}

// methods are what the policies of these tests let pass.
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

func routes(path string) string {
	all := make([]string, len(methods))
	for i, method := range methods {
		all[i] = fmt.Sprintf("%q", method+" "+path)
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// ordersPolicy lets web ask the app, which is named with its scheme, anything
// that is not below /admin.
func ordersPolicy(app string) string {
	var routed strings.Builder
	for _, top := range []string{"/a/**", "/public/**", "/api/**", "/grpc.testing.TestService/**", "/grpc.testing.UnimplementedService/**", "/xds.service.orca.v3.OpenRcaService/**"} {
		fmt.Fprintf(&routed, "  - name: %q\n    from: spiffe://example.org/web\n    to: %s\n    body: {max: none}\n", top, routes(top))
		routed.WriteString("    headers: [x-id, x-grpc-test-echo-initial, x-grpc-test-echo-trailing-bin]\n    query: [q]\n")
	}
	return fmt.Sprintf(`service: spiffe://example.org/orders
app: %s
timeouts: {headers: 5s, body: 10s, write: 10s, idle: 60s}
allow:
%s`, app, routed.String())
}

// webPolicy lets the app call orders, which is at an address.
func webPolicy(at, local string) string {
	return fmt.Sprintf(`service: spiffe://example.org/web
calls:
  orders:
    as: spiffe://example.org/orders
    at: %s
    local: %s
    allow: %s
`, at, local, routes("/**"))
}

// pair is two sidecars: an app's calls to local go through both to the other app.
type pair struct {
	*mesh
	web, orders    *member
	local, inbound string // addresses
}

func (m *mesh) pair(app string) *pair {
	m.t.Helper()
	p := &pair{mesh: m, orders: m.join("orders", ordersPolicy(app)), local: freeAddress(m.t)}
	p.inbound = p.orders.Addr("inbound").String()
	p.web = m.join("web", webPolicy(p.inbound, p.local))
	return p
}

// svid is a folder with an SVID, as `everyhop dev svid` writes it, and both.pem:
// HAProxy wants certificate and key in one file.
func (m *mesh) svid(name string) string {
	m.t.Helper()
	folder := filepath.Join(m.dir, "svid-"+name)
	out, err := exec.Command(everyhop(m.t), "dev", "svid", "--dir", filepath.Join(m.dir, "td"),
		"--dns", hostName, "--out", folder, name).CombinedOutput()
	if err != nil {
		m.t.Fatalf("everyhop dev svid: %v\n%s", err, out)
	}
	svid, err := os.ReadFile(filepath.Join(folder, "svid.pem"))
	must(m.t, err)
	key, err := os.ReadFile(filepath.Join(folder, "key.pem"))
	must(m.t, err)
	must(m.t, os.WriteFile(filepath.Join(folder, "both.pem"), append(svid, key...), 0o600))
	return folder
}

// tls is what a client presents an SVID of name with; whom it reaches is not what
// these tests are about.
func (m *mesh) tls(name string, protocols ...string) *tls.Config {
	m.t.Helper()
	svid, err := m.domain.Mint(name)
	must(m.t, err)
	return &tls.Config{
		Certificates:       []tls.Certificate{svid.TLS()},
		InsecureSkipVerify: true,
		NextProtos:         protocols,
	}
}

// serve runs an app in this process. With h2c it speaks HTTP/2 as well.
func (m *mesh) serve(handler http.Handler, h2c bool) (address string) {
	m.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(m.t, err)
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(h2c)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	m.t.Cleanup(func() { _ = server.Close(); <-done })
	return ln.Addr().String()
}

// freeAddress is on loopback, with a port that was free when it was asked for:
// foreign programs cannot be told to choose one and say which.
func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// await looks again and again until it holds: nobody tells when a foreign program
// is ready, or a process has let go of its memory.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patient); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// syncBuffer is a buffer that a server writes and a test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
