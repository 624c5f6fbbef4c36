package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/identity/dev"
	"github.com/everyhop/everyhop/sidecar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mesh is a trust domain, and the sidecars and apps of one test in it.
type mesh struct {
	t      *testing.T
	dir    string
	domain *dev.Domain
}

func newMesh(t *testing.T, names ...string) *mesh {
	t.Helper()
	return newMeshOf(t, dev.Options{}, names...)
}

func newMeshOf(t *testing.T, options dev.Options, names ...string) *mesh {
	t.Helper()
	dir, err := os.MkdirTemp("", "mesh") // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	domain, err := dev.Open(filepath.Join(dir, "td"), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := domain.Close(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	if err := domain.Serve(names...); err != nil {
		t.Fatal(err)
	}
	return &mesh{t: t, dir: dir, domain: domain}
}

// member is one service of the mesh with its sidecar.
type member struct {
	*sidecar.Sidecar
	t      *testing.T
	policy string // the policy's path
	audit  string // the audit file's path
	log    *syncBuffer
}

// join starts the sidecar of name, with that policy.
func (m *mesh) join(name, policy string) *member {
	m.t.Helper()
	s := &member{
		t:      m.t,
		policy: filepath.Join(m.dir, name+".yaml"),
		audit:  filepath.Join(m.dir, name+".audit"),
		log:    &syncBuffer{},
	}
	s.write(policy)
	var err error
	s.Sidecar, err = sidecar.New(sidecar.Config{
		PolicyFile:  s.policy,
		Identity:    m.domain.Socket(name),
		Inbound:     "127.0.0.1:0",
		Admin:       "127.0.0.1:0",
		Audit:       s.audit,
		AuditPaths:  true,
		AuditAllows: 1,
		Logger:      slog.New(slog.NewTextHandler(s.log, nil)),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(s.stop)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (s *member) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		s.t.Error(err)
	}
	if log := s.log.String(); strings.Contains(log, "panic") {
		s.t.Errorf("the sidecar's log tells of a panic:\n%s", log)
	}
}

// write puts a policy in place as a careful editor does: whole, by rename.
func (s *member) write(policy string) {
	s.t.Helper()
	fresh := s.policy + ".new"
	if err := os.WriteFile(fresh, []byte(policy), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(fresh, s.policy); err != nil {
		s.t.Fatal(err)
	}
}

// record is what the tests read of an audit record.
type record struct {
	ID         string  `json:"id"`
	Direction  string  `json:"direction"`
	Caller     string  `json:"caller"`
	Serial     string  `json:"caller_serial"`
	Method     string  `json:"method"`
	Route      string  `json:"route"`
	Path       string  `json:"path"`
	Grant      string  `json:"grant"`
	Verdict    string  `json:"verdict"`
	Reason     string  `json:"reason"`
	Status     int     `json:"status"`
	Digest     string  `json:"policy"`
	Generation uint64  `json:"generation"`
	Peer       string  `json:"peer"`
	In         int64   `json:"bytes_in"`
	Out        int64   `json:"bytes_out"`
	Seconds    float64 `json:"duration_seconds"`
}

// stopAndRead stops the sidecar, so that every record is written, and reads them.
func (s *member) stopAndRead() []record {
	s.t.Helper()
	s.stop()
	file, err := os.Open(s.audit)
	if err != nil {
		s.t.Fatal(err)
	}
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

// client is an HTTP client that presents an SVID of name, and takes any answer:
// whom it reaches is not what these tests are about.
func (m *mesh) client(name string, protocols ...string) *http.Client {
	m.t.Helper()
	svid, err := m.domain.Mint(name)
	if err != nil {
		m.t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{
			Certificates:       []tls.Certificate{svid.TLS()},
			InsecureSkipVerify: true,
			NextProtos:         protocols,
		},
		ForceAttemptHTTP2:   len(protocols) > 0 && protocols[0] == "h2",
		MaxIdleConnsPerHost: 64,
	}
	m.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// app is the app behind a sidecar: it answers with what it was asked, and counts.
func (m *mesh) app() (address string, seen *syncBuffer) {
	m.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	seen = &syncBuffer{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(seen, "%s %s\n", r.Method, r.RequestURI)
		fmt.Fprintf(w, "%s %s for %s", r.Method, r.RequestURI, r.Header.Get("Everyhop-Caller"))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	m.t.Cleanup(func() { _ = server.Close(); <-done })
	return ln.Addr().String(), seen
}

// leaf is the certificate that a server presents.
func (m *mesh) leaf(address string) *x509.Certificate {
	m.t.Helper()
	svid, err := m.domain.Mint("web")
	if err != nil {
		m.t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", address, &tls.Config{Certificates: []tls.Certificate{svid.TLS()}, InsecureSkipVerify: true})
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// get asks once; the answer's body is read to its end.
func get(c *http.Client, url string) (status int, body string, err error) {
	answer, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
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
