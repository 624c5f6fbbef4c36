package forward_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

const (
	key       = "dGhlIHNhbXBsZSBub25jZQ==" // of RFC 6455 section 1.3
	accept    = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	handshake = "GET /ws?a=1 HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n"
	switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nServer: app\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\n"
)

// chat is an app of a foreign library: it sends back what it gets, until "bye".
func chat(t *testing.T) net.Listener {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(text) == "bye" {
				c.Close(4000, "as you wish")
				return
			}
			if err := c.Write(r.Context(), kind, text); err != nil {
				return
			}
		}
	}))
	t.Cleanup(app.Close)
	return app.Listener
}

// way is how to get to an address.
func way(t *testing.T, address net.Addr, h2c bool) *serve.Transport {
	t.Helper()
	to := serve.NewTransport(serve.TransportConfig{Dial: dialer(address.String()), H2C: h2c})
	t.Cleanup(to.Close)
	return to
}

// chain is one hop to the app, or two with HTTP/2 between them, and the results of
// the first.
func chain(t *testing.T, protocol string, hops int, app net.Addr, set func(*forward.Job)) *hop {
	t.Helper()
	via := func(to http.RoundTripper) func(*forward.Job) {
		return func(job *forward.Job) {
			job.Upstream = to
			if set != nil {
				set(job)
			}
		}
	}
	if hops == 1 {
		return newHop(t, protocol, nil, via(way(t, app, false)))
	}
	last := newHop(t, "h2", nil, via(way(t, app, false)))
	address, err := net.ResolveTCPAddr("tcp", last.address)
	if err != nil {
		t.Fatal(err)
	}
	return newHop(t, protocol, nil, via(way(t, address, true)))
}

// eachWay is from a client of each protocol, over one hop and over two.
func eachWay(t *testing.T, test func(t *testing.T, protocol string, hops int)) {
	for _, protocol := range []string{"h1", "h2"} {
		for hops := 1; hops <= 2; hops++ {
			t.Run(protocol+strings.Repeat(" h2", hops-1)+" h1", func(t *testing.T) { test(t, protocol, hops) })
		}
	}
}

// proving gives an answer over HTTP/2 the proof that a client of HTTP/1.1 waits
// for: RFC 8441 has none.
type proving struct{ http.RoundTripper }

func (p proving) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := p.RoundTripper.RoundTrip(r)
	if err == nil && answer.StatusCode == 101 && answer.ProtoMajor == 2 {
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		answer.Header.Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	}
	return answer, err
}

func (h *hop) talk(t *testing.T) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	c, answer, err := websocket.Dial(ctx, h.url+"/ws", &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: proving{h.client.Transport}},
		Subprotocols: []string{"chat"}, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "chat" || !strings.HasPrefix(answer.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		t.Errorf("sec-websocket-* did not pass: %v", answer.Header)
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

func TestWebSocket_ForeignClientAndServerUnderstandEachOther(t *testing.T) {
	eachWay(t, func(t *testing.T, protocol string, hops int) {
		h := chain(t, protocol, hops, chat(t).Addr(), nil)
		c := h.talk(t)
		ctx := t.Context()
		for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
			sent := bytes.Repeat([]byte{'a', byte(size)}, size/2+1)
			go c.Write(ctx, websocket.MessageBinary, sent)
			_, got, err := c.Read(ctx)
			if err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%d of %d bytes came back: %v", len(got), len(sent), err)
			}
		}
		if err := c.Write(ctx, websocket.MessageText, []byte("bye")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != 4000 {
			t.Errorf("closed with %v", err)
		}
		if r := <-h.results; !r.Switched || r.Fault != forward.None || r.BytesIn == 0 || r.BytesOut == 0 || r.Cut() || r.Status != map[string]int{"h1": 101, "h2": 200}[protocol] {
			t.Errorf("%+v", r)
		}
	})
}

// raw is a plain connection that sent text.
func (h *hop) raw(t *testing.T, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// U10.
func TestWebSocket_FrameBehindTheHandshakeIsKept(t *testing.T) {
	for hops := 1; hops <= 2; hops++ {
		frame := "\x81\x83\x00\x00\x00\x00abc"
		ln := listen(t, func(c net.Conn) {
			in := bufio.NewReader(c)
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if r.RequestURI != "/ws?a=1" || r.Host != "app.test" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
				t.Errorf("%s %v", r.RequestURI, r.Header)
			}
			io.WriteString(c, strings.Replace(switching, accept, acceptOf(r), 1)+"\x81\x01x") // and one behind the answer
			got := make([]byte, len(frame))
			if _, err := io.ReadFull(in, got); err != nil || string(got) != frame {
				t.Errorf("%q, %v", got, err)
			}
			c.Write(got)
		})
		h := chain(t, "h1", hops, ln.Addr(), nil)
		c, in := h.raw(t, handshake+frame)
		answer, err := http.ReadResponse(in, nil)
		if err != nil || answer.StatusCode != 101 || answer.Header.Get("Sec-WebSocket-Accept") != accept || answer.Header.Get("Upgrade") != "websocket" || answer.Header.Get("Connection") != "Upgrade" {
			t.Fatalf("%v %+v", err, answer)
		}
		for _, name := range []string{"X-Secret", "Keep-Alive", "Server", "Content-Length"} { // golang/go#80875
			if answer.Header[name] != nil {
				t.Errorf("%s came through", name)
			}
		}
		if rest, err := io.ReadAll(in); string(rest) != "\x81\x01x"+frame || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		c.Close()
		if r := <-h.results; r.BytesIn != int64(len(frame)) || r.BytesOut != int64(3+len(frame)) {
			t.Errorf("%+v", r)
		}
	}
}

func acceptOf(r *http.Request) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// listen serves each connection once.
func listen(t *testing.T, serve func(net.Conn)) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		conns.Wait()
	})
	return ln
}

// U06, U07, U09: what is no switch leaves the connection in HTTP, and what comes
// behind the handshake is a request of its own.
func TestWebSocket_OnlyASwitchThatWasProvedIsOne(t *testing.T) {
	const next = "GET /admin HTTP/1.1\r\nHost: app.test\r\n\r\n"
	for name, c := range map[string]struct {
		answer string
		status [2]int // over HTTP/1.1 and HTTP/2
	}{
		"U06 426":        {"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n", [2]int{426, 426}},
		"U09 200":        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", [2]int{200, 502}},
		"U09 204":        {"HTTP/1.1 204 No Content\r\n\r\n", [2]int{204, 502}},
		"403":            {"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", [2]int{403, 403}},
		"302":            {"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", [2]int{302, 302}},
		"no proof":       {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", [2]int{502, 502}},
		"wrong proof":    {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n", [2]int{502, 502}},
		"other protocol": {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\n", [2]int{502, 502}},
		"no answer":      {"", [2]int{502, 502}},
	} {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, protocol string, hops int) {
				u := newUpstream(t, func(conn net.Conn, r *http.Request, _ []byte) {
					switch {
					case r.RequestURI == "/admin":
						io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nadmin")
					case c.answer == "":
						conn.Close()
					default:
						io.WriteString(conn, c.answer)
					}
				})
				h := chain(t, protocol, hops, u.Addr(), nil)
				want := c.status[max(hops-1, map[string]int{"h1": 0, "h2": 1}[protocol])]
				if protocol == "h2" {
					r := h.request(t, "GET", "/ws", nil, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: "+key)
					answer, err := h.client.Transport.RoundTrip(r)
					if err != nil || answer.StatusCode != want {
						t.Fatalf("%v, %+v", err, answer)
					}
					answer.Body.Close()
				} else {
					_, in := h.raw(t, handshake+next)
					for i, status := range []int{want, 200} {
						answer, err := http.ReadResponse(in, &http.Request{Method: "GET"})
						if err != nil || answer.StatusCode != status {
							t.Fatalf("answer %d: %v, %+v", i, err, answer)
						}
						io.Copy(io.Discard, answer.Body)
					}
				}
				if r := <-h.results; r.Switched || r.Cut() || r.Fault != forward.None && r.Fault != forward.Broken {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// frame is one of a client, masked with zeros, or of a server.
func frame(op byte, fromClient bool, payload string) string {
	head := []byte{0x80 | op, byte(len(payload))}
	if len(payload) > 125 {
		head = binary.BigEndian.AppendUint64([]byte{0x80 | op, 127}, uint64(len(payload)))
	}
	if fromClient {
		head[1] |= 0x80
		head = append(head, 0, 0, 0, 0)
	}
	return string(head) + payload
}

// opened notes the sockets that are opened.
func opened(sockets chan *forward.WebSocket) func(*forward.Job) {
	return func(job *forward.Job) {
		job.Opened = func(s *forward.WebSocket) func() {
			sockets <- s
			return func() {}
		}
	}
}

// U12, U14: both ends hear why, between two frames.
func TestWebSocket_CloseIsSaidBetweenTwoFrames(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		appClosed := make(chan error, 1)
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, CompressionMode: websocket.CompressionContextTakeover})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.CloseNow()
			for {
				kind, text, err := c.Read(r.Context())
				if err != nil {
					appClosed <- err
					return
				}
				c.Write(r.Context(), kind, text)
			}
		}))
		defer app.Close()
		sockets := make(chan *forward.WebSocket, 1)
		h := chain(t, protocol, 1, app.Listener.Addr(), opened(sockets))
		for _, status := range []uint16{forward.PolicyViolation, forward.GoingAway} {
			c := h.talk(t)
			s := <-sockets
			if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Close(status)
			s.Close(1234) // the first counts
			if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusCode(status) {
				t.Errorf("the client was closed with %v", err)
			}
			if err := <-appClosed; websocket.CloseStatus(err) != websocket.StatusCode(status) {
				t.Errorf("the app was closed with %v", err)
			}
			if r := <-h.results; r.Fault != forward.None || !r.Switched {
				t.Errorf("%+v", r)
			}
		}
	})
}

// A frame that is under way ends before the close frame, or with the connection.
func TestWebSocket_CloseWaitsForTheFrameUnderWay(t *testing.T) {
	for _, ends := range []bool{true, false} {
		long := frame(2, false, strings.Repeat("x", 1<<16))
		half, sent := len(long)/2, make(chan struct{})
		goOn := make(chan struct{})
		ln := listen(t, func(c net.Conn) {
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			io.WriteString(c, strings.Replace(switching, accept, acceptOf(r), 1)+long[:half])
			close(sent)
			<-goOn
			if ends {
				io.WriteString(c, long[half:]+frame(1, false, "too late"))
			}
			io.Copy(io.Discard, c)
		})
		sockets := make(chan *forward.WebSocket, 1)
		h := chain(t, "h1", 1, ln.Addr(), opened(sockets))
		_, in := h.raw(t, handshake)
		if _, err := http.ReadResponse(in, nil); err != nil {
			t.Fatal(err)
		}
		<-sent
		got := make([]byte, half)
		if _, err := io.ReadFull(in, got); err != nil {
			t.Fatal(err)
		}
		(<-sockets).Close(1008)
		close(goOn)
		rest, err := io.ReadAll(in)
		want := long[half:] + "\x88\x02\x03\xf0"
		if !ends {
			want = "" // nobody could tell where a close frame begins
		}
		if string(rest) != want || err != nil {
			t.Errorf("ends %v: %d bytes, want %d: %v", ends, len(rest), len(want), err)
		}
	}
}

// After a close frame there is no other one.
func TestWebSocket_CloseAfterTheAppsOwnSaysNothing(t *testing.T) {
	closed := make(chan struct{})
	ln := listen(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		io.WriteString(c, strings.Replace(switching, accept, acceptOf(r), 1)+frame(8, false, "\x03\xe8"))
		<-closed
		io.Copy(io.Discard, in)
	})
	sockets := make(chan *forward.WebSocket, 1)
	h := chain(t, "h1", 1, ln.Addr(), opened(sockets))
	_, in := h.raw(t, handshake)
	if _, err := http.ReadResponse(in, nil); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(in, got); err != nil {
		t.Fatal(err)
	}
	(<-sockets).Close(1008)
	close(closed)
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestWebSocket_HalfCloseIsPassedOn(t *testing.T) {
	for hops := 1; hops <= 2; hops++ {
		ln := listen(t, func(c net.Conn) {
			in := bufio.NewReader(c)
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.WriteString(c, strings.Replace(switching, accept, acceptOf(r), 1))
			got, err := io.ReadAll(in)
			if string(got) != frame(1, true, "last words") || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			io.WriteString(c, frame(1, false, "heard"))
		})
		h := chain(t, "h1", hops, ln.Addr(), nil)
		c, in := h.raw(t, handshake+frame(1, true, "last words"))
		if _, err := http.ReadResponse(in, nil); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(in); string(got) != frame(1, false, "heard") || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if r := <-h.results; r.Fault != forward.None {
			t.Errorf("%+v", r)
		}
	}
}

// Whoever goes away without a word takes the other end along.
func TestWebSocket_EndThatBreaksBreaksTheOther(t *testing.T) {
	eachWay(t, func(t *testing.T, protocol string, hops int) {
		broken := make(chan error, 1)
		ln := listen(t, func(c net.Conn) {
			in := bufio.NewReader(c)
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.WriteString(c, strings.Replace(switching, accept, acceptOf(r), 1))
			if first, _ := in.ReadByte(); first == 'x' { // then it is ours to break
				_ = c.(*net.TCPConn).SetLinger(0)
				return
			}
			_, err = in.ReadByte()
			broken <- err
		})
		h := chain(t, protocol, hops, ln.Addr(), nil)
		for _, first := range []string{"x", "y"} {
			c := h.open(t)
			io.WriteString(c, first)
			want := forward.Broken
			if first == "x" {
				if _, err := io.ReadAll(c); protocol == "h2" && err == nil {
					t.Error("a break looked like an end")
				}
			} else {
				want = map[string]forward.Fault{"h2": forward.ClientGone}[protocol] // plain TCP just ends
			}
			c.Close()
			if first == "y" {
				if err := <-broken; err == nil {
					t.Error("the app was not told")
				}
			}
			if r := <-h.results; r.Fault != want {
				t.Errorf("%s: %+v", first, r)
			}
		}
	})
}

// An end that takes nothing ends the socket; one that says nothing does not.
func TestWebSocket_EndThatTakesNothingIsGivenUp(t *testing.T) {
	u := listen(t, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		io.WriteString(c, strings.Replace(switching, accept, acceptOf(r), 1))
		for { // for as long as it is taken
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	eachProtocol(t, func(t *testing.T, protocol string) {
		h := chain(t, protocol, 1, u.Addr(), func(job *forward.Job) { job.Write = 100 * time.Millisecond })
		h.open(t)
		if r := <-h.results; r.Fault != forward.ClientGone || r.Err == nil {
			t.Errorf("%+v", r)
		}
	})
}

// open is a socket in bytes.
func (h *hop) open(t *testing.T) net.Conn {
	t.Helper()
	r := h.request(t, "GET", "/ws", nil, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: "+key)
	answer, err := h.client.Transport.RoundTrip(r)
	if err != nil || answer.StatusCode != 101 {
		t.Fatal(err, answer)
	}
	c := answer.Body.(net.Conn)
	t.Cleanup(func() { c.Close() })
	return c
}

// Many at once, some of which are closed in the midst of it: each hears only what
// it said itself.
func TestWebSocket_ManyAtOnceMixNothing(t *testing.T) {
	eachWay(t, func(t *testing.T, protocol string, hops int) {
		sockets := make(chan *forward.WebSocket, 100)
		h := chain(t, protocol, hops, chat(t).Addr(), opened(sockets))
		var all sync.WaitGroup
		for i := range 24 {
			all.Go(func() {
				c := h.talk(t)
				for n := range 30 {
					sent := bytes.Repeat([]byte{byte(i), byte(n)}, 1+(i*n*977)%20000)
					if err := c.Write(t.Context(), websocket.MessageBinary, sent); err != nil {
						return // it was closed
					}
					_, got, err := c.Read(t.Context())
					if err != nil && websocket.CloseStatus(err) != 1008 && !errors.Is(err, io.EOF) {
						t.Errorf("%d: %v", i, err)
					}
					if err != nil {
						return
					}
					if !bytes.Equal(got, sent) {
						t.Errorf("socket %d heard another's", i)
						return
					}
					if n == 15 && i%3 == 0 {
						(<-sockets).Close(1008) // anyone's
					}
				}
			})
		}
		all.Wait()
	})
}

// U16: what one end does not read waits at the other end, not here.
func TestWebSocket_MemoryOfOneIsBounded(t *testing.T) {
	const sockets, bound = 8, 128 << 10
	stalled := make(chan struct{}, sockets)
	chunk := make([]byte, 1<<20)
	u := listen(t, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		io.WriteString(c, strings.Replace(switching, accept, acceptOf(r), 1))
		for {
			_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := c.Write(chunk); err != nil {
				stalled <- struct{}{}
				break
			}
		}
		io.Copy(io.Discard, c)
	})
	h := chain(t, "h1", 1, u.Addr(), nil)
	before := heap()
	for range sockets {
		_, in := h.raw(t, handshake)
		if _, err := http.ReadResponse(in, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range sockets {
		<-stalled
	}
	if each := (heap() - before) / sockets; each > bound {
		t.Errorf("%d bytes for each", each)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// U07: 1,000 switches that nobody asked for leave nothing behind; goleak looks.
func TestWebSocket_SwitchThatNobodyAskedForLeavesNothing(t *testing.T) {
	u := newUpstream(t, says(switching))
	h := newHop(t, "h1", u, nil)
	for range 1000 {
		answer, _, err := h.do(t, h.request(t, "GET", "/", nil))
		if err != nil || answer.StatusCode != 502 {
			t.Fatal(answer, err)
		}
		<-h.results
	}
	if n := len(u.requests()); n != 1000 {
		t.Errorf("%d requests", n)
	}
}
