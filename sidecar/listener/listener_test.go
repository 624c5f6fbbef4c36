package listener

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func serverTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

func clientTLS(protos ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: protos}
}

type refusal struct {
	reason string
	err    error
}

// listen is a listener on loopback, with what it refuses.
func listen(t testing.TB, c Config) (*Listener, <-chan refusal) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return on(t, ln, c)
}

func on(t testing.TB, ln net.Listener, c Config) (*Listener, <-chan refusal) {
	t.Helper()
	refused := make(chan refusal, 10_000)
	c.OnRefused = func(reason string, err error) { refused <- refusal{reason, err} }
	l := New(ln, c)
	t.Cleanup(func() { l.Close(); l.CloseAll() })
	return l, refused
}

func dial(t testing.TB, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func dialTLS(t testing.TB, l *Listener) *tls.Conn {
	t.Helper()
	c := tls.Client(dial(t, l), clientTLS("http/1.1"))
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func accept(t testing.TB, l *Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantRefusal(t testing.TB, refused <-chan refusal, reason string) refusal {
	t.Helper()
	select {
	case r := <-refused:
		if r.reason != reason {
			t.Fatalf("refused for %q (%v), want %q", r.reason, r.err, reason)
		}
		return r
	case <-time.After(patience):
		t.Fatalf("nothing was refused, want %q", reason)
		panic("unreachable")
	}
}

// wantEnd reads until the other side has ended the connection.
func wantEnd(t testing.TB, c net.Conn) []byte {
	t.Helper()
	all, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection was not ended")
	}
	return all
}

func TestAccept_HandsOverABareTLSConnWithItsHandshakeDone(t *testing.T) {
	l, _ := listen(t, Config{TLS: serverTLS(t)})
	client := dialTLS(t, l)
	c, ok := accept(t, l).(*tls.Conn)
	if !ok || !c.ConnectionState().HandshakeComplete || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Fatalf("accepted %T", c)
	}
	if _, err := client.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
		t.Fatalf("read %q, error %v", got, err)
	}
	if l.Count() != 1 {
		t.Fatalf("count is %d, want 1", l.Count())
	}
	c.Close()
	if l.Count() != 0 {
		t.Fatalf("count after close is %d, want 0", l.Count())
	}
}

func TestAccept_NetHTTPSpeaksHTTP2OverIt(t *testing.T) {
	l, _ := listen(t, Config{TLS: serverTLS(t)})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	transport := &http.Transport{TLSClientConfig: clientTLS(), ForceAttemptHTTP2: true}
	answer, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	transport.CloseIdleConnections()
	server.Close()
	if err := <-done; string(text) != "HTTP/2.0" || !errors.Is(err, http.ErrServerClosed) {
		t.Fatalf("spoke %s, Serve ended with %v", text, err)
	}
}

func TestAccept_PlainConnectionsCanBeHalfClosed(t *testing.T) {
	l, _ := listen(t, Config{})
	client := dial(t, l)
	c := accept(t, l)
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, client)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); !ok {
		t.Fatal("the connection beneath is out of reach")
	}
}

func TestAccept_SlowHandshakesKeepNoOneWaiting(t *testing.T) {
	l, refused := listen(t, Config{TLS: serverTLS(t), HandshakeTimeout: 3 * time.Second})
	var slow []net.Conn
	for i := range 100 {
		c := dial(t, l)
		if _, err := c.Write([]byte{22, 3, 1, 2, 0, 1}[:i%7]); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	client := dialTLS(t, l)
	accept(t, l)
	if len(refused) != 0 {
		t.Fatal("RT11: the good client came only after slow ones were ended")
	}
	client.Close()
	for _, c := range slow {
		wantEnd(t, c)
	}
	for range slow {
		wantRefusal(t, refused, ReasonTimeout)
	}
}

func TestAccept_HelloMayComeInSmallPieces(t *testing.T) {
	for _, c := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{
		{"U23 segments of one byte", func(c net.Conn) net.Conn { return &byteWriter{c} }},
		{"U23 five records", func(c net.Conn) net.Conn { return &recordSplitter{Conn: c, into: 5} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, _ := listen(t, Config{TLS: serverTLS(t)})
			client := tls.Client(c.wrap(dial(t, l)), clientTLS("h2"))
			if err := client.Handshake(); err != nil {
				t.Fatal(err)
			}
			if p := accept(t, l).(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "h2" {
				t.Fatalf("protocol is %q", p)
			}
		})
	}
}

// byteWriter sends one byte a segment.
type byteWriter struct{ net.Conn }

func (w *byteWriter) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := w.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// recordSplitter spreads the first record, the ClientHello, over several.
type recordSplitter struct {
	net.Conn
	into int
}

func (w *recordSplitter) Write(p []byte) (int, error) {
	n := w.into
	w.into = 1
	if n == 1 {
		return w.Conn.Write(p)
	}
	const head = 5
	var out []byte
	body := p[head:]
	for i := range n {
		piece := body[len(body)*i/n : len(body)*(i+1)/n]
		out = append(out, p[0], p[1], p[2], byte(len(piece)>>8), byte(len(piece)))
		out = append(out, piece...)
	}
	if _, err := w.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func TestAccept_RefusesWhatIsNoGoodHandshake(t *testing.T) {
	verify := serverTLS(t)
	verify.VerifyConnection = func(tls.ConnectionState) error { return errors.New("no one we know") }
	hello := func(c *tls.Config) func(testing.TB, net.Conn) {
		return func(t testing.TB, raw net.Conn) {
			client := tls.Client(raw, c)
			client.Handshake()
			client.Read(make([]byte, 1))
		}
	}
	write := func(text string) func(testing.TB, net.Conn) {
		return func(t testing.TB, raw net.Conn) { io.WriteString(raw, text) }
	}
	old := clientTLS()
	old.MaxVersion = tls.VersionTLS12
	for _, c := range []struct {
		name   string
		do     func(testing.TB, net.Conn)
		reason string
	}{
		{"U25 an HTTP request", write("GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"), ReasonNotTLS},
		{"U25 HTTP/2 with prior knowledge", write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ReasonNotTLS},
		{"U26 PROXY v1", write("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), ReasonNotTLS},
		{"U26 PROXY v2", write("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), ReasonNotTLS},
		{"U25 TLS 1.2", hello(old), ReasonHandshake},
		{"X32 another protocol", hello(clientTLS("foo")), ReasonHandshake},
		{"an unknown peer", hello(clientTLS("h2")), ReasonHandshake},
		{"a port scan", func(_ testing.TB, raw net.Conn) { raw.Close() }, ReasonGone},
		{"half a hello", func(_ testing.TB, raw net.Conn) { io.WriteString(raw, "\x16\x03\x01\x02"); raw.Close() }, ReasonGone},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, refused := listen(t, Config{TLS: verify})
			raw := dial(t, l)
			c.do(t, raw)
			wantRefusal(t, refused, c.reason)
			if got := wantEnd(t, raw); bytes.Contains(got, []byte("secret")) {
				t.Fatalf("U25: the answer holds the input: %q", got)
			}
			l.Close()
			if l.Count() != 0 {
				t.Fatalf("count is %d, want 0", l.Count())
			}
		})
	}
}

func TestAccept_RefusedPeerReadsWhy(t *testing.T) {
	server := serverTLS(t)
	server.ClientAuth = tls.RequireAnyClientCert
	l, _ := listen(t, Config{TLS: server})
	client := dialTLS(t, l) // under TLS 1.3 it does not know yet
	if _, err := client.Write(make([]byte, 4<<10)); err != nil {
		t.Fatal(err)
	}
	_, err := client.Read(make([]byte, 1))
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Fatalf("error is %v, want the alert", err)
	}
}

// noting notes what is done with the sockets that it accepts.
type noting struct {
	net.Listener
	notes chan string
}

func (n *noting) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &notingConn{c.(*net.TCPConn), n.notes}, nil
}

type notingConn struct {
	*net.TCPConn
	notes chan string
}

func (c *notingConn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	c.notes <- fmt.Sprintf("keep-alive %v", config.Enable)
	return c.TCPConn.SetKeepAliveConfig(config)
}

func (c *notingConn) SetDeadline(at time.Time) error {
	c.notes <- fmt.Sprintf("deadline %v", !at.IsZero())
	return c.TCPConn.SetDeadline(at)
}

func (c *notingConn) CloseWrite() error {
	c.notes <- "close write"
	return c.TCPConn.CloseWrite()
}

func (c *notingConn) Close() error {
	c.notes <- "close"
	return c.TCPConn.Close()
}

func TestAccept_DoesToASocketWhatItMust(t *testing.T) {
	good, bad := serverTLS(t), serverTLS(t)
	bad.ClientAuth = tls.RequireAnyClientCert
	for _, c := range []struct {
		name   string
		config *tls.Config
		want   []string
	}{
		{"accepted: no deadline is left", good, []string{"keep-alive true", "deadline true", "deadline false"}},
		{"refused: the alert may arrive before the reset", bad, []string{"keep-alive true", "deadline true", "close write", "close"}},
		{"plain", nil, []string{"keep-alive true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			notes := make(chan string, 100)
			l, _ := on(t, &noting{ln, notes}, Config{TLS: c.config})
			client := dial(t, l)
			if c.config != nil {
				client = tls.Client(client, clientTLS("h2"))
				client.(*tls.Conn).Handshake()
			}
			if c.config != bad {
				accept(t, l)
			} else {
				wantEnd(t, client)
				client.Close()
			}
			for _, want := range c.want {
				select {
				case got := <-notes:
					if got != want {
						t.Fatalf("did %q, want %q", got, want)
					}
				case <-time.After(patience):
					t.Fatalf("never did %q", want)
				}
			}
		})
	}
}

func TestAccept_ConnectionsAboveTheCapAreClosedAtOnce(t *testing.T) {
	l, refused := listen(t, Config{TLS: serverTLS(t), MaxConns: 2})
	first := dialTLS(t, l)
	held := accept(t, l)
	dialTLS(t, l)
	accept(t, l)
	wantEnd(t, dial(t, l))
	wantRefusal(t, refused, ReasonConns)
	if l.Count() != 2 {
		t.Fatalf("count is %d, want 2", l.Count())
	}
	held.Close()
	first.Close()
	dialTLS(t, l)
	accept(t, l)
}

func TestAccept_HandshakesAboveTheBoundAreRefused(t *testing.T) {
	l, refused := listen(t, Config{TLS: serverTLS(t), MaxHandshakes: 2})
	slow := []net.Conn{dial(t, l), dial(t, l)}
	wantEnd(t, dial(t, l))
	wantRefusal(t, refused, ReasonHandshakes)
	for _, c := range slow {
		c.Close()
		wantRefusal(t, refused, ReasonGone)
	}
	dialTLS(t, l)
	accept(t, l)
}

// Whoever fills the handshakes with slow ones must not keep good peers out for
// the whole of a handshake's timeout.
func TestAccept_StaleHandshakeGivesWay(t *testing.T) {
	var at atomic.Int64
	start := time.Now()
	l, refused := listen(t, Config{
		TLS:              serverTLS(t),
		MaxHandshakes:    1,
		HandshakeTimeout: time.Hour,
		Now:              func() time.Time { return start.Add(time.Duration(at.Load())) },
	})
	slow := dial(t, l)
	for _, age := range []time.Duration{0, staleHandshake - 1} {
		at.Store(int64(age))
		wantEnd(t, dial(t, l))
		wantRefusal(t, refused, ReasonHandshakes)
	}
	at.Store(int64(staleHandshake))
	dialTLS(t, l)
	accept(t, l)
	wantRefusal(t, refused, ReasonStale)
	wantEnd(t, slow)
}

// brokenListener fails as the kernel does when file descriptors ran out.
type brokenListener struct {
	net.Listener
	fail  <-chan error
	tries chan<- time.Time
}

func (b *brokenListener) Accept() (net.Conn, error) {
	b.tries <- time.Now()
	if err := <-b.fail; err != nil {
		return nil, err
	}
	return b.Listener.Accept()
}

type noListener struct{ closed chan struct{} }

func (n noListener) Accept() (net.Conn, error) { <-n.closed; return nil, net.ErrClosed }
func (n noListener) Addr() net.Addr            { return &net.TCPAddr{} }
func (n noListener) Close() error              { close(n.closed); return nil }

func TestAccept_FailuresToAcceptBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail, tries := make(chan error), make(chan time.Time, 100)
		emfile := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		var told []refusal
		l := New(&brokenListener{noListener{make(chan struct{})}, fail, tries}, Config{
			OnRefused: func(reason string, err error) { told = append(told, refusal{reason, err}) },
		})
		last := <-tries
		for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000} {
			fail <- emfile
			next := <-tries
			if got := next.Sub(last); got != want*time.Millisecond {
				t.Fatalf("R21: tried again after %v, want %vms", got, int(want))
			}
			last = next
		}
		if len(told) != 11 || told[0].reason != ReasonAccept || !errors.Is(told[0].err, syscall.EMFILE) {
			t.Fatalf("told %v", told)
		}
		close(fail) // it works again, and waits
		l.Close()
	})
}

func TestAccept_RecoversFromAFailure(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fail := make(chan error, 3)
	for range 3 {
		fail <- syscall.EMFILE
	}
	close(fail)
	l, refused := on(t, &brokenListener{ln, fail, make(chan time.Time, 100)}, Config{})
	for range 3 {
		wantRefusal(t, refused, ReasonAccept)
	}
	dial(t, l)
	accept(t, l)
}

func TestAccept_EndsWithTheListenerBeneath(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, _ := on(t, ln, Config{TLS: serverTLS(t)})
	ln.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("error is %v", err)
	}
}

func TestClose_EndsHandshakesAndLeavesConnections(t *testing.T) {
	for range 20 {
		l, refused := listen(t, Config{TLS: serverTLS(t), HandshakeTimeout: time.Hour})
		client := dialTLS(t, l)
		served := accept(t, l)
		slow := dial(t, l)
		waiting := dialTLS(t, l) // done, and never accepted
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		wantEnd(t, slow)
		wantEnd(t, waiting)
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("error is %v", err)
		}
		if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
			t.Fatal("still listening")
		}
		if l.Close() == nil || len(refused) != 0 || l.Count() != 1 {
			t.Fatalf("%d refusals, %d open", len(refused), l.Count())
		}
		if _, err := served.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		l.CloseAll()
		wantEnd(t, client)
		if l.Count() != 0 {
			t.Fatalf("count is %d, want 0", l.Count())
		}
	}
}

func TestCloseWhere_CutsWhatItIsAskedTo(t *testing.T) {
	l, _ := listen(t, Config{TLS: serverTLS(t)})
	first := dialTLS(t, l)
	cut := accept(t, l)
	second := dialTLS(t, l)
	kept := accept(t, l)
	dial(t, l) // its handshake is under way: no one to ask about
	n := l.CloseWhere(func(c net.Conn) bool {
		if _, ok := c.(*tls.Conn); !ok {
			t.Errorf("asked about %T", c)
		}
		return c == cut
	})
	if n != 1 {
		t.Fatalf("cut %d, want 1", n)
	}
	wantEnd(t, first)
	if _, err := kept.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(second, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// A peer that does not read must not hold up the one who cuts it.
func TestCloseWhere_WaitsForNoPeer(t *testing.T) {
	l, _ := listen(t, Config{TLS: serverTLS(t)})
	dialTLS(t, l)
	c := accept(t, l)
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				done <- err
				return
			}
		}
	}()
	if n := l.CloseWhere(func(net.Conn) bool { return true }); n != 1 {
		t.Fatalf("cut %d, want 1", n)
	}
	<-done
}

func TestLease_EndsTheConnection(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		end  time.Time
		kept bool
	}{
		{"never", time.Time{}, true},
		{"in an hour", now.Add(time.Hour), true},
		{"in a moment", now.Add(10 * time.Millisecond), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, _ := listen(t, Config{
				TLS:   serverTLS(t),
				Now:   func() time.Time { return now },
				Lease: func(net.Conn) time.Time { return c.end },
			})
			client := dialTLS(t, l)
			served := accept(t, l)
			if !c.kept {
				wantEnd(t, client)
				return
			}
			if _, err := served.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestLease_OneThatHasEndedIsNeverHandedOver(t *testing.T) {
	now := time.Now()
	var l *Listener
	started := make(chan struct{})
	ln, refused := listen(t, Config{
		TLS: serverTLS(t),
		Now: func() time.Time { return now },
		Lease: func(c net.Conn) time.Time {
			<-started
			if n := l.CloseWhere(func(other net.Conn) bool { return other == c }); n != 1 {
				t.Errorf("X10: a connection could slip between the handshake and CloseWhere")
			}
			return now
		},
	})
	l = ln
	close(started)
	client := dialTLS(t, l)
	wantRefusal(t, refused, ReasonLease)
	wantEnd(t, client)
}

func TestLog_IsBoundedAndHarmless(t *testing.T) {
	var text safeBuffer
	now := time.Now()
	server := serverTLS(t)
	server.VerifyConnection = func(tls.ConnectionState) error { return errors.New("evil\nlevel=INFO \x1b[31m \u202e") }
	l, refused := listen(t, Config{
		TLS:    server,
		Logger: slog.New(&rawHandler{&text}),
		Now:    func() time.Time { return now },
	})
	for range 50 {
		tls.Client(dial(t, l), clientTLS("h2")).Handshake()
		wantRefusal(t, refused, ReasonHandshake)
	}
	l.Close()
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != linesPerSecond {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), linesPerSecond, text.String())
	}
	if strings.ContainsAny(text.String(), "\x1b\u202e") || !strings.Contains(lines[0], `evil\nlevel`) {
		t.Fatalf("X32: the log holds a peer's bytes: %q", lines[0])
	}
}

func TestThrottle_SaysHowMuchItLeftOut(t *testing.T) {
	var text safeBuffer
	now := time.Now()
	log := throttle{logger: slog.New(&rawHandler{&text}), now: func() time.Time { return now }}
	for range linesPerSecond + 5 {
		log.write(slog.LevelWarn, nil)
	}
	now = now.Add(time.Second)
	log.write(slog.LevelWarn, nil)
	log.write(slog.LevelWarn, nil)
	if n := strings.Count(text.String(), "lines_left_out=5"); n != 1 || strings.Count(text.String(), "\n") != linesPerSecond+2 {
		t.Fatalf("log is %q", text.String())
	}
}

func TestRefusals_HaveAReasonOfTheSet(t *testing.T) {
	seen := make(map[string]bool)
	for _, reason := range Reasons() {
		if reason == "" || seen[reason] {
			t.Fatalf("reason %q is empty or twice", reason)
		}
		seen[reason] = true
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("evil\nlevel=INFO")
	f.Add("\x1b[31m\u202e\xff")
	f.Add(strings.Repeat("é", 200))
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range printable(text) {
			if r < ' ' || r > '~' {
				t.Fatalf("%q became %q", text, printable(text))
			}
		}
	})
}

func TestListener_ManyAtOnce(t *testing.T) {
	l, _ := listen(t, Config{TLS: serverTLS(t), MaxConns: 64})
	var served sync.WaitGroup
	served.Add(1)
	go func() {
		defer served.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Add(1)
			go func() { defer served.Done(); defer c.Close(); io.Copy(c, c) }()
		}
	}()
	var clients sync.WaitGroup
	for range 16 {
		clients.Add(1)
		go func() {
			defer clients.Done()
			for range 10 {
				c, err := tls.Dial("tcp", l.Addr().String(), clientTLS("h2"))
				if err != nil {
					t.Error(err)
					return
				}
				c.Write([]byte("x"))
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				c.Close()
			}
		}()
	}
	clients.Wait()
	l.Close()
	l.CloseAll()
	served.Wait()
	if l.Count() != 0 {
		t.Fatalf("count is %d, want 0", l.Count())
	}
}
