package forward_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream is a plain socket that reads a request and answers with bytes.
type upstream struct {
	net.Listener
	answer func(c net.Conn, r *http.Request, body []byte)

	conns sync.WaitGroup
	mu    sync.Mutex
	saw   []string // the head of each request, as HTTP/1.1
	open  map[net.Conn]bool
}

func newUpstream(t *testing.T, answer func(c net.Conn, r *http.Request, body []byte)) *upstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{Listener: ln, answer: answer, open: map[net.Conn]bool{}}
	u.conns.Go(u.accept)
	t.Cleanup(func() {
		ln.Close()
		u.mu.Lock()
		for c := range u.open {
			c.Close()
		}
		u.mu.Unlock()
		u.conns.Wait()
	})
	return u
}

// says answers every request with the same bytes, after reading its body.
func says(text string) func(net.Conn, *http.Request, []byte) {
	return func(c net.Conn, _ *http.Request, _ []byte) { io.WriteString(c, text) }
}

func (u *upstream) accept() {
	for {
		c, err := u.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		u.open[c] = true
		u.mu.Unlock()
		u.conns.Go(func() { u.serve(c) })
	}
}

func (u *upstream) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		var head bytes.Buffer
		fmt.Fprintf(&head, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
		r.Header.Write(&head)
		u.mu.Lock()
		u.saw = append(u.saw, strings.ReplaceAll(head.String(), "\r", ""))
		u.mu.Unlock()
		var body []byte
		if r.Header.Get("X-Early") == "" {
			if body, err = io.ReadAll(r.Body); err != nil {
				return
			}
		}
		u.answer(c, r, body)
		if r.Header.Get("X-Early") != "" {
			return
		}
	}
}

func (u *upstream) requests() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.saw...)
}

// hop is a server that forwards everything to u, and a client of it.
type hop struct {
	client  *http.Client
	url     string
	address string
	results chan forward.Result
}

func newHop(t *testing.T, protocol string, u *upstream, set func(*forward.Job)) *hop {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:1" // nobody listens there
	if u != nil {
		address = u.Addr().String()
	}
	to := serve.NewTransport(serve.TransportConfig{Dial: dialer(address)})
	h := &hop{url: "http://" + ln.Addr().String(), address: ln.Addr().String(), results: make(chan forward.Result, 100)}
	server := serve.NewServer(serve.ServerConfig{H2C: true, ExtendedConnect: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header, _, _ := (&forward.Pass{All: true}).Select(r.Header)
		path, _, _ := strings.Cut(r.RequestURI, "?")
		job := &forward.Job{Upstream: to, Scheme: "http", Host: r.Host, Path: path, Header: header, Via: "mark", BodyMax: 1 << 20}
		job.Upgrade, _ = forward.Upgrade(r)
		if set != nil {
			set(job)
		}
		result := forward.Do(w, r, job)
		h.results <- result
		if result.Cut() {
			panic(http.ErrAbortHandler)
		}
		if result.Status == 0 {
			forward.Refuse(w, r, forward.Refusal{Status: 502, GRPCStatus: 14, Decision: "d1"})
		}
	})})
	from := serve.NewTransport(serve.TransportConfig{Dial: dialer(ln.Addr().String()), H2C: protocol == "h2"})
	h.client = &http.Client{Transport: from, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(ln) })
	t.Cleanup(func() {
		from.Close()
		server.Close()
		serving.Wait()
		to.Close()
	})
	return h
}

func dialer(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
}

func (h *hop) request(t *testing.T, method, target string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, h.url+target, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func (h *hop) do(t *testing.T, r *http.Request) (*http.Response, string, error) {
	t.Helper()
	answer, err := h.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer, string(body), err
}

func eachProtocol(t *testing.T, test func(t *testing.T, protocol string)) {
	for _, protocol := range []string{"h1", "h2"} {
		t.Run(protocol, func(t *testing.T) { test(t, protocol) })
	}
}

const ok2 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestDo_SendsTheRequestByteForByteAndNamesItself(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		u := newUpstream(t, says(ok2))
		h := newHop(t, protocol, u, nil)
		_, body, err := h.do(t, h.request(t, "GET", "/a%3Bb%40c/?b=2&a=1+2%20%2B", nil, "X-A: 1"))
		if err != nil || body != "ok" {
			t.Fatal(body, err)
		}
		via := map[string]string{"h1": "1.1", "h2": "2"}[protocol] + " everyhop (mark)"
		want := "GET /a%3Bb%40c/?b=2&a=1+2%20%2B\nHost: " + h.address + "\nVia: " + via + "\nX-A: 1\n"
		if got := u.requests(); len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if r := <-h.results; r.Status != 200 || r.BytesOut != 2 || r.Fault != forward.None || r.Err != nil {
			t.Errorf("%+v", r)
		}
	})
}

// What an upstream may answer, and what the client gets of it.
func TestDo_BrokenUpstreamIsTheUpstreamsFault(t *testing.T) {
	for name, c := range map[string]struct {
		raw    string
		status int
		body   string
	}{
		"B01 CL and TE":         {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 502, ""},
		"B01 two lengths":       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 502, ""},
		"B01 negative length":   {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 502, ""},
		"B03 20 MiB of header":  {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1<<16)+"\r\n", 320) + "\r\n", 502, ""},
		"B03 10,000 fields":     {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y12345\r\n", 10000) + "\r\n", 502, ""},
		"B04 endless 103":       {strings.Repeat("HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=b\r\n\r\n", 5000), 502, ""},
		"B04 one 103":           {"HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=b\r\n\r\n" + ok2, 200, "ok"},
		"B08 status 99":         {"HTTP/1.1 99 No\r\nContent-Length: 0\r\n\r\n", 502, ""},
		"B08 status 099":        {"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n", 502, ""},
		"B08 status 1000":       {"HTTP/1.1 1000 No\r\nContent-Length: 0\r\n\r\n", 502, ""},
		"B08 status 600":        {"HTTP/1.1 600 No\r\nContent-Length: 0\r\n\r\n", 502, ""},
		"B08 NUL in the status": {"HTTP/1.1 200 \x00\r\nContent-Length: 2\r\n\r\nok", 502, ""},
		"B08 HTTP/0.9":          {"hello", 502, ""},
		"B08 HTTP/2.0":          {"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 502, ""},
		"B12 redirect":          {"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", 302, ""},
		"B14 gzip":              {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8bxx", 200, "\x1f\x8bxx"},
		"U07 101 nobody wanted": {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 502, ""},
		"U06 426":               {"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n", 426, ""},
		"no content":            {"HTTP/1.1 204 No Content\r\n\r\n", 204, ""},
		"not modified":          {"HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\n\r\n", 304, ""},
		"chunks":                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok"},
		"closes without a word": {"", 502, ""},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, protocol string) {
				u := newUpstream(t, func(conn net.Conn, _ *http.Request, _ []byte) {
					io.WriteString(conn, c.raw)
					if c.status == 502 {
						conn.Close()
					}
				})
				h := newHop(t, protocol, u, nil)
				answer, body, err := h.do(t, h.request(t, "POST", "/", strings.NewReader("x")))
				if err != nil {
					t.Fatal(err)
				}
				result := <-h.results
				if answer.StatusCode != c.status {
					t.Errorf("got %d, %+v", answer.StatusCode, result)
				}
				if c.status != 502 && (body != c.body || answer.Header.Get("Set-Cookie") != "" || answer.Header.Get("Upgrade") != "") {
					t.Errorf("got %q, %v", body, answer.Header)
				}
				if want := map[bool]forward.Fault{true: forward.Broken}[c.status == 502]; result.Fault != want {
					t.Errorf("%v, %v", result.Fault, result.Err)
				}
				if n := len(u.requests()); n != 1 {
					t.Errorf("sent %d times", n)
				}
			})
		})
	}
}

// B16, H26.
func TestDo_AnswerLosesWhatIsForOneHop(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		u := newUpstream(t, says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: nginx\r\nX-Powered-By: PHP\r\nAlt-Svc: h3\r\n"+
			"Connection: X-Hop\r\nX-Hop: no\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-Kept: yes\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nok"))
		h := newHop(t, protocol, u, nil)
		answer, _, err := h.do(t, h.request(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Server", "X-Powered-By", "Alt-Svc", "Connection", "X-Hop", "Keep-Alive", "Proxy-Authenticate", "Content-Type"} {
			if value, has := answer.Header[name]; has {
				t.Errorf("%s: %q came back", name, value)
			}
		}
		if answer.Header.Get("X-Kept") != "yes" || len(answer.Header["Set-Cookie"]) != 2 {
			t.Errorf("%v", answer.Header)
		}
	})
}

func TestDo_TrailersPassWhereTheyWereAskedFor(t *testing.T) {
	const raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
	for _, te := range []string{"trailers", ""} {
		eachProtocol(t, func(t *testing.T, protocol string) {
			u := newUpstream(t, says(raw))
			h := newHop(t, protocol, u, nil)
			r := h.request(t, "GET", "/", nil)
			if te != "" {
				r.Header.Set("Te", te)
			}
			answer, body, err := h.do(t, r)
			want := map[bool]string{true: "7"}[te != ""]
			if err != nil || body != "ok" || answer.Trailer.Get("X-Sum") != want {
				t.Errorf("te %q: %q, %v, %v", te, body, answer.Trailer, err)
			}
		})
	}
}

func TestDo_RequestTrailersAreDropped(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		trailers := make(chan http.Header, 1)
		u := newUpstream(t, func(c net.Conn, r *http.Request, _ []byte) {
			trailers <- r.Trailer
			io.WriteString(c, ok2)
		})
		h := newHop(t, protocol, u, nil)
		r := h.request(t, "POST", "/", io.MultiReader(strings.NewReader("x")))
		r.Trailer = http.Header{"X-Spiffe-Id": {"spiffe://td.test/admin"}}
		if _, _, err := h.do(t, r); err != nil {
			t.Fatal(err)
		}
		if got := <-trailers; len(got) != 0 {
			t.Errorf("trailers %v", got)
		}
	})
}

func TestDo_StreamsAsItComes(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		more := make(chan struct{})
		u := newUpstream(t, func(c net.Conn, _ *http.Request, _ []byte) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			<-more
			io.WriteString(c, "3\r\none\r\n")
			<-more
			io.WriteString(c, "3\r\ntwo\r\n0\r\n\r\n")
		})
		h := newHop(t, protocol, u, nil)
		answer, err := h.client.Do(h.request(t, "GET", "/", nil)) // returns: the head is there before the body
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		for _, want := range []string{"one", "two"} {
			more <- struct{}{}
			got := make([]byte, 3)
			if _, err := io.ReadFull(answer.Body, got); err != nil || string(got) != want {
				t.Fatal(string(got), err)
			}
		}
	})
}

func TestDo_AnswerCutShortIsSeenToBe(t *testing.T) {
	for _, raw := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n",
	} {
		eachProtocol(t, func(t *testing.T, protocol string) {
			u := newUpstream(t, func(c net.Conn, _ *http.Request, _ []byte) {
				io.WriteString(c, raw)
				c.Close()
			})
			h := newHop(t, protocol, u, nil)
			if _, body, err := h.do(t, h.request(t, "GET", "/", nil)); err == nil {
				t.Errorf("%q looks whole", body)
			}
			if r := <-h.results; !r.Cut() || r.Fault != forward.Broken || r.Status != 200 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// B09.
func TestDo_UpstreamThatDoesNotAnswerTimesOut(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		for _, first := range []string{"", "HTTP/1.1 200 OK\r\nX: "} {
			gone := make(chan struct{})
			u := newUpstream(t, func(c net.Conn, _ *http.Request, _ []byte) {
				io.WriteString(c, first)
				_, _ = c.Read(make([]byte, 1)) // until we hang up
				close(gone)
			})
			h := newHop(t, protocol, u, func(j *forward.Job) { j.Timeout = 30 * time.Millisecond })
			answer, _, err := h.do(t, h.request(t, "POST", "/", strings.NewReader("x")))
			if err != nil || answer.StatusCode != 502 {
				t.Fatal(answer, err)
			}
			if r := <-h.results; r.Fault != forward.Timeout || r.Cut() {
				t.Errorf("%+v", r)
			}
			<-gone
		}
	})
}

func TestDo_UnreachableUpstreamIsTold(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		h := newHop(t, protocol, nil, nil)
		answer, body, err := h.do(t, h.request(t, "GET", "/", nil))
		if err != nil || answer.StatusCode != 502 || answer.Header.Get("Content-Type") != "application/problem+json" ||
			body != `{"title":"Bad Gateway","status":502,"decision":"d1"}`+"\n" {
			t.Error(body, err)
		}
		if r := <-h.results; r.Fault != forward.Unreachable {
			t.Errorf("%+v", r)
		}
	})
}

func TestDo_UnverifiedIsAskedOfTheCaller(t *testing.T) {
	h := newHop(t, "h1", nil, func(j *forward.Job) { j.Unverified = func(error) bool { return true } })
	if _, _, err := h.do(t, h.request(t, "GET", "/", nil)); err != nil {
		t.Fatal(err)
	}
	if r := <-h.results; r.Fault != forward.Unverified {
		t.Errorf("%+v", r)
	}
}

// S22 and the cap of a body without a length.
func TestDo_BodyOverTheBoundNeverArrivesWhole(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		for _, c := range []struct {
			size   int
			stream bool
			fault  forward.Fault
		}{
			{8, false, forward.None}, {8, true, forward.None}, {0, true, forward.None},
			{9, false, forward.BodyTooLarge}, {9, true, forward.BodyTooLarge}, {1 << 20, true, forward.BodyTooLarge},
		} {
			whole := make(chan int, 1)
			u := newUpstream(t, func(c net.Conn, _ *http.Request, body []byte) {
				whole <- len(body)
				io.WriteString(c, ok2)
			})
			h := newHop(t, protocol, u, func(j *forward.Job) { j.BodyMax = 8 })
			var body io.Reader = bytes.NewReader(make([]byte, c.size))
			if c.stream {
				body = io.MultiReader(body) // no length
			}
			_, _, err := h.do(t, h.request(t, "POST", "/", body))
			r := <-h.results
			if r.Fault != c.fault || c.fault == forward.None && err != nil {
				t.Errorf("%+v: %+v, %v", c, r, err)
			}
			select {
			case n := <-whole:
				if c.fault != forward.None || n != c.size || r.BytesIn != int64(n) {
					t.Errorf("%+v: upstream got %d bytes, counted %d", c, n, r.BytesIn)
				}
			default:
				if c.fault == forward.None {
					t.Errorf("%+v: upstream got nothing", c)
				}
			}
		}
	})
}

// S30, S38.
func TestDo_BrokenBodyIsTheClientsFault(t *testing.T) {
	for raw, want := range map[string]forward.Fault{
		"5\r\nhello\r\nnonsense\r\n": forward.BodyBroken,
		"0x5\r\nhello\r\n":           forward.BodyBroken,
		"5\r\nhel":                   forward.ClientGone,
		"5\r\nhello\r\n":             forward.ClientGone,
	} {
		whole := make(chan int, 1)
		u := newUpstream(t, func(c net.Conn, _ *http.Request, body []byte) { whole <- len(body) })
		h := newHop(t, "h1", u, nil)
		c, err := net.Dial("tcp", h.address)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+raw)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if r := <-h.results; r.Fault != want {
			t.Errorf("%q: %v, %v", raw, r.Fault, r.Err)
		}
		io.Copy(io.Discard, c)
		c.Close()
		if len(whole) > 0 {
			t.Errorf("%q arrived whole", raw)
		}
	}
}

func TestDo_ClientThatSendsNothingMoreIsGivenUp(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		u := newUpstream(t, says(ok2))
		h := newHop(t, protocol, u, func(j *forward.Job) { j.Body = 30 * time.Millisecond })
		body, hold := io.Pipe()
		defer hold.Close()
		go hold.Write([]byte("x"))
		h.do(t, h.request(t, "POST", "/", body))
		if r := <-h.results; r.Fault != forward.ClientGone || r.BytesIn != 1 {
			t.Errorf("%+v", r)
		}
	})
}

func TestDo_BodyDeadlineDoesNotCutTheAnswer(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		const stall = 150 * time.Millisecond
		u := newUpstream(t, func(c net.Conn, _ *http.Request, _ []byte) {
			time.Sleep(2 * stall) // the time itself is what is tested
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n")
			time.Sleep(2 * stall)
			io.WriteString(c, "1\r\nk\r\n0\r\n\r\n")
		})
		h := newHop(t, protocol, u, func(j *forward.Job) { j.Body, j.Write = stall, stall })
		for range 2 { // and not the next request's either
			if _, body, err := h.do(t, h.request(t, "POST", "/", strings.NewReader("x"))); body != "ok" || err != nil {
				t.Fatal(body, err)
			}
			if r := <-h.results; r.Fault != forward.None {
				t.Errorf("%+v", r)
			}
		}
	})
}

func TestDo_ClientThatTakesNothingIsGivenUp(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		u := newUpstream(t, func(c net.Conn, _ *http.Request, _ []byte) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
			for block := make([]byte, 1<<20); ; {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		})
		h := newHop(t, protocol, u, func(j *forward.Job) { j.Write = 50 * time.Millisecond })
		answer, err := h.client.Do(h.request(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if r := <-h.results; r.Fault != forward.ClientGone || !r.Cut() {
			t.Errorf("%+v", r)
		}
	})
}

func TestDo_ClientThatHangsUpStopsTheUpstream(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		asked, gone := make(chan struct{}), make(chan struct{})
		u := newUpstream(t, func(c net.Conn, _ *http.Request, _ []byte) {
			close(asked)
			_, _ = c.Read(make([]byte, 1))
			close(gone)
		})
		h := newHop(t, protocol, u, nil)
		ctx, hangUp := context.WithCancel(context.Background())
		go func() { <-asked; hangUp() }()
		if _, err := h.client.Do(h.request(t, "GET", "/", nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		<-gone
		if r := <-h.results; r.Fault != forward.ClientGone {
			t.Errorf("%+v", r)
		}
	})
}

// B17, S57.
func TestDo_AnswerBeforeTheBodysEndIsRelayed(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		u := newUpstream(t, says("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"))
		h := newHop(t, protocol, u, nil)
		body, hold := io.Pipe() // has no end
		defer hold.Close()
		go hold.Write([]byte("x"))
		answer, text, err := h.do(t, h.request(t, "POST", "/", body, "X-Early: 1"))
		if err != nil || answer.StatusCode != 413 || text != "no" {
			t.Fatal(answer, text, err)
		}
		<-h.results
		if _, _, err := h.do(t, h.request(t, "GET", "/", nil)); err != nil { // I5
			t.Error(err)
		}
	})
}

func TestDo_ConnectionWhoseBodyWasNotReadIsClosed(t *testing.T) {
	u := newUpstream(t, says("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"))
	h := newHop(t, "h1", u, nil)
	c, err := net.Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second)) // longer than anything takes that is no fault
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nX-Early: 1\r\nContent-Length: 10\r\n\r\nhalf")
	all, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 413 ") || !strings.Contains(string(all), "Connection: close\r\n") {
		t.Errorf("%q, %v", all, err)
	}
}

func TestDo_BothBodiesMayFlowAtOnce(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		u := newUpstream(t, func(c net.Conn, r *http.Request, _ []byte) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for one := make([]byte, 1); ; { // an echo, byte by byte
				if _, err := r.Body.Read(one); err != nil {
					break
				}
				io.WriteString(c, "1\r\n"+string(one)+"\r\n")
			}
			io.WriteString(c, "0\r\n\r\n")
		})
		h := newHop(t, protocol, u, nil)
		body, says := io.Pipe()
		answer, err := h.client.Do(h.request(t, "POST", "/", body, "X-Early: 1"))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		for _, want := range []byte("echo") {
			says.Write([]byte{want})
			got := make([]byte, 1)
			if _, err := io.ReadFull(answer.Body, got); err != nil || got[0] != want {
				t.Fatal(string(got), err)
			}
		}
		says.Close()
		if rest, err := io.ReadAll(answer.Body); len(rest) != 0 || err != nil {
			t.Error(string(rest), err)
		}
	})
}

// B06.
func TestDo_SurplusBytesReachNobody(t *testing.T) {
	u := newUpstream(t, func(c net.Conn, r *http.Request, _ []byte) {
		id := r.Header.Get("X-Id")
		io.WriteString(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", len(id), id))
	})
	h := newHop(t, "h1", u, nil)
	for i := range 2000 {
		want := fmt.Sprint("id", i)
		answer, body, err := h.do(t, h.request(t, "GET", "/", nil, "X-Id: "+want))
		if err != nil || answer.StatusCode == 200 && body != want {
			t.Fatalf("request %d got %q, %v", i, body, err)
		}
		<-h.results
	}
}

// B10, B11.
func TestDo_UnsafeRequestIsNeverSentTwice(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		u := newUpstream(t, nil)
		u.answer = func(c net.Conn, r *http.Request, _ []byte) {
			if r.URL.Path == "/last" {
				c.Close() // having read the request, on a connection that was used before
				return
			}
			io.WriteString(c, ok2)
		}
		h := newHop(t, protocol, u, nil)
		for _, c := range []struct {
			method, header string
			body           io.Reader
		}{
			{"POST", "X-A: 1", strings.NewReader("x")}, {"POST", "X-A: 1", nil}, {"DELETE", "X-A: 1", nil},
			{"POST", "Idempotency-Key: 1", nil}, {"POST", "X-Idempotency-Key: 1", strings.NewReader("x")},
		} {
			before := len(u.requests())
			for _, path := range []string{"/first", "/last"} {
				if _, _, err := h.do(t, h.request(t, c.method, path, c.body, c.header)); err != nil {
					t.Fatal(err)
				}
				<-h.results
			}
			if n := len(u.requests()) - before; n != 2 {
				t.Errorf("%s with %s: %d requests", c.method, c.header, n)
			}
		}
		if last := u.requests(); !strings.Contains(last[len(last)-1], "X-Idempotency-Key: 1\n") {
			t.Errorf("the key was lost: %q", last[len(last)-1])
		}
	})
}

func TestRefuse_IsOneForm(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		h := newHop(t, protocol, nil, nil)
		grpc := h.request(t, "POST", "/svc/Do", strings.NewReader("x"), "Content-Type: application/grpc+proto")
		answer, body, err := h.do(t, grpc)
		if err != nil {
			t.Fatal(err)
		}
		status, kind := answer.Header.Get("Grpc-Status"), answer.Header.Get("Content-Type")
		if protocol == "h2" && (answer.StatusCode != 200 || status != "14" || kind != "application/grpc" || body != "") ||
			protocol == "h1" && (answer.StatusCode != 502 || status != "" || kind != "application/problem+json") {
			t.Errorf("%d, %q, %q, %q", answer.StatusCode, status, kind, body)
		}
		if answer.Header.Get("Everyhop-Decision") != "d1" || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", answer.Header)
		}
	})
}

func TestRefuse_ZeroRefusalIsOne(t *testing.T) {
	w := &recorder{header: http.Header{}}
	forward.Refuse(w, &http.Request{ProtoMajor: 1}, forward.Refusal{})
	if w.status != 503 {
		t.Error(w.status)
	}
}

type recorder struct {
	header http.Header
	status int
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (w *recorder) WriteHeader(status int)      { w.status = status }
