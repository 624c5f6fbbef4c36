package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// The bytes of a request, as an upstream gets them.
func TestTransport_WritesRequests(t *testing.T) {
	opaque := func(target, query string) *url.URL {
		return &url.URL{Scheme: "http", Host: "other.test", Opaque: target, RawQuery: query}
	}
	unread := struct{ io.Reader }{strings.NewReader("hello")} // not known to be there
	for _, c := range []struct {
		name string
		r    *http.Request
		want string
	}{
		{"bare", &http.Request{URL: opaque("/a", ""), Host: "app.test"}, "GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n"},
		{"P35", &http.Request{URL: opaque("/a%3Bb%40c%3Ad%2Ce", "x=%31&y;z"), Host: "app.test"}, "GET /a%3Bb%40c%3Ad%2Ce?x=%31&y;z HTTP/1.1\r\nHost: app.test\r\n\r\n"},
		{"opaque with two slashes", &http.Request{URL: opaque("//a", ""), Host: "app.test"}, "GET //a HTTP/1.1\r\nHost: app.test\r\n\r\n"},
		{"empty query", &http.Request{URL: &url.URL{Opaque: "/a", ForceQuery: true}, Host: "app.test"}, "GET /a? HTTP/1.1\r\nHost: app.test\r\n\r\n"},
		{"asterisk", &http.Request{Method: "OPTIONS", URL: opaque("*", ""), Host: "app.test"}, "OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n"},
		{"path", &http.Request{URL: &url.URL{Host: "app.test", Path: "/a/b", RawPath: "/a%2Fb"}}, "GET /a%2Fb HTTP/1.1\r\nHost: app.test\r\n\r\n"},
		{"no path", &http.Request{URL: &url.URL{Host: "app.test"}}, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"},
		{"field in any case", &http.Request{URL: opaque("/", ""), Host: "a", Header: http.Header{"idempotency-key": {"1"}}}, "GET / HTTP/1.1\r\nHost: a\r\nidempotency-key: 1\r\n\r\n"},
		{"framing is ours to say", &http.Request{URL: opaque("/", ""), Host: "a", Header: http.Header{"content-length": {"5"}, "Transfer-Encoding": {"x"}, "HOST": {"b"}, "Trailer": {"c"}}}, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"close", &http.Request{URL: opaque("/", ""), Host: "a", Close: true}, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"},
		{"H25", &http.Request{URL: opaque("/", ""), Host: "a", Header: http.Header{"User-Agent": nil}}, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"POST without body", &http.Request{Method: "POST", URL: opaque("/", ""), Host: "a"}, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
		{"length", &http.Request{Method: "POST", URL: opaque("/", ""), Host: "a", Body: io.NopCloser(strings.NewReader("hello")), ContentLength: 5}, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"},
		{"chunks", &http.Request{Method: "POST", URL: opaque("/", ""), Host: "a", Body: io.NopCloser(unread), ContentLength: -1}, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{"trailer", &http.Request{Method: "POST", URL: opaque("/", ""), Host: "a", Body: io.NopCloser(strings.NewReader("hello")), ContentLength: 5, Trailer: http.Header{"X": {"1"}}},
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n"},
	} {
		client, server := pipe(t)
		to := NewTransport(TransportConfig{Dial: func(context.Context) (net.Conn, error) { return client, nil }})
		var tripping sync.WaitGroup
		tripping.Go(func() {
			if _, body, err := trip(to, c.r); err != nil || body != "ok" {
				t.Errorf("%s: %q, %v", c.name, body, err)
			}
		})
		got := make([]byte, len(c.want))
		server.SetDeadline(time.Now().Add(longest))
		if n, err := io.ReadFull(server, got); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.name, got[:n], err)
		}
		io.WriteString(server, okAnswer)
		tripping.Wait()
		to.Close()
	}
}

func TestTransport_SendsNothingThatReadsAsAnotherRequest(t *testing.T) {
	u := listen(t, answers(okAnswer))
	to := u.transport(t, TransportConfig{})
	good := func() *http.Request {
		return &http.Request{Method: "GET", URL: &url.URL{Opaque: "/"}, Host: "app.test", Header: http.Header{}}
	}
	for name, spoil := range map[string]func(r *http.Request){
		"method":           func(r *http.Request) { r.Method = "GET /x HTTP/1.1\r\n" },
		"CONNECT":          func(r *http.Request) { r.Method = "CONNECT" },
		"no URL":           func(r *http.Request) { r.URL = nil },
		"space in target":  func(r *http.Request) { r.URL.Opaque = "/a b" },
		"CRLF in target":   func(r *http.Request) { r.URL.Opaque = "/a\r\nX:1" },
		"hash in target":   func(r *http.Request) { r.URL.Opaque = "/a#b" },
		"CRLF in query":    func(r *http.Request) { r.URL.RawQuery = "a\r\nX:1" },
		"obs-text in path": func(r *http.Request) { r.URL.Opaque = "/caf\xe9" },
		"no host":          func(r *http.Request) { r.Host = "" },
		"CRLF in host":     func(r *http.Request) { r.Host = "a\r\nX: 1" },
		"CRLF in value":    func(r *http.Request) { r.Header["X"] = []string{"a\r\nY: 1"} },
		"LF in value":      func(r *http.Request) { r.Header["X"] = []string{"a\nY: 1"} },
		"NUL in value":     func(r *http.Request) { r.Header["X"] = []string{"a\x00"} },
		"colon in name":    func(r *http.Request) { r.Header["X: 1\r\nY"] = []string{"a"} },
		"empty name":       func(r *http.Request) { r.Header[""] = []string{"a"} },
	} {
		r := good()
		r.Body, r.ContentLength = &closing{Reader: strings.NewReader("hello")}, 5
		body := r.Body.(*closing)
		spoil(r)
		if answer, err := to.RoundTrip(r); err == nil {
			t.Errorf("%s: %v", name, answer)
		}
		if !body.closed.Load() {
			t.Errorf("%s: the body is open", name)
		}
	}
	if _, body := mustTrip(t, to, good()); body != "ok" {
		t.Error(body)
	}
}

// closing notes that it was closed.
type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error { c.closed.Store(true); return nil }

// arrived is a body that has come already.
type arrived struct {
	closing
	n int
}

func (a *arrived) Buffered() int { return a.n }

// writes counts the write calls of connections.
type writes struct {
	net.Conn
	n *atomic.Int32
}

func (w *writes) Write(p []byte) (int, error) { w.n.Add(1); return w.Conn.Write(p) }

func TestTransport_ShortBodyGoesOutWithItsHead(t *testing.T) {
	u := listen(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			_, body, ok := readRequest(r)
			if !ok {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
	var n atomic.Int32
	to := NewTransport(TransportConfig{Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := u.dial(ctx)
		return &writes{c, &n}, err
	}})
	defer to.Close()
	for _, c := range []struct {
		body  io.Reader
		calls int32
	}{
		{nil, 1},
		{strings.NewReader("hello"), 1},
		{&arrived{closing{Reader: strings.NewReader("hello")}, 5}, 1},
		{&arrived{closing{Reader: strings.NewReader("hello")}, 4}, 2},
		{bytes.NewReader(make([]byte, 40000)), 3},
	} {
		r := newRequest(t, "POST", "/", c.body)
		want := r.ContentLength
		if _, ok := c.body.(*arrived); ok {
			r.ContentLength, want = 5, 5
		}
		before := n.Load()
		if _, body := mustTrip(t, to, r); int64(len(body)) != want {
			t.Errorf("%d bytes, not %d", len(body), want)
		}
		if got := n.Load() - before; got != c.calls {
			t.Errorf("%d calls for %d bytes", got, want)
		}
	}
}

func TestTransport_BodyOfAnotherLengthIsNeverTakenForWhole(t *testing.T) {
	u := listen(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if request, body, ok := readRequest(r); ok && request.ContentLength != 4 { // it is cut there, and not followed by more
			t.Errorf("%d bytes said, %q is all of it", request.ContentLength, body)
		}
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Errorf("followed by %q", rest)
		}
	})
	to := u.transport(t, TransportConfig{})
	for _, said := range []int64{4, 6, 20000} {
		for _, ready := range []int{0, 20000} {
			body := &arrived{closing{Reader: strings.NewReader("hello")}, ready}
			r := newRequest(t, "POST", "/", body)
			r.ContentLength = said
			if _, _, err := trip(to, r); err != errShort && err != errLong {
				t.Errorf("%d bytes said: %v", said, err)
			}
			if !body.closed.Load() {
				t.Error("the body is open")
			}
		}
	}
	failing := errors.New("the client went away")
	r := newRequest(t, "POST", "/", io.MultiReader(strings.NewReader("hello"), &failure{failing}))
	if _, _, err := trip(to, r); err != failing {
		t.Error(err)
	}
}

type failure struct{ err error }

func (f *failure) Read([]byte) (int, error) { return 0, f.err }

// S30: the last chunk is the end, and only the end.
func TestTransport_BrokenBodyHasNoLastChunk(t *testing.T) {
	got := make(chan string, 1)
	u := listen(t, func(_ int, c net.Conn, r *bufio.Reader) {
		all, _ := io.ReadAll(r)
		got <- string(all)
	})
	to := u.transport(t, TransportConfig{})
	r := newRequest(t, "POST", "/", io.MultiReader(strings.NewReader("hello"), &failure{wire.FlawChunk}))
	if _, _, err := trip(to, r); err != wire.FlawChunk {
		t.Error(err)
	}
	if all := <-got; !strings.HasSuffix(all, "\r\n\r\n5\r\nhello\r\n") {
		t.Errorf("%q", all)
	}
}

// B17, S57.
func TestTransport_EarlyAnswerIsReadAndTheConnectionIsNotUsedAgain(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 204 No Content\r\n\r\n"} {
		u := listen(t, func(n int, c net.Conn, r *bufio.Reader) {
			if n > 0 {
				answers(okAnswer)(n, c, r)
				return
			}
			if _, err := http.ReadRequest(r); err == nil {
				io.WriteString(c, answer)
			}
			io.Copy(io.Discard, r) // it keeps the connection
		})
		to := u.transport(t, TransportConfig{})
		body, more := io.Pipe()
		if _, _, err := trip(to, newRequest(t, "POST", "/", body)); err != nil {
			t.Error(err)
		}
		if _, body := mustTrip(t, to, newRequest(t, "POST", "/", nil)); body != "ok" || u.count() != 2 { // it would not be tried again
			t.Errorf("%q on connection %d", body, u.count())
		}
		io.WriteString(more, "late") // to a connection that is gone, which ends the sending
		more.Close()
	}
}

// S57: the upstream closes while we still send.
func TestTransport_AnswerIsReadThoughTheBodyIsNotTaken(t *testing.T) {
	u := listen(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
		c.(*net.TCPConn).CloseWrite()
		io.CopyN(io.Discard, r, 1<<20)
	})
	to := u.transport(t, TransportConfig{})
	answer, body := mustTrip(t, to, newRequest(t, "POST", "/", struct{ io.Reader }{bytes.NewReader(make([]byte, 10<<20))}))
	if answer.StatusCode != 413 || body != "ok" {
		t.Error(answer.StatusCode, body)
	}
}
