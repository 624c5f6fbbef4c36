package h1

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// ServerConfig is what a [Server] is made of.
type ServerConfig struct {
	// Handler answers the requests. Nil: all are answered 503.
	Handler http.Handler
	// Flawed answers in the handler's place a request whose bytes are wrong, with
	// as much of it as could be read: Method, RequestURI, Proto and URL may be
	// empty. The connection ends with it. Nil, or if it writes nothing: the flaw's
	// status and no body.
	Flawed func(w http.ResponseWriter, r *http.Request, flaw wire.Flaw)
	// Panicked is told what a handler panicked with, but for
	// http.ErrAbortHandler. The connection is closed in either case.
	Panicked func(value any)
	// HTTP10 also serves HTTP/1.0, each time with the connection's end.
	HTTP10 bool

	// Headers is how long a head may take, Idle how long a connection may have no
	// request, Body and Write how long a client may send or take nothing of a
	// body where the handler sets no deadline of its own. 10, 60, 30 and 30
	// seconds if zero.
	Headers, Idle, Body, Write time.Duration
	// MaxHead is the most bytes of a head, MaxTarget of its target, MaxFields the
	// most field lines. 64 KiB, 16 KiB and 100 if zero.
	MaxHead, MaxTarget, MaxFields int
	Now                           func() time.Time // for Date; time.Now if nil
}

// Server serves HTTP/1.1 on the connections it is given.
type Server struct {
	config ServerConfig
	date   atomic.Pointer[date]

	mu      sync.Mutex
	conns   map[net.Conn]*serverConn
	retired bool
}

// NewServer is a server of that configuration.
func NewServer(config ServerConfig) *Server {
	config.setDefaults()
	return &Server{config: config, conns: map[net.Conn]*serverConn{}}
}

func (c *ServerConfig) setDefaults() {
	if c.Handler == nil {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	orElse(&c.Headers, defaultHeadTime)
	orElse(&c.Idle, defaultIdle)
	orElse(&c.Body, defaultStall)
	orElse(&c.Write, defaultStall)
	orElse(&c.MaxHead, defaultHead)
	orElse(&c.MaxTarget, defaultTarget)
	orElse(&c.MaxFields, defaultFields)
}

func orElse[T int | time.Duration](value *T, otherwise T) {
	if *value <= 0 {
		*value = otherwise
	}
}

// ServeConn serves one connection on the calling goroutine until it ends, and
// closes it; one that a handler hijacked is the handler's. A TLS connection must
// have shaken hands. ctx is what the requests' contexts come from; its end cuts
// the connection.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	c := newServerConn(s, ctx, conn)
	if !s.enter(c) {
		_ = conn.Close()
		return
	}
	defer s.leave(c)
	stop := context.AfterFunc(ctx, c.abort)
	defer stop()
	c.serve()
}

// Retire lets every connection end: those without a request at once, the others
// with the answer they are at. It does not wait.
func (s *Server) Retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = true
	for _, c := range s.conns {
		c.retire()
	}
}

// RetireConn is Retire for the one connection, and false if it is not served here.
func (s *Server) RetireConn(conn net.Conn) bool {
	s.mu.Lock()
	c := s.conns[conn]
	s.mu.Unlock()
	if c == nil {
		return false
	}
	c.retire()
	return true
}

func (s *Server) enter(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil || s.retired {
		return false
	}
	s.conns[c.conn] = c
	return true
}

func (s *Server) leave(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.conn)
}

// date is the Date field's line of one second.
type date struct {
	second int64
	line   string
}

func (s *Server) dateLine() string {
	now := s.config.Now()
	if d := s.date.Load(); d != nil && d.second == now.Unix() {
		return d.line
	}
	d := &date{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
	s.date.Store(d)
	return d.line
}
