package h2

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is one request and its answer.
type stream struct {
	c  *conn
	id uint32
	in inbox // the peer's message

	// The reader's own: what of the peer's body is still to come, -1 where it did
	// not say.
	left int64

	// Guarded by conn.mu.
	sendWindow, recvWindow int64
	unacked                int64
	window                 int64 // that we mean the peer to have when nothing waits
	tunnel                 bool  // whose window does not grow; never changes
	localDone, remoteDone  bool  // END_STREAM was sent, has come
	gone                   bool  // out of the map: no frame reaches it
	err                    error
	wake                   chan struct{} // of the goroutine that sends
	queued                 bool          // among the connection's waiters
	deadline               time.Time     // of sending
	sentAt                 uint64        // where in the connection's bytes our first head is
	mark                   int64         // of conn.moved, when this stream last got on

	incoming *incoming // at a server
	call     *call     // at a client
}

// open sets the windows of a new stream. mu is held.
func (s *stream) open(tunnel bool) {
	s.window, s.tunnel = int64(s.c.limits.firstWindow()), tunnel
	s.sendWindow, s.recvWindow = s.c.peer.window, s.window
}

// fail ends both directions for that reason. mu is held.
func (s *stream) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.in.finish(err, nil)
	s.wakeSender()
	if s.incoming != nil {
		s.incoming.cancel(err)
	}
}

func (s *stream) wakeSender() {
	select {
	case s.wake <- struct{}{}: // a nil channel if nobody ever waited
	default:
	}
}

// message is something to send: any of its parts may be missing.
type message struct {
	head     []hpack.HeaderField
	data     []byte
	trailers []hpack.HeaderField
	end      bool // with its last part the stream ends
	more     bool // the rest follows at once: it may wait for that
}

func (m *message) empty() bool {
	return m.head == nil && len(m.data) == 0 && m.trailers == nil && !m.end
}

// send appends and flushes the message. It returns when everything is on its way
// or waits with others' frames to be, and waits itself for windows and for room
// until the stream's deadline, or for as long as nothing moves for the given time
// (zero: for ever). ctx may end it too.
func (s *stream) send(ctx context.Context, m message, stall time.Duration) error {
	c := s.c
	var since time.Time
	sent := 0
	c.mu.Lock()
	for {
		if err := s.unsendable(); err != nil {
			c.mu.Unlock()
			return err
		}
		if m.head != nil && listSize(m.head) > int64(c.peer.headerBytes) {
			c.abort(s, http2.ErrCodeInternal, &StreamError{Code: http2.ErrCodeInternal, Cause: errHeadSize})
			c.flush()
			return errHeadSize
		}
		moved := s.append(&m)
		if m.empty() {
			if m.more {
				c.mu.Unlock()
			} else {
				c.flush()
			}
			return nil
		}
		if sent += moved; since.IsZero() || sent >= frameSize {
			since, sent = time.Now(), 0 // of the real clock, as every deadline of a connection
			s.mark = c.moved
		}
		if err := s.await(ctx, since, stall); err != nil {
			return err
		}
		c.mu.Lock()
	}
}

// unsendable says why nothing can be sent. mu is held.
func (s *stream) unsendable() error {
	switch {
	case s.err != nil:
		return s.err
	case s.c.out.broken:
		return errClosed
	}
	return nil
}

var errHeadSize = errors.New("the header list is larger than the peer takes")

// listSize is the size of a header list as RFC 9113 section 6.5.2 counts it.
func listSize(fields []hpack.HeaderField) (n int64) {
	for i := range fields {
		n += int64(fields[i].Size())
	}
	return n
}

// await flushes and waits until there may be room. mu is held, and let go.
func (s *stream) await(ctx context.Context, since time.Time, stall time.Duration) error {
	c := s.c
	s.enqueue()
	deadline := s.deadline
	if limit := since.Add(stall); stall > 0 && (deadline.IsZero() || limit.Before(deadline)) {
		deadline = limit
	}
	c.flush()
	err := wait(ctx, s.wake, deadline)
	if err == os.ErrDeadlineExceeded {
		if err = s.expired(since, stall); err != nil {
			s.giveUp(err)
			return err
		}
	}
	if err != nil {
		s.abort(http2.ErrCodeCancel, err)
	}
	return err
}

// giveUp resets a stream whose answer the peer does not take. The connection goes
// with it if that was no fault of the stream's alone: nothing else moved either,
// and either there is nothing but answers that wait, or this happens too often.
func (s *stream) giveUp(err error) {
	c := s.c
	c.mu.Lock()
	stuck := !c.client && !s.gone && c.moved-s.mark < frameSize
	if !s.gone {
		c.abort(s, http2.ErrCodeCancel, &StreamError{Code: http2.ErrCodeCancel, Cause: err})
	}
	if stuck && (!c.glitches.spend(c.glitches.heavy()) || c.onlyWaits()) {
		c.stop(connError(http2.ErrCodeEnhanceYourCalm, "the windows stay shut: answers cannot be sent"))
	}
	c.flush()
}

// onlyWaits reports whether every stream has something to send, and may not. mu
// is held.
func (c *conn) onlyWaits() bool {
	for _, s := range c.streams {
		if !s.queued {
			return false
		}
	}
	return true
}

// enqueue has the stream's sender woken when there may be room. mu is held.
func (s *stream) enqueue() {
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	if !s.queued {
		s.queued = true
		s.c.out.waiters = append(s.c.out.waiters, s)
	}
}

// expired is nil if the deadline has been moved while we waited for it.
func (s *stream) expired(since time.Time, stall time.Duration) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	now := time.Now()
	if (s.deadline.IsZero() || now.Before(s.deadline)) && (stall <= 0 || now.Before(since.Add(stall))) {
		return nil
	}
	return os.ErrDeadlineExceeded
}

// append appends as much of the message as windows and room allow, takes it off
// the message, and says how many bytes of data that was. mu is held.
func (s *stream) append(m *message) (moved int) {
	c := s.c
	if c.out.full() {
		return 0
	}
	if m.head != nil {
		end := m.end && len(m.data) == 0 && m.trailers == nil
		c.out.headers(s.id, m.head, end)
		if m.head = nil; end {
			m.end = false
			s.ended()
		}
	}
	for len(m.data) > 0 {
		n := int(min(int64(len(m.data)), dataSize, s.sendWindow, c.sendWindow))
		if n <= 0 || c.out.full() {
			return moved
		}
		end := m.end && m.trailers == nil && n == len(m.data)
		c.out.data(s.id, m.data[:n], end)
		s.sendWindow -= int64(n)
		c.sendWindow -= int64(n)
		c.moved += int64(n)
		m.data = m.data[n:]
		moved += n
		c.glitches.earn(1)
		if end {
			m.end = false
			s.ended()
		}
	}
	switch {
	case m.trailers != nil:
		c.out.headers(s.id, m.trailers, true)
	case m.end:
		c.out.data(s.id, nil, true)
	default:
		return moved
	}
	m.trailers, m.end = nil, false
	s.ended()
	return moved
}

// ended is END_STREAM sent. mu is held.
func (s *stream) ended() {
	s.localDone = true
	if s.remoteDone {
		s.c.complete(s)
	}
}

// abort resets the stream if it is not over.
func (s *stream) abort(code http2.ErrCode, cause error) {
	c := s.c
	c.mu.Lock()
	if !s.gone {
		c.abort(s, code, &StreamError{Code: code, Cause: cause})
	}
	c.flush()
}

// read reads on in the peer's body, and gives what it read back to the windows.
func (s *stream) read(ctx context.Context, p []byte) (int, error) {
	n, all, err := s.in.read(ctx, p)
	s.c.credit(s, n, all)
	return n, err
}

// discard gives up on the rest of the peer's body.
func (s *stream) discard() {
	s.c.credit(nil, s.in.shutdown(), false)
}
