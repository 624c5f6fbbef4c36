package h1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
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
		{"B08 0.9", "<html>hello</html>\r\n", wire.FlawRequestLine},
		{"another protocol", "SSH-2.0-OpenSSH_9.2 x\r\n\r\n", wire.FlawVersion},
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
