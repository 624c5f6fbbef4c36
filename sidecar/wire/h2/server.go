package h2

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// Config is what a [Server] is made of.
type Config struct {
	// Handler answers requests. Nil: each is answered with 503.
	Handler http.Handler
	// Flawed is called in the handler's place, once, for a request that is not
	// well-formed, or larger than it may be, with what could be read of it. Where
	// RFC 9113 calls the request malformed, what it writes is dropped and the
	// stream reset; else it answers. Nil: an empty answer of the flaw's status.
	Flawed func(w http.ResponseWriter, r *http.Request, flaw wire.Flaw)
	Limits Limits
	Times  Times
	// MaxRequests is how many requests a connection gets before the client is asked to
	// make a new one; zero: no bound.
	MaxRequests int
	// ExtendedConnect accepts the CONNECT of RFC 8441, for WebSocket. The handler
	// finds the protocol in the field ":protocol".
	ExtendedConnect bool
	Now             func() time.Time // time.Now if nil
	Logger          *slog.Logger     // is told of panics; discards if nil
}

// Server serves HTTP/2 on the connections it is handed.
type Server struct {
	config Config
	date   dateCache

	mu     sync.Mutex
	conns  map[net.Conn]*serverConn
	closed bool          // Shutdown or Close was called
	none   chan struct{} // closed when closed and no connection is left
}

// NewServer is a server of that configuration. It does nothing until ServeConn.
func NewServer(config Config) *Server {
	config.Limits = config.Limits.withDefaults(false)
	config.Times = config.Times.withDefaults(false)
	if config.Handler == nil {
		config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}
	if config.Flawed == nil {
		config.Flawed = func(w http.ResponseWriter, _ *http.Request, flaw wire.Flaw) { w.WriteHeader(flaw.Status()) }
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{config: config, conns: make(map[net.Conn]*serverConn), none: make(chan struct{})}
}

// ServeConn serves the connection until it ends, its handlers included, and
// closes it. The requests' contexts come from ctx; when that ends, the connection
// is cut. A TLS connection must have shaken hands already. The error says why the
// connection ended; it is nil where both sides had nothing more to say.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	c := newServerConn(ctx, s, nc)
	if !s.track(c) {
		_ = nc.Close()
		return errClosed
	}
	defer s.untrack(c)
	return c.serve()
}

func (s *Server) track(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c.nc] = c
	return true
}

func (s *Server) untrack(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.nc)
	if s.closed && len(s.conns) == 0 {
		close(s.none)
	}
}

// close takes no more connections, and returns those there are.
func (s *Server) close() []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		if len(s.conns) == 0 {
			close(s.none)
		}
	}
	conns := make([]*serverConn, 0, len(s.conns))
	for _, c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// Shutdown asks every client to make no more requests here, in the two steps of
// RFC 9113 section 6.8, so that none is lost, and waits for the requests under
// way. When ctx ends first, they are cut.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.close() {
		c.mu.Lock()
		c.retire()
		c.mu.Unlock()
	}
	select {
	case <-s.none:
		return nil
	case <-ctx.Done():
		s.Close()
		return ctx.Err()
	}
}

// RetireConn asks the client of the connection to make no more requests on it, as
// Shutdown does. It does not wait, and is false if the connection is not served here.
func (s *Server) RetireConn(nc net.Conn) bool {
	s.mu.Lock()
	c := s.conns[nc]
	s.mu.Unlock()
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retire()
	return true
}

// Close cuts every connection at once, and does not wait for handlers.
func (s *Server) Close() {
	for _, c := range s.close() {
		c.mu.Lock()
		c.kill(errClosed)
		c.mu.Unlock()
	}
}

// serve is a connection's life.
func (c *serverConn) serve() error {
	stop := context.AfterFunc(c.ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.kill(context.Cause(c.ctx))
	})
	c.mu.Lock()
	c.startSweeping(c.sweepServer)
	if c.config.ExtendedConnect {
		c.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.limits.Streams)},
			http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	} else {
		c.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.limits.Streams)})
	}
	c.flushApart()
	c.mu.Unlock()
	err := c.preface()
	if err == nil {
		err = c.read()
	}
	var large *blockError
	if errors.As(err, &large) {
		c.refuseBlock(large.id)
		err = large.err
	}
	c.end(err)
	c.cancel()
	stop()
	c.rest()
	c.under.Wait()
	if c.cause == errClosed || c.cause == io.EOF { // nobody else is left to write it
		return nil
	}
	return c.cause
}

var errPreface = errors.New("the connection does not begin as HTTP/2 does")

func (c *conn) preface() error {
	c.begin(c.times.Headers.Nanoseconds())
	defer c.begun.Store(0)
	p, err := c.br.Peek(len(http2.ClientPreface))
	if len(p) > 0 && string(p) != http2.ClientPreface[:len(p)] {
		return errPreface
	}
	if err != nil {
		return err
	}
	_, err = c.br.Discard(len(p))
	return err
}

// dateCache is the value of a Date field, made once a second.
type dateCache struct {
	mu     sync.Mutex
	second int64
	text   string
}

func (d *dateCache) at(now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if second := now.Unix(); second != d.second || d.text == "" {
		d.second, d.text = second, now.UTC().Format(http.TimeFormat)
	}
	return d.text
}
