package test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

// bytesApp is an app behind a sidecar that speaks a protocol of its own: each
// connection is given to speak.
type bytesApp struct {
	address string
	dialled atomic.Int64
}

func newBytesApp(t *testing.T, speak func(c *net.TCPConn)) *bytesApp {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &bytesApp{address: ln.Addr().String()}
	var mu sync.Mutex
	var all []net.Conn
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			a.dialled.Add(1)
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			running.Go(func() {
				defer c.Close()
				speak(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range all {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return a
}

// echo says back what it hears, and ends when it has heard the end.
func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// bytesPolicy opens the app to web.
func bytesPolicy(app *bytesApp, more string) string {
	return fmt.Sprintf(`service: spiffe://example.org/db
app: tcp://%s
allow:
  - {name: web, from: spiffe://example.org/web, to: tcp}
%s`, app.address, more)
}

// tcpPair is web's sidecar calling db's, and where web's app dials.
func tcpPair(m *mesh, app *bytesApp) (web, db *member, local string) {
	m.t.Helper()
	db = m.join("db", bytesPolicy(app, ""))
	local = freeAddress(m.t)
	web = m.join("web", callingDB(db.Addr("inbound").String(), local))
	return web, db, local
}

func callingDB(at, local string) string {
	return fmt.Sprintf(`service: spiffe://example.org/web
calls:
  db: {as: spiffe://example.org/db, at: "%s", local: "%s", tcp: true}
`, at, local)
}

// freeAddress is one that nobody listened on a moment ago: a policy cannot say
// port 0.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// plain dials the address; the connection is closed with the test, and nothing on
// it takes for ever.
func plain(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// secure dials the address over TLS with an SVID of name.
func (m *mesh) secure(name, address string, alpn ...string) *tls.Conn {
	m.t.Helper()
	c := tls.Client(plain(m.t, address), m.clientTLS(name, alpn...))
	if err := c.Handshake(); err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *mesh) secures(name, address string, n int) (all []*tls.Conn) {
	m.t.Helper()
	for range n {
		all = append(all, m.secure(name, address))
	}
	return all
}

func (m *mesh) clientTLS(name string, alpn ...string) *tls.Config {
	m.t.Helper()
	svid, err := m.domain.Mint(name)
	if err != nil {
		m.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{svid.TLS()}, InsecureSkipVerify: true, NextProtos: alpn}
}

// talk says text and wants it said back.
func talk(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	hears(t, c, text)
}

func hears(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("heard %q, %v; want %q", got, err, text)
	}
}

// wantCut waits for the connection to be broken, rather than ended.
func wantCut(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, err := io.Copy(io.Discard, c)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after %d more bytes the connection ended with %v, want it broken", n, err)
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// eventually waits until it holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("this never came: %s", what)
		}
	}
}

// reasons are the verdicts and reasons of the records, sorted: connections end
// side by side.
func reasons(records []record) string {
	var all []string
	for _, r := range records {
		all = append(all, r.Verdict+" "+r.Reason)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func contextWithCancel() (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}

// oneShot is a client that keeps no connection.
var oneShot = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
