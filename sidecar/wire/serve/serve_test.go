package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/everyhop/everyhop/sidecar/listener"
	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

// T35: what the handshake agreed on is what is spoken.
func TestServer_ClosesWhoAgreesOnOneProtocolAndSpeaksTheOther(t *testing.T) {
	var asked atomic.Int32
	flawed := make(chan wire.Flaw, 10)
	_, address := ours.serve(t, true, serve.ServerConfig{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }),
		Flawed:  func(_ http.ResponseWriter, _ *http.Request, flaw wire.Flaw) { flawed <- flaw },
	})
	for _, c := range []struct {
		agreed, says string
		flaw         wire.Flaw
	}{
		{"h2", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0},
		{"http/1.1", http2.ClientPreface, wire.FlawVersion}, // S53
		{"", http2.ClientPreface, wire.FlawVersion},
	} {
		var protocols []string
		if c.agreed != "" {
			protocols = []string{c.agreed}
		}
		conn := dialTLS(t, address, protocols...)
		io.WriteString(conn, c.says)
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: left open", c.agreed)
		}
		if c.flaw != 0 {
			if got := <-flawed; got != c.flaw {
				t.Errorf("%s: %v", c.agreed, got)
			}
		}
	}
	if asked.Load() != 0 || len(flawed) != 0 {
		t.Error("the handler was asked")
	}
}

// T34.
func TestServer_PriorKnowledgeIsSpokenOnlyWhereItIsSaid(t *testing.T) {
	for _, h2c := range []bool{true, false} {
		_, address := ours.serve(t, false, serve.ServerConfig{H2C: h2c, Handler: http.HandlerFunc(ok)})
		to := ours.dial(t, serve.TransportConfig{Dial: dialer(address), H2C: true})
		r, _ := http.NewRequest("GET", "http://h/", nil)
		answer, err := to.RoundTrip(r)
		if (err == nil) != h2c {
			t.Errorf("h2c %v: %v", h2c, err)
		}
		if err == nil {
			finish(t, answer)
		}
		finish(t, get(t, ours.dial(t, serve.TransportConfig{Dial: dialer(address)}), "http://h/"))
	}
}

// What is sent in pieces is one thing all the same.
func TestServer_PrefaceAndHeadsMayComeByteByByte(t *testing.T) {
	_, address := ours.serve(t, false, serve.ServerConfig{H2C: true, Handler: http.HandlerFunc(ok)})
	for _, says := range []string{"PRI / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(says) {
			io.WriteString(c, says[i:i+1])
		}
		if text, err := io.ReadAll(c); !strings.HasSuffix(string(text), "ok") {
			t.Errorf("%q: %q, %v", says, text, err)
		}
		c.Close()
	}
}

func TestServer_OldVersionIsServedOnlyWhereItIsSaid(t *testing.T) {
	for _, old := range []bool{true, false} {
		_, address := ours.serve(t, false, serve.ServerConfig{HTTP10: old, H2C: true, Handler: http.HandlerFunc(ok)})
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
		text, err := io.ReadAll(c) // to its end: it is never kept
		if err != nil || strings.HasSuffix(string(text), "ok") != old || strings.Contains(string(text), "Transfer-Encoding") {
			t.Errorf("%q, %v", text, err)
		}
		c.Close()
	}
}

func TestServer_AbsentHandshakeIsNotServed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serve.NewServer(serve.ServerConfig{Handler: http.HandlerFunc(ok)})
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})) })
	defer serving.Wait()
	defer s.Close()
	if c, err := tls.Dial("tcp", ln.Addr().String(), trusting()); err == nil {
		t.Error("it shook hands")
		c.Close()
	}
}

func TestServer_PanicIsLoggedAndAnswersNobody(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		_, address := ours.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		})})
		to := ours.dial(t, serve.TransportConfig{Dial: dialer(address), TLS: trusting(protocol)})
		r, _ := http.NewRequest("GET", "https://h/", nil)
		if answer, err := to.RoundTrip(r); err == nil {
			if text, err := io.ReadAll(answer.Body); err == nil {
				t.Errorf("%s: %q looks whole", protocol, text)
			}
			answer.Body.Close()
		}
	}
}

func TestServer_AfterShutdownServesNobody(t *testing.T) {
	s := serve.NewServer(serve.ServerConfig{Handler: http.HandlerFunc(ok)})
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); err != nil {
		t.Error(err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}

// Those who have said nothing keep nobody waiting.
func TestShutdown_SilentConnectionsAreClosed(t *testing.T) {
	accepted := make(chan struct{}, 10)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serve.NewServer(serve.ServerConfig{H2C: true, Handler: http.HandlerFunc(ok)})
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(told{inner, accepted}) })
	for _, says := range []string{"", "PRI", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"} {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, says)
		<-accepted
		if strings.HasPrefix(says, "GET") {
			bufio.NewReader(c).ReadByte() // and now it is idle
		}
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	serving.Wait()
}

type told struct {
	net.Listener
	accepted chan struct{}
}

func (l told) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted <- struct{}{}
	}
	return c, err
}

// T37: a request that could be lost is tried again, on another connection.
func TestShutdown_NoRequestOfOurOwnClientIsLost(t *testing.T) {
	first, address := ours.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(ok)})
	_, second := ours.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(ok)})
	var at atomic.Pointer[string]
	at.Store(&address)
	to := ours.dial(t, serve.TransportConfig{TLS: trusting("h2"), Dial: func(ctx context.Context) (net.Conn, error) { return dialer(*at.Load())(ctx) }})
	finish(t, get(t, to, "https://h/"))
	var clients sync.WaitGroup
	half := make(chan struct{}, 10000)
	for range 20 {
		clients.Go(func() {
			for range 50 {
				r, _ := http.NewRequest("POST", "https://h/", strings.NewReader("x"))
				answer, err := to.RoundTrip(r)
				if err != nil {
					t.Error(err)
					continue
				}
				finish(t, answer)
				half <- struct{}{}
			}
		})
	}
	for range 200 {
		<-half
	}
	at.Store(&second)
	if err := first.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	clients.Wait()
}

// T36.
func TestServer_ConnectionOfManyRequestsIsReplacedAndNoneIsLost(t *testing.T) {
	_, address := ours.serve(t, true, serve.ServerConfig{MaxRequests: 7, Handler: http.HandlerFunc(ok)})
	d := count(address)
	to := ours.dial(t, serve.TransportConfig{Dial: d.Dial, TLS: trusting("h2")})
	for range 50 {
		r, _ := http.NewRequest("POST", "https://h/", strings.NewReader("x"))
		answer, err := to.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		finish(t, answer)
	}
	if n := d.made.Load(); n < 5 {
		t.Errorf("%d connections", n)
	}
}

func TestTransport_OneConnectionCarriesAllOfHTTP2(t *testing.T) {
	_, address := ours.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(ok)})
	d := count(address)
	to := ours.dial(t, serve.TransportConfig{Dial: d.Dial, TLS: trusting("h2", "http/1.1")})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { finish(t, get(t, to, "https://h/")) })
	}
	all.Wait()
	if n := d.made.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// An upstream that is replaced may speak another protocol than before, and the
// body of a request must not get lost between the two.
func TestTransport_FollowsWhatTheUpstreamSpeaks(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Proto, " ", string(body))
	})
	var protocols atomic.Pointer[[]string]
	address := speaking(t, &protocols, echo)
	now := time.Unix(1, 0)
	to := ours.dial(t, serve.TransportConfig{
		Dial: dialer(address), TLS: trusting("h2", "http/1.1"), MaxAge: time.Minute, Now: func() time.Time { return now },
	})
	for i, c := range []struct{ speaks, want string }{
		{"http/1.1", "HTTP/1.1 x"}, {"h2", "HTTP/2.0 x"}, {"h2", "HTTP/2.0 x"}, {"http/1.1", "HTTP/1.1 x"}, {"h2", "HTTP/2.0 x"},
	} {
		protocols.Store(&[]string{c.speaks})
		now = now.Add(time.Hour) // so that the request has a connection of its own
		r, _ := http.NewRequest("POST", "https://h/", io.MultiReader(strings.NewReader("x")))
		answer, err := to.RoundTrip(r)
		if err != nil {
			t.Fatal(i, err)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if string(text) != c.want {
			t.Errorf("%d: %q", i, text)
		}
		if answer.TLS == nil || len(answer.TLS.PeerCertificates) != 1 || answer.TLS.NegotiatedProtocol != c.speaks {
			t.Errorf("%d: the connection is not told: %+v", i, answer.TLS)
		}
	}
}

// speaking serves on TLS, in the protocols of the moment.
func speaking(t *testing.T, protocols *atomic.Pointer[[]string], handler http.Handler) string {
	t.Helper()
	cert := certificate(t)
	protocols.Store(&[]string{"h2"})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	config := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: *protocols.Load()}, nil
	}}
	s := serve.NewServer(serve.ServerConfig{Handler: handler})
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(listener.New(ln, listener.Config{TLS: config})) })
	t.Cleanup(func() { s.Close(); serving.Wait() })
	return address
}

func TestTransport_ConcurrentFirstRequestsToAnOldUpstreamAllGetThere(t *testing.T) {
	var protocols atomic.Pointer[[]string]
	address := speaking(t, &protocols, http.HandlerFunc(ok))
	protocols.Store(&[]string{"http/1.1"})
	d := count(address)
	to := ours.dial(t, serve.TransportConfig{Dial: d.Dial, TLS: trusting("h2", "http/1.1")})
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() { finish(t, get(t, to, "https://h/")) })
	}
	all.Wait()
	to.Close()
	for d.open.Load() > 0 {
		<-d.closed
	}
}

// PERFORMANCE: a body of 64 KiB is two calls, the handshake aside.
func TestServer_BodyOfManyRecordsIsFewCalls(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 64<<10)
	for _, protocol := range []string{"http/1.1", "h2"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		writes := &writes{Listener: ln}
		s := serve.NewServer(serve.ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			writes.n.Store(0)
			w.Write(body)
		})})
		var serving sync.WaitGroup
		serving.Go(func() {
			s.Serve(listener.New(wire.GatherListener{Listener: writes}, listener.Config{TLS: &tls.Config{
				Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{protocol}, DynamicRecordSizingDisabled: true,
			}}))
		})
		to := ours.dial(t, serve.TransportConfig{Dial: dialer(ln.Addr().String()), TLS: trusting(protocol)})
		for range 3 { // h2: the first may come before the client's window does
			answer := get(t, to, "https://h/")
			if text, err := io.ReadAll(answer.Body); err != nil || !slices.Equal(text, body) {
				t.Error(len(text), err)
			}
			answer.Body.Close()
		}
		if n := writes.n.Load(); n > 2 {
			t.Errorf("%s: %d calls", protocol, n)
		}
		to.Close()
		s.Close()
		serving.Wait()
	}
}

// writes counts the calls that write.
type writes struct {
	net.Listener
	n atomic.Int32
}

func (w *writes) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &writing{c, w}, nil
}

type writing struct {
	net.Conn
	by *writes
}

func (w *writing) Write(p []byte) (int, error) {
	w.by.n.Add(1)
	return w.Conn.Write(p)
}
