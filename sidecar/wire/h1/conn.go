package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

var errInterrupted = errors.New("reading the body was given up")

// serverConn is one connection of a client.
type serverConn struct {
	s      *Server
	ctx    context.Context
	conn   net.Conn
	remote string
	in     source
	out    sink
	dog    watchdog

	mu      sync.Mutex
	idle    bool // no request is under way, nor a part of one
	retired bool

	// Under dog.mu, while a handler works.
	current  *exchange
	reading  chan struct{} // closed when the read that watches for the client's end is over
	ended    bool          // the request was read to its end: nobody else reads
	overdue  bool          // the watching should start when the body has ended
	hijacked bool
}

func newServerConn(s *Server, ctx context.Context, conn net.Conn) *serverConn {
	c := &serverConn{s: s, ctx: ctx, conn: conn}
	if addr := conn.RemoteAddr(); addr != nil {
		c.remote = addr.String()
	}
	// A target that is too long is told from a line that is: FlawTargetLength.
	c.in.open(conn, strictName, s.config.MaxFields, s.config.MaxTarget+maxMethod+len("  HTTP/1.1"))
	c.out.open(conn, s.config.Write)
	c.dog.late = c.watch
	return c
}

// serve answers one request after the other: pipelined ones wait in the buffer.
func (c *serverConn) serve() {
	c.in.until.limit(c.s.config.Headers) // for the first byte too
	for c.await() {
		x := newExchange(c)
		flaw, err := c.readRequest(x)
		if err != nil {
			break
		}
		if !c.answer(x, flaw) {
			if c.hijacked {
				return
			}
			break
		}
		c.in.until.limit(c.s.config.Idle)
		c.out.until.limit(c.s.config.Write)
	}
	_ = c.conn.Close()
}

// await waits for the first byte of a request. Over TLS, where connections come
// from far and many, one that waits holds no buffers of ours.
func (c *serverConn) await() bool {
	c.in.shrink()
	if !c.rest(true) {
		return false
	}
	if len(c.in.buffered()) == 0 && c.first() != nil {
		return false
	}
	c.rest(false)
	return true
}

func (c *serverConn) first() error {
	if _, secure := c.conn.(*tls.Conn); !secure {
		return c.in.fill(bufferSize)
	}
	c.out.rest()
	defer c.out.wake()
	return c.in.first()
}

// rest marks the connection as one that may be closed at any time, or as one
// that may not.
func (c *serverConn) rest(idle bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = idle
	return !c.retired
}

// retire ends the connection now, or with the answer it is at.
func (c *serverConn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired = true; c.idle {
		_ = c.conn.Close()
	}
}

func (c *serverConn) isRetired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retired
}

// abort cuts the connection, whatever it is at.
func (c *serverConn) abort() {
	_ = c.conn.Close()
	c.dog.mu.Lock()
	defer c.dog.mu.Unlock()
	if c.current != nil {
		c.current.life.cancel()
	}
}

// readRequest reads a head. A client that goes away in the middle of one is an
// error; one that takes too long has a flaw.
func (c *serverConn) readRequest(x *exchange) (wire.Flaw, error) {
	text, err := c.in.readHead(true, c.s.config.MaxHead, func() {
		_ = c.in.until.at(time.Now().Add(c.s.config.Headers))
	})
	c.in.until.limit(c.s.config.Body)
	var flaw wire.Flaw
	switch {
	case err == nil:
		return x.parseRequest(&c.in.head, text), nil
	case errors.As(err, &flaw):
	case errors.Is(err, os.ErrDeadlineExceeded):
		flaw = wire.FlawSlow
	default:
		return wire.FlawNone, err
	}
	if h := &c.in.head; h.first >= 0 {
		x.parseRequest(h, string(c.in.buffered()[:h.pos]))
	}
	return flaw, nil
}

// answer calls the handler and finishes its answer. It reports whether the
// connection can carry another request.
func (c *serverConn) answer(x *exchange, flaw wire.Flaw) bool {
	if flaw != wire.FlawNone {
		x.flaw, x.closing = flaw, true
		x.request.Body, x.request.ContentLength, x.request.TransferEncoding, x.body.err = http.NoBody, 0, nil, nil
	}
	c.begin(x)
	fine := c.call(x, flaw)
	hijacked := c.finish()
	if hijacked {
		return false
	}
	whole := x.body.end()
	if !fine || c.ctx.Err() != nil || x.end() != nil {
		return false
	}
	if !whole && !x.closing {
		whole = x.body.drain()
	}
	if x.closing || !whole {
		c.linger(whole)
		return false
	}
	return true
}

// call runs the handler. It is false where that panicked.
func (c *serverConn) call(x *exchange, flaw wire.Flaw) (fine bool) {
	defer x.life.cancel()
	defer func() {
		if !fine {
			if value := recover(); value != http.ErrAbortHandler && c.s.config.Panicked != nil {
				c.s.config.Panicked(value)
			}
		}
	}()
	switch {
	case flaw == wire.FlawNone:
		c.s.config.Handler.ServeHTTP(x, &x.request)
	case c.s.config.Flawed != nil:
		c.s.config.Flawed(x, &x.request, flaw)
	}
	return true
}

// linger lets a client that is still sending read the answer: a connection that
// is closed with unread bytes in it is reset, and the answer with it (RFC 9112
// section 9.6).
func (c *serverConn) linger(whole bool) {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if whole || !ok || half.CloseWrite() != nil {
		return
	}
	c.in.until.limit(lingerTime) // the reading may have been cut
	_ = c.in.until.at(time.Now().Add(lingerTime))
	var scratch [bufferSize]byte
	for {
		if _, err := c.in.receive(scratch[:]); err != nil {
			return
		}
	}
}

// begin and finish enclose the time in which a handler works and the client may
// go away unnoticed.
func (c *serverConn) begin(x *exchange) {
	c.dog.mu.Lock()
	c.current, c.overdue = x, false
	c.ended = x.flaw == wire.FlawNone && x.body.err == io.EOF
	if c.ctx.Err() != nil { // before abort could know of it
		x.life.cancel()
	}
	c.dog.mu.Unlock()
	c.dog.begin()
}

func (c *serverConn) finish() (hijacked bool) {
	c.dog.end()
	c.stopWatching()
	c.dog.mu.Lock()
	defer c.dog.mu.Unlock()
	c.current = nil
	return c.hijacked
}

// bodyEnded is told that the request was read to its end.
func (c *serverConn) bodyEnded() {
	c.dog.mu.Lock()
	defer c.dog.mu.Unlock()
	if c.ended = true; c.overdue && c.current != nil && c.dog.busy {
		c.watch()
	}
}

// watch starts to read ahead, so that the client's end is seen. It is called
// with dog.mu held.
func (c *serverConn) watch() {
	if c.overdue = true; !c.ended || c.reading != nil || c.hijacked || !c.in.room(bufferSize) || c.in.until.hold() != nil {
		return
	}
	c.reading = make(chan struct{})
	go c.readAhead(c.current, c.reading)
}

// readAhead reads what a client sends before it has its answer, as far as the
// buffer has room for it. Whoever ends it waits for it.
func (c *serverConn) readAhead(x *exchange, done chan struct{}) {
	defer close(done)
	defer c.in.until.release()
	for c.in.w < len(c.in.buf) {
		n, err := c.conn.Read(c.in.buf[c.in.w:])
		c.in.w += n
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				x.life.cancel()
			}
			return
		}
	}
}

// stopWatching ends the reading ahead, and waits for that.
func (c *serverConn) stopWatching() {
	c.dog.mu.Lock()
	reading := c.reading
	c.reading = nil
	c.dog.mu.Unlock()
	if reading == nil {
		return
	}
	select {
	case <-reading: // it ended by itself
	default:
		c.in.until.cut()
		<-reading
	}
}
