package test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everyhop/everyhop/identity/dev"
)

// visitor is a client with an SVID and everything that it keeps open: a connection
// without requests, a stream, a gRPC stream, a WebSocket, and bytes.
type visitor struct {
	t      *testing.T
	svid   *dev.SVID
	closed []func()
	open   map[string]*stay
}

// stay is one of them, until it ends.
type stay struct {
	ended chan struct{} // closed when it has
	at    time.Time     // when
	how   string        // what the client was told
}

func newStay() *stay { return &stay{ended: make(chan struct{})} }

func (s *stay) end(how string) {
	s.at, s.how = time.Now(), how
	close(s.ended)
}

func (s *stay) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

var kinds = []string{"idle h2 connection", "busy stream", "gRPC stream", "WebSocket", "TCP relay"}

// visit opens all of it at two sidecars: of an HTTP app and of one of bytes.
func visit(t *testing.T, svid *dev.SVID, orders, db string) *visitor {
	t.Helper()
	v := &visitor{t: t, svid: svid, open: map[string]*stay{}}
	t.Cleanup(v.leave)
	v.idle(orders)
	v.stream(orders, "busy stream", "/stream", nil)
	v.stream(orders, "gRPC stream", "/grpc.Talk/Say", http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}})
	v.socket(orders)
	v.relay(db)
	return v
}

func (v *visitor) leave() {
	for _, closed := range v.closed {
		closed()
	}
	for _, kind := range kinds {
		if s := v.open[kind]; s != nil {
			<-s.ended
		}
	}
}

func (v *visitor) tls(protocols ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{v.svid.TLS()}, InsecureSkipVerify: true, NextProtos: protocols}
}

// transport is HTTP/2 over connections that say when they end.
func (v *visitor) transport(ended func()) *http.Transport {
	to := &http.Transport{
		TLSClientConfig: v.tls("h2"), ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return &noting{Conn: c, ended: sync.OnceFunc(ended)}, err
		},
	}
	v.closed = append(v.closed, to.CloseIdleConnections)
	return to
}

// noting tells when the connection has ended: by the other end, or by a client that
// was asked to go.
type noting struct {
	net.Conn
	ended func()
}

func (n *noting) Read(p []byte) (int, error) {
	got, err := n.Conn.Read(p)
	if err != nil {
		n.ended()
	}
	return got, err
}

func (n *noting) Close() error {
	n.ended()
	return n.Conn.Close()
}

func (v *visitor) idle(address string) {
	v.t.Helper()
	s := newStay()
	client := &http.Client{Transport: v.transport(func() { s.end("closed") })}
	if status, body, err := get(client, "https://"+address+"/hello"); status != http.StatusOK {
		v.t.Fatalf("%d %q %v", status, body, err)
	}
	v.open["idle h2 connection"] = s
}

func (v *visitor) stream(address, kind, path string, header http.Header) {
	v.t.Helper()
	s := newStay()
	ctx, cancel := context.WithCancel(context.Background())
	v.closed = append([]func(){cancel}, v.closed...)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	answer, err := v.transport(func() {}).RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusOK {
		v.t.Fatalf("%s: %v %v", kind, answer, err)
	}
	v.open[kind] = s
	go func() {
		defer answer.Body.Close()
		_, err := io.Copy(io.Discard, answer.Body)
		if status := answer.Trailer.Get("Grpc-Status"); status != "" {
			s.end("grpc-status " + status)
			return
		}
		s.end(fmt.Sprint(err))
	}()
}

func (v *visitor) socket(address string) {
	v.t.Helper()
	s := newStay()
	c, err := tls.Dial("tcp", address, v.tls("http/1.1"))
	if err != nil {
		v.t.Fatal(err)
	}
	v.closed = append(v.closed, func() { _ = c.Close() })
	fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	in := bufio.NewReader(c)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		v.t.Fatalf("%v %v", answer, err)
	}
	v.open["WebSocket"] = s
	go func() {
		said, err := io.ReadAll(in)
		if i := strings.LastIndex(string(said), "\x88\x02"); i >= 0 {
			s.end(fmt.Sprintf("close %d", int(said[i+2])<<8|int(said[i+3])))
			return
		}
		s.end(fmt.Sprint(err))
	}()
}

func (v *visitor) relay(address string) {
	v.t.Helper()
	s := newStay()
	c, err := tls.Dial("tcp", address, v.tls("everyhop-tcp"))
	if err != nil {
		v.t.Fatal(err)
	}
	v.closed = append(v.closed, func() { _ = c.Close() })
	var got [5]byte
	if _, err := io.WriteString(c, "hello"); err != nil {
		v.t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got[:]); err != nil {
		v.t.Fatal(err)
	}
	v.open["TCP relay"] = s
	go func() {
		_, err := c.Read(make([]byte, 1))
		s.end(fmt.Sprint(err))
	}()
}

// busyApp has endless answers, gRPC and other, and WebSockets.
func busyApp(t *testing.T) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var sockets sync.WaitGroup
	life, end := context.WithCancel(context.Background())
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/ws":
			sockets.Add(1)
			defer sockets.Done()
			echoSocket(life, w, r)
		case r.Method == http.MethodPost:
			sayOn(life, w, r)
		default:
			_, _ = io.WriteString(w, "hello")
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	t.Cleanup(func() { end(); _ = server.Close(); <-done; sockets.Wait() })
	return ln.Addr().String()
}

func sayOn(life context.Context, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := w.Write([]byte("\x00\x00\x00\x00\x01x")); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-life.Done():
			return
		}
	}
}

func echoSocket(life context.Context, w http.ResponseWriter, r *http.Request) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	stop := context.AfterFunc(life, func() { _ = c.Close() })
	defer stop()
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	_, _ = io.Copy(io.Discard, c)
}

// house is what the tests of leases visit: two sidecars, and two trust domains of
// which one is federated.
type house struct {
	*mesh
	partner    *dev.Domain
	orders, db *member
	app        string
	bytes      *bytesApp
}

const shop = "spiffe://partner.test/shop"

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{mesh: newMesh(t, "orders", "db"), app: busyApp(t), bytes: newBytesApp(t, echo)}
	var err error
	if h.partner, err = dev.Open(filepath.Join(h.dir, "partner"), dev.Options{TrustDomain: "partner.test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.partner.Close() })
	if err := h.domain.Federate(h.partner.Dir()); err != nil {
		t.Fatal(err)
	}
	both := "spiffe://example.org/web, " + shop
	h.orders = h.join("orders", h.ordersPolicy(both, ""))
	h.db = h.join("db", h.dbPolicy(both, ""))
	return h
}

func (h *house) ordersPolicy(from, more string) string {
	return fmt.Sprintf(`service: spiffe://example.org/orders
app: http://%s
%sallow:
  - {from: [%s], to: [GET /hello, POST /stream, POST /grpc.Talk/Say]}
  - {from: [%s], to: GET /ws, upgrade: websocket}
`, h.app, more, from, from)
}

func (h *house) dbPolicy(from, more string) string {
	return fmt.Sprintf(`service: spiffe://example.org/db
app: tcp://%s
%sallow:
  - {from: [%s], to: tcp}
`, h.bytes.address, more, from)
}

// adopt has both sidecars adopt policies, at once.
func (h *house) adopt(from, more string) {
	h.t.Helper()
	h.orders.write(h.ordersPolicy(from, more))
	h.db.write(h.dbPolicy(from, more))
	for _, s := range []*member{h.orders, h.db} {
		if err := s.Reload(); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *house) visit(domain *dev.Domain, name string, edits ...func(*x509.Certificate)) *visitor {
	h.t.Helper()
	svid, err := domain.Mint(name, edits...)
	if err != nil {
		h.t.Fatal(err)
	}
	return visit(h.t, svid, h.orders.Addr("inbound").String(), h.db.Addr("inbound").String())
}
