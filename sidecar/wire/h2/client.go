package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// clientConn is the client's end of a connection.
type clientConn struct {
	*conn
	t      *Transport
	secure *tls.ConnectionState // nil where it is plain
	until  time.Time            // when it gets no more requests; zero: never

	// Guarded by conn.mu.
	reserved int           // streams that are open, or will be
	retired  bool          // it takes no more requests
	away     bool          // because the upstream said so: not even one that has its place
	goneAway error         // the upstream's reason for ending it
	settings chan struct{} // closed when the upstream's have come, or never will
	known    bool          // it is closed
}

// call is what a client's stream has besides.
type call struct {
	out    *outgoing
	ctx    context.Context
	headed bool // the final head has come; the reader's own
	infos  int  // heads of 1xx so far; the reader's own
	ahead  chan struct{}
	begun  atomic.Int32 // the body: not read yet, read, or never to be
}

func newClientConn(t *Transport, nc net.Conn) *clientConn {
	c := &clientConn{conn: newConn(nc, t.config.Limits, t.config.Times, true), t: t, retired: t.closed}
	if age := t.config.MaxAge; age > 0 {
		c.until = t.config.Now().Add(age)
	}
	if t.config.Until != nil {
		if end := t.config.Until(nc); c.until.IsZero() || !end.IsZero() && end.Before(c.until) {
			c.until = end
		}
	}
	if secure, ok := nc.(*tls.Conn); ok {
		state := secure.ConnectionState()
		c.secure = &state
	}
	c.headers = c.onHeaders
	c.gone = c.release
	c.wentAway = c.onWentAway
	c.settings = make(chan struct{})
	c.settled = func() { c.know(); t.later(true) }
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastBusy = c.tick.Load()
	c.startSweeping(nil)
	c.out.pending = append(c.out.pending, http2.ClientPreface...)
	c.greet(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	c.flushApart()
	return c
}

// know says that the upstream's settings have come, or never will. mu is held.
func (c *clientConn) know() {
	if !c.known {
		c.known = true
		close(c.settings)
	}
}

// serve reads until the connection ends.
func (c *clientConn) serve() {
	defer c.t.under.Done()
	err := c.read()
	if err == io.EOF {
		err = errPeerClosed
	}
	c.mu.Lock()
	c.retired = true
	c.know()
	if c.goneAway != nil {
		err = c.goneAway
	}
	c.mu.Unlock()
	c.t.lose(c) // before its streams fail: they may be tried again at once
	c.end(err)
	c.under.Wait()
}

var errPeerClosed = errors.New("the upstream closed the HTTP/2 connection")

// place is what comes of asking for a stream.
type place uint8

const (
	unusable  place = iota // the connection takes no more
	saturated              // it carries all it may
	reserved
)

// reserve takes a place for a stream, if the connection has one. t.mu is held.
func (c *clientConn) reserve() place {
	c.mu.Lock()
	defer c.mu.Unlock()
	late := c.t.closed && c.maxID == 0 && c.reserved == 0
	if c.cause != nil || c.retired && !late {
		return unusable
	}
	if !late && !c.until.IsZero() && !c.t.config.Now().Before(c.until) || c.maxID >= maxID-2 {
		c.retireLocked()
		return unusable
	}
	if c.reserved >= int(min(c.peer.streams, 1<<20)) {
		return saturated
	}
	c.reserved++
	return reserved
}

// retire lets the connection end with its last answer.
func (c *clientConn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retireLocked()
}

func (c *clientConn) retireLocked() {
	c.retired = true
	if c.reserved > 0 { // the last to be released ends it
		return
	}
	c.goodbye()
}

// goodbye ends a connection that carries nothing. mu is held.
func (c *clientConn) goodbye() {
	c.closing = true
	c.out.goAway(0, http2.ErrCodeNo, "")
	c.stop(errClosed)
}

// release gives the place of a stream that has left the map to the next. mu is
// held.
func (c *clientConn) release(*stream) {
	c.reserved--
	if c.retired && c.reserved == 0 && c.cause == nil {
		c.goodbye()
	}
	c.t.later(false)
}

// onWentAway is the upstream's GOAWAY: it takes no new streams, and has not looked
// at those above last. mu is held.
func (c *clientConn) onWentAway(last uint32, err error) {
	c.retired, c.away = true, true
	for id, s := range c.streams {
		if id > last {
			cause := err
			if cause == nil {
				cause = errWentAway
			}
			c.drop(s, &retryError{err: cause})
		}
	}
	if err != nil && c.cause == nil {
		c.goneAway = err
	}
	if c.reserved == 0 && c.cause == nil {
		c.goodbye()
	}
	c.t.later(true)
}

var errWentAway = errors.New("the upstream takes no more requests on this HTTP/2 connection")

// roundTrip sends a request on a place that has been reserved.
func (c *clientConn) roundTrip(out *outgoing) (*http.Response, error) {
	r := out.r
	ctx := r.Context()
	s, err := c.open(ctx, out)
	if err != nil {
		return nil, err
	}
	trace := httptrace.ContextClientTrace(ctx)
	for {
		s.in.mu.Lock()
		infos, head, err := s.in.infos, s.in.head, s.in.err
		s.in.infos = nil
		s.in.mu.Unlock()
		if err := inform(trace, infos); err != nil {
			s.abort(http2.ErrCodeCancel, err)
			return nil, err
		}
		switch {
		case head != nil:
			return head, nil
		case err != nil && err != io.EOF:
			return nil, c.failure(s, err)
		}
		if err := wait(ctx, s.in.wake, time.Time{}); err != nil {
			s.abort(http2.ErrCodeCancel, err)
			return nil, err
		}
	}
}

// inform tells the trace of heads of 1xx.
func inform(trace *httptrace.ClientTrace, infos []information) error {
	for _, info := range infos {
		if trace == nil {
			return nil
		}
		if info.status == http.StatusContinue && trace.Got100Continue != nil {
			trace.Got100Continue()
		}
		if trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(info.status, textproto.MIMEHeader(info.header)); err != nil {
				return err
			}
		}
	}
	return nil
}

// failure decides whether a request that failed before its answer may be sent
// again: only if the upstream cannot have acted on it.
func (c *clientConn) failure(s *stream, err error) error {
	var again *retryError
	if errors.As(err, &again) {
		return err
	}
	var reset *StreamError
	if errors.As(err, &reset) {
		if reset.Remote && reset.Code == http2.ErrCodeRefusedStream {
			return &retryError{err: err}
		}
		return err
	}
	c.mu.Lock()
	unsent := s.sentAt >= c.out.handed
	c.mu.Unlock()
	if unsent || s.call.out.harmless {
		return &retryError{err: err}
	}
	return err
}

// open opens a stream and sends the request's head; the body follows on a
// goroutine of its own.
func (c *clientConn) open(ctx context.Context, out *outgoing) (*stream, error) {
	s := &stream{c: c.conn, left: -1, call: &call{out: out, ctx: ctx}}
	s.in.init()
	if out.expects {
		s.call.ahead = make(chan struct{}, 1)
	}
	if out.extended { // may it be? Only the upstream's settings say so
		select {
		case <-c.settings:
		case <-ctx.Done():
		}
	}
	if err := c.room(s, out); err != nil {
		return nil, err
	}
	c.maxID = (c.maxID + 1) | 1
	s.id = c.maxID
	s.open(out.extended)
	s.sentAt = c.out.position()
	s.localDone = out.body == nil && !out.tunnel
	out.stream = s
	c.streams[s.id] = s
	c.out.headers(s.id, out.head, s.localDone)
	if out.body != nil {
		out.current = s.call
		c.under.Add(1)
		go c.sendBody(s, out.body)
	}
	c.flushWith(out.body != nil)
	return s, nil
}

// room waits until there is room for a head, and leaves mu held if there is no
// error.
func (c *clientConn) room(s *stream, out *outgoing) error {
	ctx := s.call.ctx
	c.mu.Lock()
	for {
		if err := c.openable(ctx, out); err != nil {
			c.release(nil)
			c.mu.Unlock()
			return err
		}
		if !c.out.full() {
			return nil
		}
		s.enqueue()
		c.flush()
		_ = wait(ctx, s.wake, time.Time{}) // openable asks why
		c.mu.Lock()
	}
}

var errTooLargeForPeer = errors.New("the request's header list is larger than the upstream takes")

// openable says why a stream cannot be opened after all. mu is held.
func (c *clientConn) openable(ctx context.Context, out *outgoing) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case c.cause != nil:
		return &retryError{err: c.cause, unopened: true}
	case c.away: // a round trip later it drops what still comes
		return &retryError{err: errWentAway, unopened: true}
	case out.size > int64(c.peer.headerBytes):
		return errTooLargeForPeer
	case out.extended && !c.peer.extended:
		return errNotExtended
	}
	return nil
}

var errNotExtended = errors.New("the upstream does not accept an extended CONNECT (RFC 8441)")
