package h2

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/net/http2"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// serverConn is the server's end of a connection.
type serverConn struct {
	*conn
	server *Server
	config *Config
	ctx    context.Context
	cancel context.CancelFunc
	remote string // who the client is, for Request.RemoteAddr

	// Guarded by conn.mu.
	requests int
	forgiven int  // streams above the limit
	retiring bool // the first GOAWAY was sent
	last     bool // the second too: no stream above final is looked at
	final    uint32
	retireAt int64 // tick of the first

	running int // handlers
	resting []*worker
	least   int  // of resting, since the last look
	looking bool // look will come
	lookAt  *time.Timer
	queue   []*stream // wait for a handler to return
	ending  bool
}

// queuedPerStream is how many requests may wait, for each stream that may be
// open: one that a client resets leaves its handler running for a while.
const queuedPerStream = 4

func newServerConn(ctx context.Context, s *Server, nc net.Conn) *serverConn {
	c := &serverConn{conn: newConn(nc, s.config.Limits, s.config.Times, false), server: s, config: &s.config}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if addr := nc.RemoteAddr(); addr != nil {
		c.remote = addr.String()
	}
	c.headers = c.onHeaders
	c.gone = func(*stream) {}
	c.wentAway = func(uint32, error) { c.retireNow() } // it makes no more requests: we have nothing to wait for
	c.ponged = func() {
		if c.retiring {
			c.retireNow()
		}
	}
	return c
}

// retire is the first step of going away: no stream is refused yet, since some
// may be on their way. mu is held.
func (c *serverConn) retire() {
	if c.retiring || c.cause != nil {
		return
	}
	c.retiring, c.retireAt = true, c.tick.Load()
	c.out.goAway(maxID, http2.ErrCodeNo, "")
	if c.pinged == 0 {
		c.pinged = c.tick.Load()
		c.out.ping(false, [8]byte([]byte(ownPing)))
	}
	c.flushApart()
}

// retireNow is the second: a round trip later everything that the client sent
// before it knew has come. mu is held.
func (c *serverConn) retireNow() {
	if c.last {
		return
	}
	c.retiring, c.last, c.final = true, true, c.maxID
	c.out.goAway(c.maxID, http2.ErrCodeNo, "")
	c.flushApart()
	c.closing = true
	if len(c.streams) == 0 {
		c.stop(errClosed)
	}
}

const retireWait = time.Second // for the answer to the ping between the two steps

// sweepServer is what only a server looks at. mu is held.
func (c *serverConn) sweepServer() {
	if c.retiring && !c.last && c.since(c.retireAt) >= retireWait {
		c.retireNow()
	}
	if !c.looking && c.least > 0 {
		c.let(c.least)
	}
	c.least = len(c.resting)
}

// workerRest is how long more than one worker may rest: a stack is kept by each.
// The last one goes with the sweep, so that a client of few requests does not have
// one made for each.
const workerRest = 100 * time.Millisecond

// look lets workers end that were not needed since the last look, all but one.
func (c *serverConn) look() {
	defer c.under.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looking = false
	c.let(min(c.least, len(c.resting)-1))
	c.least = len(c.resting)
	c.lookLater()
}

// lookLater has look come by where that is needed. mu is held.
func (c *serverConn) lookLater() {
	if c.looking || c.ending || len(c.resting) < 2 {
		return
	}
	c.looking = true
	c.under.Add(1)
	if c.lookAt == nil {
		c.lookAt = time.AfterFunc(workerRest, c.look)
	} else {
		c.lookAt.Reset(workerRest)
	}
}

// let lets the n workers end that rest longest. mu is held.
func (c *serverConn) let(n int) {
	if n <= 0 {
		return
	}
	for _, w := range c.resting[:n] {
		close(w.next)
	}
	left := copy(c.resting, c.resting[n:])
	clear(c.resting[left:])
	c.resting = c.resting[:left]
}

// onHeaders begins a request, or ends one with its trailers.
func (c *serverConn) onHeaders(id uint32, end bool) error {
	c.mu.Lock()
	if s := c.streams[id]; s != nil {
		defer c.mu.Unlock()
		if s.remoteDone {
			return c.faultyLocked(id, http2.ErrCodeStreamClosed, nil)
		}
		c.mu.Unlock()
		defer c.mu.Lock()
		return c.onTrailers(s, end)
	}
	if err := c.admit(id); err != nil {
		c.mu.Unlock()
		if err == errRefused {
			return nil
		}
		return err
	}
	c.mu.Unlock()
	s := c.newRequest(id, end)
	return c.accept(s, end)
}

var errRefused = errors.New("the stream is refused")

// admit decides whether a new stream may be opened. mu is held.
func (c *serverConn) admit(id uint32) error {
	switch {
	case id%2 == 0:
		return connError(http2.ErrCodeProtocol, "a client's stream has an even number")
	case id <= c.maxID && c.forgotten(id):
		return errRefused // trailers that were on their way when we reset it
	case id <= c.maxID:
		return connError(http2.ErrCodeStreamClosed, "HEADERS is for a stream that is closed, or out of order")
	case c.last && id > c.final:
		return errRefused // it has been told, and tries again elsewhere
	}
	c.maxID = id
	if len(c.streams) >= c.limits.Streams {
		return c.refuse(id)
	}
	return nil
}

// refuse refuses a stream above the limit. One who cannot know the limit yet is
// forgiven as many as RFC 9113 section 6.5.2 lets him hope for. mu is held.
func (c *serverConn) refuse(id uint32) error {
	if !c.acked && c.forgiven < assumedStreams {
		c.forgiven++
		c.forget(id)
		c.out.rst(id, http2.ErrCodeRefusedStream)
		c.flushApart()
		return errRefused
	}
	if err := c.faultyLocked(id, http2.ErrCodeRefusedStream, nil); err != nil {
		return err
	}
	return errRefused
}

// accept puts the stream in the map, and sees to it that it is answered.
func (c *serverConn) accept(s *stream, end bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams[s.id] = s
	s.open(s.incoming.request.Method == http.MethodConnect)
	s.remoteDone = end
	c.requests++
	if c.config.MaxRequests > 0 && c.requests >= c.config.MaxRequests {
		c.retire()
	}
	if s.incoming.malformed {
		c.abort(s, http2.ErrCodeProtocol, &StreamError{Code: http2.ErrCodeProtocol, Cause: s.incoming.flaw})
		c.flushApart()
		if err := c.uselessLocked(); err != nil {
			_ = c.dispatch(s) // it is still to be accounted for
			return err
		}
	}
	return c.dispatch(s)
}

// refuseBlock answers the request whose header list was too large even to be
// read. It is the last on the connection: the table is lost.
func (c *serverConn) refuseBlock(id uint32) {
	s := c.refused(id)
	if s == nil {
		return
	}
	timer := time.NewTimer(lastWrite)
	defer timer.Stop()
	select {
	case <-s.incoming.request.Context().Done():
	case <-timer.C:
	}
}

func (c *serverConn) refused(id uint32) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[id] != nil || c.admit(id) != nil {
		return nil
	}
	s := c.newStream(id)
	s.incoming.request.Header = http.Header{}
	s.incoming.refuse(wire.FlawFieldSize, false)
	c.streams[id] = s
	s.sendWindow = c.peer.window
	if c.dispatch(s) != nil {
		return nil
	}
	return s
}

// worker is a goroutine that runs handlers, one after the other: to make one for
// each request means to grow its stack each time.
type worker struct {
	next chan *stream // has room for one; closed when the worker is to end
}

// dispatch has the stream handled, at once or when a handler has returned. mu is
// held.
func (c *serverConn) dispatch(s *stream) error {
	if n := len(c.resting); n > 0 {
		w := c.resting[n-1]
		c.resting = c.resting[:n-1]
		c.least = min(c.least, n-1)
		c.running++
		w.next <- s
		return nil
	}
	if c.running < c.limits.Streams {
		c.running++
		c.under.Add(1)
		go c.work(s)
		return nil
	}
	if len(c.queue) >= queuedPerStream*c.limits.Streams {
		return connError(http2.ErrCodeEnhanceYourCalm, "requests are reset faster than they can be given up")
	}
	c.queue = append(c.queue, s)
	return nil
}

func (c *serverConn) work(s *stream) {
	defer c.under.Done()
	w := &worker{next: make(chan *stream, 1)}
	for s != nil {
		c.handle(s)
		s = c.next(w)
		if s == nil {
			s = <-w.next // nil when it is closed
		}
	}
}

// next is a stream that waits, or nil: then the worker rests.
func (c *serverConn) next(w *worker) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 {
		s := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		if s.err == nil || s.incoming.flaw != wire.FlawNone { // not reset while it waited
			return s
		}
	}
	c.queue = nil
	c.running--
	if c.ending {
		close(w.next)
	} else {
		c.resting = append(c.resting, w)
		c.lookLater()
	}
	return nil
}

// rest lets the workers end.
func (c *serverConn) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	for _, w := range c.resting {
		close(w.next)
	}
	c.resting, c.least = nil, 0
	if c.looking && c.lookAt.Stop() {
		c.under.Done()
	}
}

// handle answers one request.
func (c *serverConn) handle(s *stream) {
	in := s.incoming
	defer in.cancel(nil)
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler {
				c.config.Logger.Error("a handler panicked", "panic", v, "stack", string(debug.Stack()))
			}
			s.abort(http2.ErrCodeInternal, errStopped)
			s.discard()
			in.writer.release()
		}
	}()
	if in.flaw != wire.FlawNone {
		c.config.Flawed(&in.writer, in.request, in.flaw)
	} else {
		c.config.Handler.ServeHTTP(&in.writer, in.request)
	}
	in.writer.finish()
	s.discard()
}
