package h2

import (
	"bufio"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// tunnel is a stream that carries another protocol's bytes both ways: RFC 8441
// section 5. It is read by one goroutine and written by another. What it may have
// under way is the windows', as of any stream.
type tunnel struct {
	s      *stream
	ended  atomic.Bool // END_STREAM was sent
	closed atomic.Bool
}

// Read reads on. The end is io.EOF only where the other end said so.
func (t *tunnel) Read(p []byte) (int, error) { return t.s.read(context.Background(), p) }

// Write sends p, and counts all of it or nothing. Where the peer takes none of it
// for too long the stream is reset.
func (t *tunnel) Write(p []byte) (int, error) {
	if t.ended.Load() {
		return 0, errHalfClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := t.s.send(context.Background(), message{data: p}, t.s.c.times.Write); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite ends our half. It must not be called while a Write is under way.
func (t *tunnel) CloseWrite() error {
	if t.ended.Swap(true) {
		return nil
	}
	return t.s.send(context.Background(), message{end: true}, t.s.c.times.Write)
}

// Close resets the stream, unless both halves have ended.
func (t *tunnel) Close() error {
	if !t.closed.Swap(true) {
		t.s.abort(http2.ErrCodeCancel, net.ErrClosed)
		t.s.discard()
	}
	return nil
}

func (t *tunnel) LocalAddr() net.Addr  { return t.s.c.nc.LocalAddr() }
func (t *tunnel) RemoteAddr() net.Addr { return t.s.c.nc.RemoteAddr() }

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (t *tunnel) SetDeadline(at time.Time) error {
	_ = t.SetReadDeadline(at) // there is no error
	return t.SetWriteDeadline(at)
}

// SetReadDeadline is when reading ends in [os.ErrDeadlineExceeded].
func (t *tunnel) SetReadDeadline(at time.Time) error {
	t.s.in.setDeadline(at)
	return nil
}

// SetWriteDeadline is when writing that waits for the peer resets the stream.
func (t *tunnel) SetWriteDeadline(at time.Time) error {
	t.s.c.mu.Lock()
	defer t.s.c.mu.Unlock()
	t.s.deadline = at
	t.s.wakeSender()
	return nil
}

var (
	errHalfClosed = errors.New("writing to a stream: our half of it has ended")
	errNotTunnel  = errors.New("taking over the stream: it is none of an extended CONNECT that was answered with 2xx")
)

// Hijack hands over the stream of an extended CONNECT as a connection, after the
// 2xx that the handler wrote. The stream ends with the handler at the latest.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r := w.in.request
	if r.Method != http.MethodConnect || r.Header[":protocol"] == nil || w.status/100 != 2 || w.wrote > 0 || w.tunnel != nil {
		return nil, nil, errNotTunnel
	}
	if err := w.FlushError(); err != nil {
		return nil, nil, err
	}
	w.tunnel = &tunnel{s: &w.in.stream}
	return w.tunnel, bufio.NewReadWriter(bufio.NewReader(w.tunnel), bufio.NewWriter(w.tunnel)), nil
}

// switching is the protocol that a request asks to switch to in the way of
// HTTP/1.1 (RFC 9110 section 7.8), which here is an extended CONNECT.
func switching(r *http.Request) string {
	to := r.Header["Upgrade"]
	if len(to) != 1 || r.Method != http.MethodGet || r.ContentLength != 0 || !lists(r.Header["Connection"], "upgrade") {
		return ""
	}
	return strings.ToLower(to[0])
}

func lists(fields []string, token string) bool {
	for _, field := range fields {
		for one := range strings.SplitSeq(field, ",") {
			if strings.EqualFold(strings.TrimSpace(one), token) {
				return true
			}
		}
	}
	return false
}

// connectOf is the extended CONNECT that stands for a request to switch (RFC 8441
// section 4). The key proves to an HTTP/1.1 client that it was understood, and is
// left out here (section 5).
func connectOf(r *http.Request, protocol string) *http.Request {
	connect := r.Clone(r.Context())
	connect.Method = http.MethodConnect
	connect.Header[":protocol"] = []string{protocol}
	delete(connect.Header, "Sec-Websocket-Key")
	return connect
}

// switched makes the 101 that the caller waits for of the upstream's 2xx; another
// answer stays what it is, and nothing follows our request.
func (out *outgoing) switched(answer *http.Response) *http.Response {
	s := out.stream
	if answer.StatusCode/100 != 2 {
		err := s.send(out.r.Context(), message{end: true}, s.c.times.Write)
		if err != nil && answer.Body == http.NoBody {
			s.abort(http2.ErrCodeCancel, err)
		}
		return answer
	}
	answer.Header = maps.Clone(answer.Header)
	answer.Header["Connection"], answer.Header["Upgrade"] = []string{"Upgrade"}, out.r.Header[":protocol"]
	answer.StatusCode, answer.Status = http.StatusSwitchingProtocols, "101 Switching Protocols"
	answer.ContentLength = 0
	answer.Body = &tunnel{s: s}
	return answer
}
