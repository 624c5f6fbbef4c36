package dev

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"go.uber.org/goleak"
)

// serveForever makes this test binary a process that serves the directory it
// names, and says so on stdout, until it is killed.
const serveForever = "EVERYHOP_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveForever); dir != "" {
		d, err := Open(dir, Options{})
		if err == nil {
			err = d.Serve("web")
		}
		fmt.Println("served", err)
		select {}
	}
	goleak.VerifyTestMain(m)
}

// tempDir is short: a unix socket's path may have only 107 bytes, and a test's
// name is often longer.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dev")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "d")
}

func open(t *testing.T, dir string, o Options) *Domain {
	t.Helper()
	d, err := Open(dir, o)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

// serve is a new trust domain that serves the names.
func serve(t *testing.T, o Options, names ...string) *Domain {
	t.Helper()
	d := open(t, tempDir(t), o)
	must(t, d.Serve(names...))
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testContext ends a test that waits for what does not come.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, d *Domain, name string) *workloadapi.Client {
	t.Helper()
	c, err := workloadapi.New(testContext(t), workloadapi.WithAddr(d.Socket(name)))
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func source(t *testing.T, d *Domain, name string) *workloadapi.X509Source {
	t.Helper()
	s, err := workloadapi.NewX509Source(testContext(t), workloadapi.WithClientOptions(workloadapi.WithAddr(d.Socket(name))))
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// watcher hands on what a client is told.
type watcher struct {
	updates chan *workloadapi.X509Context
	errors  chan error
}

func (w watcher) OnX509ContextUpdate(c *workloadapi.X509Context) { w.updates <- c }
func (w watcher) OnX509ContextWatchError(err error)              { w.errors <- err }

func watch(t *testing.T, d *Domain, name string) watcher {
	t.Helper()
	w := watcher{updates: make(chan *workloadapi.X509Context, 100), errors: make(chan error, 100)}
	ctx, cancel := context.WithCancel(testContext(t))
	client := dial(t, d, name)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = client.WatchX509Context(ctx, w)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w watcher) next(t *testing.T) *workloadapi.X509Context {
	t.Helper()
	select {
	case c := <-w.updates:
		return c
	case <-testContext(t).Done():
		t.Fatal("nothing came")
		return nil
	}
}

// handshake is what the server made of one mTLS handshake over a socket: in
// TLS 1.3 it is the last to say no.
func handshake(t *testing.T, client, server *tls.Config) error {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	must(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).HandshakeContext(t.Context())
			conn.Close()
		}
		done <- err
	}()
	if conn, err := tls.Dial("tcp", l.Addr().String(), client); err == nil {
		defer conn.Close()
	}
	return <-done
}

func serial(c *workloadapi.X509Context) string {
	return c.DefaultSVID().Certificates[0].SerialNumber.String()
}

// verify checks a leaf as any TLS peer would.
func verify(leaf *x509.Certificate, roots []*x509.Certificate, now time.Time) error {
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}
