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
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// trip sends a request and reads the answer to its end.
func trip(to http.RoundTripper, r *http.Request) (*http.Response, string, error) {
	answer, err := to.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	return answer, string(body), err
}

func mustTrip(t testing.TB, to http.RoundTripper, r *http.Request) (*http.Response, string) {
	t.Helper()
	answer, body, err := trip(to, r)
	if err != nil {
		t.Fatal(err)
	}
	return answer, body
}

// Each of these answers is refused, and its connection is not used again.
func TestTransport_RefusesAnswers(t *testing.T) {
	for _, c := range []struct {
		name, bytes string
		flaw        wire.Flaw // none: another error
	}{
		{"B01 CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", wire.FlawCoding},
		{"B01 two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", wire.FlawLength},
		{"B01 the same twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", wire.FlawLength},
		{"B01 TE on 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", wire.FlawCoding},
		{"B01 -1", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", wire.FlawLength},
		{"TE gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", wire.FlawCoding},
		{"B02 bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", wire.FlawRequestLine},
		{"B02 bare LF in a field", "HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 2\r\n\r\nok", wire.FlawField},
		{"B02 obs-fold", "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok", wire.FlawField},
		{"B03 large head", "HTTP/1.1 200 OK\r\nX: " + repeat("a", 20<<20) + "\r\n\r\n", wire.FlawFieldSize},
		{"B03 many fields", "HTTP/1.1 200 OK\r\n" + repeat("X: 1\r\n", 10000) + "\r\n", wire.FlawFieldSize},
		{"B03 64 KiB in 1xx", repeat("HTTP/1.1 103 Early Hints\r\nX: "+repeat("a", 8000)+"\r\n\r\n", 15) + okAnswer, wire.FlawFieldSize},
		{"B04 endless 100", repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), wire.FlawNone},
		{"B04 endless 102", repeat("HTTP/1.1 102 Processing\r\n\r\n", 100), wire.FlawNone},
		{"B08 99", "HTTP/1.1 99 No\r\n\r\n", wire.FlawRequestLine},
		{"B08 099", "HTTP/1.1 099 No\r\n\r\n", wire.FlawRequestLine},
		{"B08 1000", "HTTP/1.1 1000 No\r\n\r\n", wire.FlawRequestLine},
		{"B08 600", "HTTP/1.1 600 No\r\n\r\n", wire.FlawRequestLine},
		{"B08 NUL", "HTTP/1.1 200 \x00\r\nContent-Length: 0\r\n\r\n", wire.FlawRequestLine},
		{"B08 0.9", "<html>hello</html>\r\n\r\n", wire.FlawVersion},
		{"B08 2.0", "HTTP/2.0 200 OK\r\n\r\n", wire.FlawVersion},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n", wire.FlawRequestLine},
		{"204 in chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", wire.FlawCoding},
		{"204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", wire.FlawCoding},
		{"103 in chunks", "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + okAnswer, wire.FlawCoding},
		{"103 with a length", "HTTP/1.1 103 Early Hints\r\nContent-Length: 38\r\n\r\n" + okAnswer, wire.FlawCoding},
		{"space before the colon", "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n", wire.FlawField},
		{"trailer announced that frames", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n", wire.FlawTrailer},
		{"U07", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", wire.FlawNone},
		{"nothing at all", "", wire.FlawNone},
		{"cut in the head", "HTTP/1.1 200 OK\r\nContent-", wire.FlawNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := listen(t, func(n int, conn net.Conn, r *bufio.Reader) {
				if _, _, ok := readRequest(r); !ok {
					return
				}
				if n > 0 {
					io.WriteString(conn, okAnswer)
					return
				}
				io.WriteString(conn, c.bytes)
			})
			to := u.transport(t, TransportConfig{})
			answer, err := to.RoundTrip(newRequest(t, "GET", "/", nil))
			var flaw wire.Flaw
			errors.As(err, &flaw)
			if err == nil || flaw != c.flaw {
				t.Errorf("%v, %v", answer, err)
			}
			if _, body := mustTrip(t, to, newRequest(t, "GET", "/", nil)); body != "ok" || u.count() != 2 {
				t.Errorf("then %q on connection %d", body, u.count())
			}
		})
	}
}

func TestTransport_ReadsAnswers(t *testing.T) {
	for _, c := range []struct {
		name, method, bytes string
		status              int
		length              int64
		body                string
		err                 error
		kept                bool
	}{
		{"length", "GET", okAnswer, 200, 2, "ok", nil, true},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1;a\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, -1, "ok", nil, true},
		{"length zero", "GET", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, 0, "", nil, true},
		{"until the end", "GET", "HTTP/1.1 200 OK\r\n\r\nok", 200, -1, "ok", nil, false},
		{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok", 200, 2, "ok", nil, false},
		{"1.0", "GET", "HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6 Python/3.11.2\r\nContent-Length: 2\r\n\r\nok", 200, 2, "ok", nil, false},
		{"1.0 keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, 2, "ok", nil, false},
		{"1.0 until the end", "GET", "HTTP/1.0 200 OK\r\n\r\nok", 200, -1, "ok", nil, false},
		{"no reason", "GET", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, 2, "ok", nil, true},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, 0, "", nil, true},
		{"304 with a length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, 0, "", nil, true},
		{"HEAD with a length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", 200, 7, "", nil, true},
		{"HEAD in chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, -1, "", nil, true},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200, -1, "", nil, true},
		{"B04 103", "GET", "HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=b\r\n\r\n" + okAnswer, 200, 2, "ok", nil, true},
		{"underscore", "GET", "HTTP/1.1 200 OK\r\nX_Y: 1\r\nContent-Length: 2\r\n\r\nok", 200, 2, "ok", nil, true},
		{"B06", "GET", okAnswer + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", 200, 2, "ok", nil, false},
		{"B06 after 204", "GET", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", 204, 0, "", nil, false},
		{"B06 after 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison", 304, 0, "", nil, false},
		{"B06 after HEAD", "HEAD", okAnswer, 200, 2, "", nil, false},
		{"cut", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 200, 3, "ok", io.ErrUnexpectedEOF, false},
		{"cut in chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", 200, -1, "ok", io.ErrUnexpectedEOF, false},
		{"chunk malformed", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0 \r\n\r\n", 200, -1, "ok", wire.FlawChunk, false},
		{"trailer that frames", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 1\r\n\r\n", 200, -1, "ok", wire.FlawTrailer, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := listen(t, func(n int, conn net.Conn, r *bufio.Reader) {
				for first := n == 0; ; first = false {
					if _, _, ok := readRequest(r); !ok {
						return
					}
					if !first {
						io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")
						continue
					}
					io.WriteString(conn, c.bytes)
					if !c.kept && !strings.HasPrefix(c.name, "B06") {
						return
					}
				}
			})
			to := u.transport(t, TransportConfig{})
			answer, err := to.RoundTrip(newRequest(t, c.method, "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			if answer.StatusCode != c.status || answer.ContentLength != c.length || string(body) != c.body || err != c.err {
				t.Errorf("%d, %d bytes: %q, %v", answer.StatusCode, answer.ContentLength, body, err)
			}
			answer.Body.Close()
			if _, body := mustTrip(t, to, newRequest(t, "GET", "/", nil)); body != "again" || (u.count() == 1) != c.kept {
				t.Errorf("then %q on connection %d", body, u.count())
			}
		})
	}
}

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
		if _, body := mustTrip(t, to, newRequest(t, "GET", "/", nil)); body != "ok" || u.count() != 2 {
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

// B10.
func TestTransport_StaleConnectionIsTriedOnceMoreIfNothingCanHappenTwice(t *testing.T) {
	for _, c := range []struct {
		method string
		body   func() io.Reader
		again  bool
	}{
		{"GET", nil, true},
		{"DELETE", nil, false},
		{"PUT", func() io.Reader { return strings.NewReader("hello") }, false},
		{"GET", func() io.Reader { return strings.NewReader("hello") }, true},
		{"GET", func() io.Reader { return struct{ io.Reader }{strings.NewReader("hello")} }, false},
		{"POST", nil, false},
		{"POST", func() io.Reader { return strings.NewReader("hello") }, false},
		{"PATCH", func() io.Reader { return strings.NewReader("hello") }, false},
	} {
		var got atomic.Int32
		u := listen(t, func(n int, conn net.Conn, r *bufio.Reader) {
			for i := 0; ; i++ {
				_, _, ok := readRequest(r)
				if !ok {
					return
				}
				if i == 1 { // it reads a second request, and closes
					got.Add(1)
					return
				}
				if n > 0 {
					got.Add(1)
				}
				io.WriteString(conn, okAnswer)
			}
		})
		to := u.transport(t, TransportConfig{})
		mustTrip(t, to, newRequest(t, "GET", "/", nil))
		var body io.Reader
		if c.body != nil {
			body = c.body()
		}
		_, text, err := trip(to, newRequest(t, c.method, "/", body))
		want := int32(1)
		if c.again {
			want = 2
		}
		if (err == nil) != c.again || err == nil && text != "ok" || got.Load() != want {
			t.Errorf("%s: %q, %v, seen %d times", c.method, text, err, got.Load())
		}
	}
}

func TestTransport_FreshConnectionThatDiesIsNotTriedAgain(t *testing.T) {
	u := listen(t, func(_ int, _ net.Conn, r *bufio.Reader) { readRequest(r) })
	if _, _, err := trip(u.transport(t, TransportConfig{}), newRequest(t, "GET", "/", nil)); err == nil || u.count() != 1 {
		t.Error(err, u.count())
	}
}

// B10: it has closed before the request is sent, and nothing is sent to it.
func TestTransport_ClosedConnectionIsNotUsed(t *testing.T) {
	var posts atomic.Int32
	closed := make(chan struct{})
	u := listen(t, func(n int, c net.Conn, r *bufio.Reader) {
		request, _, ok := readRequest(r)
		if !ok {
			return
		}
		if request.Method == "POST" {
			posts.Add(1)
		}
		io.WriteString(c, okAnswer)
		c.Close()
		closed <- struct{}{}
	})
	to := u.transport(t, TransportConfig{})
	for range 50 {
		if _, body := mustTrip(t, to, newRequest(t, "POST", "/", strings.NewReader("hello"))); body != "ok" {
			t.Fatal(body)
		}
		<-closed
	}
	if posts.Load() != 50 {
		t.Error(posts.Load())
	}
}

// B06: what comes when nothing was asked is nobody's answer.
func TestTransport_NobodyGetsAnotherOnesAnswer(t *testing.T) {
	poisoned := make(chan struct{})
	u := listen(t, func(n int, c net.Conn, r *bufio.Reader) {
		for i := 0; ; i++ {
			request, _, ok := readRequest(r)
			if !ok {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(request.RequestURI), request.RequestURI)
			if i%3 == 2 {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
			}
			poisoned <- struct{}{}
		}
	})
	to := u.transport(t, TransportConfig{})
	for i := range 3000 {
		target := fmt.Sprintf("/%d", i)
		if _, body := mustTrip(t, to, newRequest(t, "GET", target, nil)); body != target {
			t.Fatalf("%q got %q", target, body)
		}
		<-poisoned
	}
}

func TestTransport_SwitchesProtocolsOnlyWhereAsked(t *testing.T) {
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
	for _, c := range []struct {
		name, connection, upgrade string
		ok                        bool
	}{
		{"asked", "Upgrade", "websocket", true},
		{"asked for several", "keep-alive, upgrade", "foo, websocket", true},
		{"another", "Upgrade", "foo", false},
		{"U02 not nominated", "close", "websocket", false},
		{"nothing to upgrade to", "Upgrade", "", false},
	} {
		u := listen(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			if _, _, ok := readRequest(r); ok {
				io.WriteString(conn, switching+"early, ")
				io.Copy(conn, r)
			}
		})
		to := u.transport(t, TransportConfig{})
		r := newRequest(t, "GET", "/", nil)
		r.Header.Set("Connection", c.connection)
		r.Header.Set("Upgrade", c.upgrade)
		answer, err := to.RoundTrip(r)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !c.ok {
			continue
		}
		tunnel := answer.Body.(io.ReadWriteCloser)
		io.WriteString(tunnel, "echo")
		got := make([]byte, len("early, echo"))
		if _, err := io.ReadFull(tunnel, got); err != nil || string(got) != "early, echo" {
			t.Errorf("%q, %v", got, err)
		}
		tunnel.Close()
	}
}

func TestTransport_ShowsInformationToWhoAsks(t *testing.T) {
	u := listen(t, answers("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+okAnswer))
	to := u.transport(t, TransportConfig{})
	var got []string
	refused := errors.New("no more of this")
	trace := &httptrace.ClientTrace{
		Got100Continue: func() { got = append(got, "continue") },
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			got = append(got, fmt.Sprint(code, header.Get("Link")))
			if len(got) > 3 {
				return refused
			}
			return nil
		},
	}
	r := newRequest(t, "GET", "/", nil)
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
	mustTrip(t, to, r)
	if fmt.Sprint(got) != "[continue 100 103</a>]" {
		t.Error(got)
	}
	if _, err := to.RoundTrip(r); err != refused {
		t.Error(err)
	}
}

// B12, B14.
func TestTransport_AnswersArePassedAsTheyAre(t *testing.T) {
	u := listen(t, answers("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"))
	answer, body := mustTrip(t, u.transport(t, TransportConfig{}), newRequest(t, "GET", "/", nil))
	if answer.StatusCode != 302 || answer.Header.Get("Content-Encoding") != "gzip" || body != "\x1f\x8b" {
		t.Error(answer.StatusCode, answer.Header, body)
	}
}

func TestTransport_TrailersAreThereAtTheEnd(t *testing.T) {
	u := listen(t, answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n"))
	answer, _ := mustTrip(t, u.transport(t, TransportConfig{}), newRequest(t, "GET", "/", nil))
	if fmt.Sprint(answer.Trailer) != "map[X-More:[2] X-Sum:[1]]" || answer.Header["Trailer"] != nil {
		t.Error(answer.Trailer, answer.Header)
	}
}

// B09, and what the client's going away does.
func TestTransport_CancelledRequestIsCut(t *testing.T) {
	for _, c := range []struct {
		name, bytes string
		method      string
		context     func() (context.Context, context.CancelFunc)
		want        error
	}{
		{"before the head", "", "GET", soon, errSoon},
		{"in the head", "HTTP/1.1 200 OK\r\n", "GET", soon, errSoon},
		{"in the body", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "GET", soon, errSoon},
		{"in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "GET", soon, errSoon},
		{"deadline at hand", "", "GET", func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 3*patience)
		}, context.DeadlineExceeded},
		{"while sending", "", "POST", soon, errSoon},
		{"from the start", "", "GET", func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(errSoon)
			return ctx, func() {}
		}, errSoon},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := listen(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					io.WriteString(conn, c.bytes)
				}
				io.Copy(io.Discard, r)
			})
			to := u.transport(t, TransportConfig{})
			ctx, cancel := c.context()
			defer cancel()
			var body io.Reader
			if c.method == "POST" {
				unsent, more := io.Pipe()
				defer more.Close()
				body = unsent
			}
			if _, _, err := trip(to, newRequest(t, c.method, "/", body).WithContext(ctx)); err != c.want {
				t.Error(err)
			}
		})
	}
}

var errSoon = errors.New("the client went away")

func soon() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	timer := time.AfterFunc(3*patience/2, func() { cancel(errSoon) })
	return ctx, func() { timer.Stop() }
}

func TestTransport_BodyThatIsClosedEndsTheConnection(t *testing.T) {
	ended := make(chan struct{})
	u := listen(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequest(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok")
		io.Copy(io.Discard, r)
		close(ended)
	})
	answer, err := u.transport(t, TransportConfig{}).RoundTrip(newRequest(t, "GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	reading := make(chan error)
	go func() {
		_, err := io.ReadAll(answer.Body)
		reading <- err
	}()
	answer.Body.Close() // while it is read
	if err := <-reading; err == nil {
		t.Error("it was read to its end")
	}
	<-ended
	if _, err := answer.Body.Read(make([]byte, 1)); err == nil {
		t.Error("it can be read")
	}
}

func TestTransport_StalledBodyIsCutWhereThatIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		var serving sync.WaitGroup
		serving.Go(func() {
			readRequest(bufio.NewReader(server))
			time.Sleep(time.Hour) // to think is no stall
			io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok")
		})
		to := NewTransport(TransportConfig{Dial: func(context.Context) (net.Conn, error) { return client, nil }, Stall: time.Minute})
		answer, err := to.RoundTrip(newRequest(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = io.ReadAll(answer.Body)
		if late, ok := err.(net.Error); !ok || !late.Timeout() || time.Since(start) != time.Minute {
			t.Error(err, time.Since(start))
		}
		serving.Wait()
		server.Close()
	})
}

func TestPool_KeepsOnlyWhatIsFresh(t *testing.T) {
	u := listen(t, answers(okAnswer))
	now := time.Unix(1, 0)
	to := u.transport(t, TransportConfig{Idle: time.Minute, MaxAge: 90 * time.Second, Now: func() time.Time { return now }})
	for _, c := range []struct {
		later time.Duration
		made  int
	}{{0, 1}, {59 * time.Second, 1}, {30 * time.Second, 1}, {time.Second, 2}, {59 * time.Second, 2}, {time.Minute, 3}} {
		now = now.Add(c.later)
		mustTrip(t, to, newRequest(t, "GET", "/", nil))
		if u.count() != c.made {
			t.Errorf("%v later: %d connections", c.later, u.count())
		}
	}
}

func (p *pool) state() (kept int, armed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle), p.armed
}

func TestPool_SweepsWhatGrewOldAndStopsWhenItIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var serving sync.WaitGroup
		to := NewTransport(TransportConfig{MaxIdle: 2, Idle: time.Minute, Dial: func(context.Context) (net.Conn, error) {
			client, server := net.Pipe()
			serving.Go(func() { answers(okAnswer)(0, server, bufio.NewReader(server)) })
			return client, nil
		}})
		start := time.Now()
		var open []*http.Response
		for range 3 {
			answer, err := to.RoundTrip(newRequest(t, "GET", "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, answer)
		}
		for _, answer := range open {
			io.ReadAll(answer.Body)
		}
		if n, _ := to.pool.state(); n != 2 {
			t.Errorf("%d are kept", n)
		}
		serving.Wait() // for the ends of all three
		synctest.Wait()
		if took := time.Since(start); took < time.Minute || took > 2*time.Minute {
			t.Error(took)
		}
		if n, armed := to.pool.state(); n != 0 || armed {
			t.Error(n, armed)
		}
	})
}

func TestTransport_CloseLetsAnswersEndAndKeepsNothing(t *testing.T) {
	u := listen(t, answers(okAnswer))
	to := u.transport(t, TransportConfig{})
	answer, err := to.RoundTrip(newRequest(t, "GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	to.Close()
	if body, err := io.ReadAll(answer.Body); string(body) != "ok" || err != nil {
		t.Error(string(body), err)
	}
	mustTrip(t, to, newRequest(t, "GET", "/", nil)) // a late one still gets there
	if n, _ := to.pool.state(); u.count() != 2 || n != 0 {
		t.Error(u.count(), n)
	}
}

func TestTransport_ZeroReachesNothing(t *testing.T) {
	if answer, err := NewTransport(TransportConfig{}).RoundTrip(newRequest(t, "GET", "/", nil)); err == nil {
		t.Error(answer)
	}
}

// Ours at both ends: every body arrives, in every framing, and each at its own.
func TestBothEnds_EveryoneGetsTheirOwn(t *testing.T) {
	server := NewServer(handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Id", r.Header.Get("X-Id"))
		if r.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		io.Copy(w, r.Body)
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { server.ServeConn(context.Background(), c) })
		}
	})
	to := NewTransport(TransportConfig{Dial: func(context.Context) (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }})
	var clients sync.WaitGroup
	for k := range 8 {
		clients.Go(func() {
			for i := range 200 {
				size := (i*i*7919 + k) % 70000
				content := repeat(fmt.Sprintf("%d-%d;", k, i), size/4+1)[:size]
				var body io.Reader = strings.NewReader(content)
				if i%3 == 0 {
					body = struct{ io.Reader }{body}
				}
				r := newRequest(t, "POST", "/", body)
				id := fmt.Sprintf("%d-%d", k, i)
				r.Header.Set("X-Id", id)
				answer, got, err := trip(to, r)
				if err != nil || got != content || answer.Header.Get("X-Id") != id {
					t.Errorf("%s: %d bytes of %d, %v", id, len(got), size, err)
					return
				}
			}
		})
	}
	clients.Wait()
	to.Close()
	server.Retire()
	ln.Close()
	serving.Wait()
}
