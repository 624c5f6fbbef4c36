package inbound_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/everyhop/everyhop/inbound"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

const handshake = "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// socketHouse is a house whose app switches to WebSocket, and says back what it
// hears.
func socketHouse(t *testing.T, edit func(*inbound.Config)) *house {
	t.Helper()
	h := newHouse(t, edit)
	h.app.answer = func(c net.Conn, r *http.Request, _ int) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}
	caller, err := match.ParseCaller("spiffe://td.test/" + web)
	must(t, err)
	path, err := match.ParsePath("/ws", nil)
	must(t, err)
	snapshot, err := policy.Compile(&policy.Spec{
		Service: id(t, service), App: h.policy.Load().App, Timeouts: policy.DefaultTimeouts(),
		Allow: []policy.Grant{{Name: "ws", From: []policy.Caller{{Pattern: caller}}, To: []policy.Route{{Method: "GET", Path: path}}, Upgrade: &policy.Text{Text: "websocket"}}},
	}, nil)
	must(t, err)
	h.policy.Store(snapshot)
	return h
}

// socket is an open one of web's.
func (h *house) socket(header string) (*tls.Conn, *bufio.Reader) {
	h.t.Helper()
	svid, err := h.domain.Mint(web)
	must(h.t, err)
	c, err := tls.Dial("tcp", h.address, &tls.Config{Certificates: []tls.Certificate{svid.TLS()}, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	must(h.t, err)
	h.t.Cleanup(func() { _ = c.Close() })
	must(h.t, c.SetDeadline(time.Now().Add(patient)))
	_, err = io.WriteString(c, handshake+header+"\r\n\x81\x85\x00\x00\x00\x00hello")
	must(h.t, err)
	in := bufio.NewReader(c)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != 101 {
		h.t.Fatalf("%v, %+v", err, answer)
	}
	got := make([]byte, 11)
	if _, err := io.ReadFull(in, got); err != nil || !strings.HasSuffix(string(got), "hello") {
		h.t.Fatalf("%q, %v", got, err)
	}
	return c, in
}

// U05, I3: the app is told who calls, and by nobody else.
func TestWebSocket_AppIsToldWhoCalls(t *testing.T) {
	h := socketHouse(t, nil)
	if h.server.Tunnels() != 0 {
		t.Error("there is one before it was opened")
	}
	c, _ := h.socket("Everyhop-Caller: spoofed\r\nX-Spiffe-Id: spoofed\r\nSec-WebSocket-Protocol: chat\r\nCookie: sid=1\r\n")
	if h.server.Tunnels() != 1 {
		t.Errorf("%d are open", h.server.Tunnels())
	}
	c.Close()
	seen := strings.Join(h.app.seen(), "")
	for _, want := range []string{"GET /ws HTTP/1.1\r\n", "Everyhop-Caller: spiffe://td.test/" + web + "\r\n", "Sec-WebSocket-Protocol: chat\r\n"} {
		if !strings.Contains(strings.ToLower(seen), strings.ToLower(want)) {
			t.Errorf("%q is not in %q", want, seen)
		}
	}
	if strings.Contains(seen, "spoofed") || strings.Contains(seen, "sid=1") {
		t.Errorf("the app got %q", seen)
	}
	if r := h.record(); r.Status != 101 || r.BytesIn != 11 || r.BytesOut != 11 || r.Verdict != "allow" {
		t.Errorf("%+v", r)
	}
}

// U13: whoever is not who they were is told to go, whatever the policy says.
func TestWebSocket_PeerThatDoesNotHoldAnyMoreIsClosed(t *testing.T) {
	for reason, change := range map[string]func(*house, *atomic.Bool){
		"peer_unverified": func(_ *house, distrusted *atomic.Bool) { distrusted.Store(true) },
		"peer_expired":    func(h *house, _ *atomic.Bool) { h.clock.Store(int64(1000 * time.Hour)) },
	} {
		var distrusted atomic.Bool
		h := socketHouse(t, func(c *inbound.Config) {
			c.Recheck = func(tls.ConnectionState) error {
				if distrusted.Load() {
					return errors.New("its trust bundle is gone")
				}
				return nil
			}
		})
		_, in := h.socket("")
		h.server.Recheck()
		change(h, &distrusted)
		h.server.Recheck()
		if got, err := io.ReadAll(in); string(got) != "\x88\x02\x03\xf0" || err != nil {
			t.Errorf("%s: % x, %v", reason, got, err)
		}
		if r := h.record(); r.Reason != reason || r.Verdict != "allow" || r.Status != 101 {
			t.Errorf("%+v, want %s", r, reason)
		}
	}
}

// U14: SIGTERM with 100 open sockets.
func TestWebSocket_StopWith100OfThem(t *testing.T) {
	h := socketHouse(t, nil)
	all := map[*tls.Conn]*bufio.Reader{}
	for range 100 {
		c, in := h.socket("")
		all[c] = in
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- h.server.Stop(ctx) }()
	for c, in := range all {
		if got, err := io.ReadAll(in); string(got) != "\x88\x02\x03\xe9" || err != nil {
			t.Errorf("% x, %v", got, err)
		}
		c.Close()
		if r := h.record(); r.Reason != "stopped" {
			t.Errorf("%+v", r)
		}
	}
	must(t, <-stopped)
}
