package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// clientConn is one connection to the upstream. It carries one request at a time,
// and has no goroutine of its own.
type clientConn struct {
	t      *Transport
	conn   net.Conn
	secure *tls.ConnectionState // nil where it is plain
	in     source
	out    sink
	dog    watchdog

	until time.Time // when it gets no more requests; zero: never
	since time.Time // when it has been idle

	ctx  context.Context // of the request that it carries, and under dog.mu:
	stop func() bool     // ends the watch over it; nil: there is none yet
}

func newClientConn(t *Transport, conn net.Conn) *clientConn {
	c := &clientConn{t: t, conn: conn}
	if age := t.config.MaxAge; age > 0 {
		c.until = t.config.Now().Add(age)
	}
	if t.config.Until != nil {
		if end := t.config.Until(conn); c.until.IsZero() || !end.IsZero() && end.Before(c.until) {
			c.until = end
		}
	}
	if secure, ok := conn.(*tls.Conn); ok {
		state := secure.ConnectionState()
		c.secure = &state
	}
	c.in.open(conn, anyName, t.config.MaxFields, t.config.MaxHead)
	c.out.open(conn, t.config.Write)
	c.dog.late = c.watch
	return c
}

// begin starts to carry a request. Its end by the context's is watched for from
// the start only if that end is near: most requests are over before anybody looks.
func (c *clientConn) begin(ctx context.Context) {
	c.dog.mu.Lock()
	c.ctx = ctx
	if end, ok := ctx.Deadline(); ok && time.Until(end) < 4*patience {
		c.watch()
	}
	c.dog.mu.Unlock()
	c.in.until.limit(0)
	c.out.until.limit(c.t.config.Write)
	c.dog.begin()
}

// watch is called with dog.mu held.
func (c *clientConn) watch() {
	if c.stop == nil && c.ctx.Done() != nil {
		c.stop = context.AfterFunc(c.ctx, func() { _ = c.conn.Close() })
	}
}

// finish ends the carrying. The connection is kept if it is reusable, and closed
// if not.
func (c *clientConn) finish(reusable bool) {
	c.dog.end()
	c.dog.mu.Lock()
	stop := c.stop
	c.stop = nil
	c.dog.mu.Unlock()
	if stop != nil && !stop() {
		reusable = false // it is being closed
	}
	if !reusable || len(c.in.buffered()) > 0 {
		_ = c.conn.Close() // bytes that nobody asked for answer nobody's request
		return
	}
	c.in.shrink()
	c.t.pool.put(c)
}

// why is the error that the caller sees: the context's, or the body's, where
// these came first.
func (c *clientConn) why(s *sending, err error) error {
	if ctx := s.r.Context(); ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.state.Load() == sendFailed {
		return s.err
	}
	return err
}

// send writes the request, or its head where the body is not there yet; that is
// then sent by a goroutine. untouched: the upstream cannot have seen anything.
func (c *clientConn) send(s *sending) (untouched bool, err error) {
	if s.whole != nil {
		c.out.buf = append(c.out.buf[:0], s.whole...)
	} else if c.out.buf, err = s.appendHead(c.out.buf[:0]); err != nil {
		return false, err
	}
	short := s.body == nil
	if !short && s.whole == nil && s.isReady() {
		if c.out.buf, err = s.appendBody(c.out.buf); err != nil {
			return false, err
		}
		short = true
		s.whole = c.out.buf // as long as nothing else is sent here
	}
	n, err := c.out.sendAll()
	if err != nil {
		return n == 0 && s.repeatable(), err
	}
	if !short && s.body != nil {
		s.state.Store(sendUnderWay)
		go c.sendBody(s, s.body)
		s.body = nil // the goroutine's now
	}
	return false, nil
}

const (
	copySize  = 32 << 10
	chunkHead = 10 // room for the size line before a chunk
)

var copies = sync.Pool{New: func() any { b := make([]byte, chunkHead+copySize+2); return &b }}

// sendBody sends the body while the answer may come already. A body that cannot
// be read cuts the connection, so that the upstream never takes it for whole; one
// that is not taken leaves it alone, so that the answer can still be read.
func (c *clientConn) sendBody(s *sending, body io.ReadCloser) {
	buf := copies.Get().(*[]byte)
	taken, err := c.copyBody(s, body, *buf)
	copies.Put(buf)
	_ = body.Close()
	switch {
	case err == nil:
		s.state.Store(sendDone)
	case taken || isTimeout(err):
		s.err = err
		s.state.Store(sendFailed)
		_ = c.conn.Close()
	default:
		s.state.Store(sendBroken)
	}
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// copyBody reports with an error whether the upstream took what there was.
func (c *clientConn) copyBody(s *sending, body io.Reader, buf []byte) (taken bool, err error) {
	data := buf[chunkHead : chunkHead+copySize]
	for left := s.length; left != 0; {
		room := data
		if left > 0 {
			room = data[:min(int64(len(data)), left)]
		}
		n, err := body.Read(room)
		if n > 0 {
			out := data[:n]
			if left < 0 {
				out = frameChunk(buf, n)
			}
			if err := c.out.send(out); err != nil {
				return false, err
			}
		}
		if left > 0 {
			left -= int64(n)
		}
		switch {
		case err == io.EOF && left > 0:
			return true, errShort
		case err == io.EOF && left < 0:
			return false, c.out.send(s.appendLast(nil))
		case err == io.EOF:
			return true, nil
		case err != nil:
			return true, err
		}
	}
	return true, expectEnd(body)
}

// frameChunk puts a chunk's size before the n bytes at chunkHead, and its end
// behind them.
func frameChunk(buf []byte, n int) []byte {
	var line [chunkHead]byte
	size := append(strconv.AppendInt(line[:0], int64(n), 16), "\r\n"...)
	start := chunkHead - len(size)
	copy(buf[start:], size)
	return append(buf[start:chunkHead+n], "\r\n"...)
}

// appendLast writes the last chunk and the trailers.
func (s *sending) appendLast(b []byte) []byte {
	b = append(b, "0\r\n"...)
	for name, values := range s.r.Trailer {
		if notTrailers[http.CanonicalHeaderKey(name)] {
			continue
		}
		for _, value := range values {
			b, _ = appendField(b, name, value) // or nothing
		}
	}
	return append(b, "\r\n"...)
}
