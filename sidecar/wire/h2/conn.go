package h2

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// conn is what both ends of a connection do alike. One goroutine reads; everyone
// writes (see [conn.flush]).
type conn struct {
	nc     net.Conn
	limits Limits
	times  Times
	client bool

	// What the two ends do differently, all but the first with mu held: headers is
	// given each decoded block, gone each stream that left the map, wentAway the
	// peer's GOAWAY with its reason if it is an error, settled that there are new
	// settings, ponged that our ping was answered.
	headers  func(id uint32, end bool) error
	gone     func(s *stream)
	wentAway func(last uint32, err error)
	settled  func()
	ponged   func()

	// The reader's own.
	br       *bufio.Reader
	source   source
	keeps    bool          // of nc: what it has received and was not read is its own to keep
	framer   *http2.Framer // of which only the reading half is used
	dec      *decoder
	fragment []byte
	first    bool // no frame has come yet: it must be SETTINGS

	tick     atomic.Int64 // of the sweeper: the clock of every timeout here
	lastRead atomic.Int64 // tick of the last frame
	begun    atomic.Int64 // tick of the frame or block that is being read, 0 if none is
	beginsAt atomic.Int64 // how many ticks that may take
	under    sync.WaitGroup

	mu       sync.Mutex // guards everything below, and the unexported fields of streams that say so
	streams  map[uint32]*stream
	maxID    uint32 // the highest id a client has used
	cause    error  // why the connection ends; nil while it does not
	closing  bool   // it ends when the last stream does
	reset    [64]uint32
	resetAt  int
	glitches budget

	sendWindow, recvWindow int64
	unacked                int64 // bytes that were read, and not given back to the peer's window
	moved                  int64 // bytes of data that were ever sent
	peer                   peerSettings
	acked                  bool
	pinged                 int64 // tick of our ping that is unanswered, 0 if none is
	sweeper                *time.Timer
	lastBusy               int64 // tick at which a stream was open

	out writer
}

// peerSettings are what the peer said of itself (RFC 9113 section 6.5.2).
type peerSettings struct {
	streams     uint32
	window      int64
	headerBytes uint32
	extended    bool // RFC 8441
}

func newConn(nc net.Conn, limits Limits, times Times, client bool) *conn {
	c := &conn{
		nc: nc, limits: limits, times: times, client: client,
		br: bufio.NewReaderSize(nil, readBufferSize), source: source{nc: nc}, dec: newDecoder(&limits), first: true,
		streams:    make(map[uint32]*stream),
		glitches:   newBudget(limits.Glitches),
		sendWindow: protocolWindow, recvWindow: int64(limits.ConnWindow),
		peer: peerSettings{streams: assumedStreams, window: protocolWindow, headerBytes: 1<<32 - 1},
	}
	c.br.Reset(&c.source)
	_, c.keeps = nc.(*tls.Conn)
	c.framer = http2.NewFramer(nil, reading{c})
	c.framer.SetMaxReadFrameSize(frameSize)
	c.out.init(c)
	c.tick.Store(1)
	return c
}

// greet appends our settings, and the rest of the connection's window.
func (c *conn) greet(more ...http2.Setting) {
	c.out.settings(c.limits.settings(more...))
	if grow := c.limits.ConnWindow - protocolWindow; grow > 0 {
		c.out.windowUpdate(0, uint32(grow))
	}
}

// stop ends the connection for that cause, from any goroutine but the reader,
// which does the rest. mu is held.
func (c *conn) stop(cause error) {
	if c.cause == nil {
		c.cause = cause
	}
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// kill is stop for a connection that takes no bytes any more. mu is held.
func (c *conn) kill(cause error) {
	if c.cause == nil {
		c.cause = cause
	}
	c.out.broken = true
	_ = c.nc.SetDeadline(time.Unix(1, 0))
	c.wakeSenders()
}

// end is the reader's last act: everything on the connection ends for the cause,
// and the peer is told of it.
func (c *conn) end(cause error) {
	c.mu.Lock()
	if c.cause != nil {
		cause = c.cause
	}
	clean := c.closing && len(c.streams) == 0 // nobody is cut
	if clean {
		cause = errClosed
	}
	c.cause, c.closing = cause, true
	if c.sweeper != nil && c.sweeper.Stop() {
		c.under.Done()
	}
	for _, s := range c.streams {
		c.drop(s, cause)
	}
	var said *ConnError
	tell := errors.As(cause, &said) && !said.Remote
	if tell {
		c.out.goAway(c.lastPeerID(), said.Code, said.Reason)
	}
	if clean || tell {
		_ = c.nc.SetWriteDeadline(time.Now().Add(lastWrite)) // of the real clock, as every deadline of a connection
		c.out.finish()
	}
	c.out.broken = true
	c.wakeSenders()
	c.mu.Unlock()
	if clean || tell {
		c.linger()
	}
	_ = c.nc.Close()
	c.mu.Lock()
	c.out.drained()
	c.mu.Unlock()
}

const (
	lastWrite   = time.Second
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

// linger takes what the peer still sends, for a moment: to close with bytes
// unread would make TCP throw away the last that we have said.
func (c *conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.br, lingerBytes)
}

// lastPeerID is the highest id of a stream that the peer opened. mu is held.
func (c *conn) lastPeerID() uint32 {
	if c.client {
		return 0
	}
	return c.maxID
}

// drop ends a stream that is in the map, without a word to the peer. mu is held.
func (c *conn) drop(s *stream, err error) {
	c.remove(s)
	s.fail(err)
}

// remove takes the stream out of the map: no frame finds it from now on. mu is
// held.
func (c *conn) remove(s *stream) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	s.gone = true
	c.lastBusy = c.tick.Load()
	c.gone(s)
	if c.closing && len(c.streams) == 0 {
		c.stop(errClosed)
	}
}

// complete takes a stream out of the map whose messages have both ended. mu is
// held.
func (c *conn) complete(s *stream) {
	c.glitches.earn(1)
	c.remove(s)
}

// abort resets a stream of ours: it ends at once on both ends. mu is held.
func (c *conn) abort(s *stream, code http2.ErrCode, err error) {
	if s.gone {
		return
	}
	c.forget(s.id)
	c.out.rst(s.id, code)
	c.drop(s, err)
}

// forget notes that we reset the stream: what the peer sent before it learned
// of that is no fault. mu is held.
func (c *conn) forget(id uint32) {
	c.reset[c.resetAt%len(c.reset)] = id
	c.resetAt++
}

func (c *conn) forgotten(id uint32) bool {
	for _, known := range c.reset {
		if known == id {
			return true
		}
	}
	return false
}

// wakeSenders lets everyone who waits for room or for the connection's window
// look again. mu is held.
func (c *conn) wakeSenders() {
	for i, s := range c.out.waiters {
		s.queued = false
		s.wakeSender()
		c.out.waiters[i] = nil
	}
	c.out.waiters = c.out.waiters[:0]
}

// credit gives bytes back to the peer's windows once they are worth a frame. The
// stream is nil where only the connection's counts. Where its reader keeps up, so
// that nothing waits, its window grows.
func (c *conn) credit(s *stream, n int, keepsUp bool) {
	if n <= 0 {
		return
	}
	c.mu.Lock()
	if c.creditLocked(s, n, keepsUp) {
		c.flush()
		return
	}
	c.mu.Unlock()
}

func (c *conn) creditLocked(s *stream, n int, keepsUp bool) (said bool) {
	c.unacked += int64(n)
	if c.unacked >= int64(c.limits.ConnWindow)/4 {
		c.out.windowUpdate(0, uint32(c.unacked))
		c.recvWindow += c.unacked
		c.unacked = 0
		said = true
	}
	if s == nil || s.remoteDone || s.gone {
		return said
	}
	s.unacked += int64(n)
	grow, due := int64(0), s.window/2
	if more := int64(c.limits.StreamWindow) - s.window; more > 0 && keepsUp && !s.tunnel {
		grow, due = more, s.window/8
	}
	if s.unacked >= due {
		given := s.unacked + grow
		c.out.windowUpdate(s.id, uint32(given))
		s.recvWindow += given
		s.window += grow
		s.unacked = 0
		said = true
	}
	return said
}
