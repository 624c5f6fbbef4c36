package h1

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

const typicalRequest = "GET /orders/7?expand=items HTTP/1.1\r\nHost: orders.shop.svc:8080\r\nUser-Agent: wrk/4.1\r\n" +
	"Accept: application/json\r\nX-Request-Id: 5f0c2a7e-6a55-4a3b-9a3e-0d5c1d6f7a11\r\n" +
	"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"

const typicalAnswer = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 05 Oct 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n" +
	"Content-Length: 15\r\nConnection: keep-alive\r\nETag: \"66-2b\"\r\n\r\n{\"id\":7,\"n\":12}"

// looped is a connection that always has the same bytes to read, and takes
// everything.
type looped struct {
	net.Conn // none
	bytes    string
	at       int
	left     int // bytes until its end; negative: it has none
}

func (c *looped) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.bytes[c.at:])
	if c.left > 0 {
		n = min(n, c.left)
		c.left -= n
	}
	if c.at += n; c.at == len(c.bytes) {
		c.at = 0
	}
	return n, nil
}

func (c *looped) Write(p []byte) (int, error)      { return len(p), nil }
func (c *looped) Close() error                     { return nil }
func (c *looped) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *looped) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *looped) SetDeadline(time.Time) error      { return nil }
func (c *looped) SetReadDeadline(time.Time) error  { return nil }
func (c *looped) SetWriteDeadline(time.Time) error { return nil }

func requestParser(text string) (parse func() *http.Request) {
	c := newServerConn(NewServer(ServerConfig{}), context.Background(), &looped{bytes: text, left: -1})
	return func() *http.Request {
		x := newExchange(c)
		if flaw, err := c.readRequest(x); err != nil || flaw != wire.FlawNone {
			panic(flaw)
		}
		x.life.cancel()
		return &x.request
	}
}

// BenchmarkParseRequest has with it, on our side, all that the handler will see
// and the deadline of the reading; "scan" is the judging of the bytes alone.
func BenchmarkParseRequest(b *testing.B) {
	b.Run("scan", func(b *testing.B) {
		h := head{names: strictName, maxFields: 100, maxLine: 1000}
		message := []byte(typicalRequest)
		b.ReportAllocs()
		for b.Loop() {
			h.begin(true)
			h.scan(message)
		}
	})
	b.Run("h1", func(b *testing.B) {
		parse := requestParser(typicalRequest)
		b.ReportAllocs()
		for b.Loop() {
			parse()
		}
	})
	b.Run("net-http", func(b *testing.B) {
		r := bufio.NewReader(&looped{bytes: typicalRequest, left: -1})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := http.ReadRequest(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseResponse(b *testing.B) {
	b.Run("h1", func(b *testing.B) {
		c := newClientConn(NewTransport(TransportConfig{}), &looped{bytes: typicalAnswer, left: -1})
		b.ReportAllocs()
		for b.Loop() {
			c.receiveForTest(b)
		}
	})
	b.Run("net-http", func(b *testing.B) {
		r := bufio.NewReader(&looped{bytes: typicalAnswer, left: -1})
		b.ReportAllocs()
		for b.Loop() {
			answer, err := http.ReadResponse(r, nil)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, answer.Body)
		}
	})
}

// receiveForTest reads one answer with its body, and leaves the connection open.
func (c *clientConn) receiveForTest(t testing.TB) *http.Response {
	s := &sending{r: &http.Request{Method: "GET"}}
	s.state.Store(sendUnderWay) // so that nobody keeps the connection
	answer, _, err := c.receive(s)
	if err != nil {
		t.Fatal(err)
	}
	var body [64]byte
	if _, err := answer.Body.(*answerBody).take(body[:]); err != io.EOF {
		t.Fatal(err)
	}
	return answer
}

// serveLooped serves the same request n times.
func serveLooped(n int, config ServerConfig) {
	s := NewServer(config)
	s.ServeConn(context.Background(), &looped{bytes: typicalRequest, left: n * len(typicalRequest)})
}

func answerShortly(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = jsonType
	w.Write(shortBody)
}

var (
	jsonType  = []string{"application/json"}
	shortBody = []byte(`{"id":7,"n":12}`)
)

func BenchmarkServeKeepAlive(b *testing.B) {
	b.Run("h1", func(b *testing.B) {
		b.ReportAllocs()
		serveLooped(b.N, ServerConfig{Handler: http.HandlerFunc(answerShortly)})
	})
	b.Run("net-http", func(b *testing.B) {
		b.ReportAllocs()
		ln := &oneConn{conn: &looped{bytes: typicalRequest, left: b.N * len(typicalRequest)}, done: make(chan struct{})}
		s := &http.Server{Handler: http.HandlerFunc(answerShortly), ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				close(ln.done)
			}
		}}
		s.Serve(ln)
	})
}

// oneConn is a listener with one connection, which ends with that.
type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// BenchmarkLoopback is a whole exchange over a socket, both ends of it ours or
// net/http's.
func BenchmarkLoopback(b *testing.B) {
	for _, body := range []int{0, 1 << 10, 64 << 10} {
		b.Run("h1", func(b *testing.B) { loopback(b, body, true) })
		b.Run("net-http", func(b *testing.B) { loopback(b, body, false) })
	}
}

func loopback(b *testing.B, size int, ours bool) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		answerShortly(w, r)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	var to http.RoundTripper
	if ours {
		s := NewServer(ServerConfig{Handler: handler})
		serving.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { s.ServeConn(context.Background(), c) })
			}
		})
		t := NewTransport(TransportConfig{Dial: func(ctx context.Context) (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }})
		defer t.Close()
		to = t
	} else {
		serving.Go(func() { (&http.Server{Handler: handler}).Serve(ln) })
		t := &http.Transport{}
		defer t.CloseIdleConnections()
		to = t
	}
	defer serving.Wait()
	defer ln.Close()
	content := strings.Repeat("a", size)
	b.ReportAllocs()
	for b.Loop() {
		var body io.Reader
		if size > 0 {
			body = bytes.NewReader([]byte(content))
		}
		r, err := http.NewRequest("POST", "http://"+ln.Addr().String()+"/orders/7", body)
		if err != nil {
			b.Fatal(err)
		}
		answer, err := to.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	if t, ok := to.(*Transport); ok {
		t.Close()
	}
}
