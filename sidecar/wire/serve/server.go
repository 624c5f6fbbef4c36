package serve

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/h1"
	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// ServerConfig is what a [Server] is made of.
type ServerConfig struct {
	// Handler answers requests. Nil: all are answered 503.
	Handler http.Handler
	// Flawed is called in the handler's place, once, for a request whose bytes are
	// wrong, with as much of it as could be read. Over HTTP/1 the connection ends
	// with its answer; over HTTP/2 what RFC 9113 calls malformed is reset, and the
	// answer dropped. Nil: the flaw's status and no body.
	Flawed func(w http.ResponseWriter, r *http.Request, flaw wire.Flaw)
	// H2C also speaks HTTP/2 with prior knowledge on plain connections. On TLS the
	// protocol is what the handshake agreed.
	H2C bool
	// HTTP10 also serves HTTP/1.0, each time with the connection's end.
	HTTP10 bool
	// ExtendedConnect accepts the CONNECT of RFC 8441 over HTTP/2.
	ExtendedConnect bool
	// Headers is how long a request's header block may take, Idle how long a
	// connection may have no request, Body and Write how long a client may send or
	// take nothing of a body where the handler sets no deadline. 10, 60, 30 and 30
	// seconds if zero.
	Headers, Idle, Body, Write time.Duration
	// MaxRequests is how many requests an HTTP/2 connection gets before the client is
	// asked to make a new one; zero: no bound.
	MaxRequests int
	// Opened is told of each connection before it is served, and what it returns is
	// called when it is not any more. Nil: nobody is.
	Opened func(*wire.Conn) (closed func())
	Now    func() time.Time // time.Now if nil
	Logger *slog.Logger     // is told of panics; discards if nil
}

func (c *ServerConfig) setDefaults() {
	if c.Handler == nil {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}
	if c.Headers <= 0 {
		c.Headers = 10 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Server serves HTTP on the connections of the listeners it is given. It owns one
// goroutine for each connection, and HTTP/2 has one more for each request that is
// being answered.
type Server struct {
	config   ServerConfig
	throttle wire.Throttle
	first    *h1.Server
	second   *h2.Server
	life     context.Context // of the connections
	cut      context.CancelFunc
	under    sync.WaitGroup // connections

	mu        sync.Mutex // guards what follows
	listeners map[net.Listener]struct{}
	silent    map[net.Conn]struct{} // have not said yet what they speak
	shut      bool
}

const maxFields = 100 // in a request, besides those that say what it is for

// NewServer is a server of that configuration. It does nothing until Serve.
func NewServer(config ServerConfig) *Server {
	config.setDefaults()
	s := &Server{
		config:    config,
		throttle:  wire.Throttle{Now: config.Now},
		listeners: make(map[net.Listener]struct{}),
		silent:    make(map[net.Conn]struct{}),
	}
	s.life, s.cut = context.WithCancel(context.Background())
	handler := http.HandlerFunc(s.handle)
	s.first = h1.NewServer(h1.ServerConfig{
		Handler: handler, Flawed: config.Flawed, HTTP10: config.HTTP10,
		Headers: config.Headers, Idle: config.Idle, Body: config.Body, Write: config.Write, Now: config.Now,
		MaxFields: maxFields + 1, // Host
	})
	s.second = h2.NewServer(h2.Config{
		Handler: handler, Flawed: config.Flawed, ExtendedConnect: config.ExtendedConnect,
		Limits:      h2.Limits{Fields: maxFields + 5}, // the pseudo-fields
		Times:       h2.Times{Headers: config.Headers, Idle: config.Idle, Write: config.Write},
		MaxRequests: config.MaxRequests, Now: config.Now,
	})
	return s
}

// handle is the handler, whose panics are logged, so many a second and no more:
// if there is a way to cause them, a stranger will find it.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		if fault != http.ErrAbortHandler {
			if left, ok := s.throttle.Admit(); ok {
				s.config.Logger.Error("a handler panicked", "panic", fault, "stack", string(debug.Stack()), "left_out", left)
			}
		}
		panic(http.ErrAbortHandler) // the engine breaks the answer off
	}()
	s.config.Handler.ServeHTTP(w, r)
}

// Serve serves the connections of ln until Shutdown or Close, closes it, and then
// returns nil. A TLS connection must have shaken hands already: nothing is sent to
// one that has not proved who it is.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	if !s.listen(ln) {
		return nil
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			if s.forget(ln) {
				return nil
			}
			return err
		}
		s.begin(c)
	}
}

func (s *Server) listen(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return false
	}
	s.listeners[ln] = struct{}{}
	return true
}

func (s *Server) forget(ln net.Listener) (shut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
	return s.shut
}

// begin gives the connection its goroutine.
func (s *Server) begin(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		_ = c.Close()
		return
	}
	s.under.Go(func() { s.serve(c) })
}

// serve serves one connection to its end.
func (s *Server) serve(c net.Conn) {
	speaks, ready := http1, c
	if secure, ok := c.(*tls.Conn); ok {
		speaks = agreed(secure)
	} else if s.config.H2C {
		speaks, ready = s.listenFor(c)
	}
	ctx := wire.WithConn(s.life, c)
	if s.config.Opened != nil {
		defer s.config.Opened(wire.ConnOf(ctx))()
	}
	switch speaks {
	case http1:
		s.first.ServeConn(ctx, ready)
	case http2:
		_ = s.second.ServeConn(ctx, ready) // why it ended is the client's concern
	default:
		_ = c.Close()
	}
}

// Shutdown closes the listeners, asks clients to go away, in the two steps of RFC
// 9113 section 6.8 over HTTP/2, and waits for the requests under way. When ctx ends
// first, they are cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.first.Retire()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.second.Shutdown(ctx) // its error is that of ctx, which we see too
		s.under.Wait()
		s.cut()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	s.Close()
	last := time.NewTimer(lastWait)
	defer last.Stop()
	select {
	case <-ended:
	case <-last.C: // a handler that does not notice is left behind
	}
	return ctx.Err()
}

const lastWait = time.Second // for handlers whose requests have been cut

// RetireConn asks the client of the connection to go away, as Shutdown does: requests
// under way are answered. It does not wait, and is false if the connection is not
// served here.
func (s *Server) RetireConn(c net.Conn) bool {
	return s.first.RetireConn(c) || s.second.RetireConn(c)
}

// Close cuts everything at once, and waits for nothing.
func (s *Server) Close() {
	s.stop()
	s.second.Close() // before handlers learn that their time is over: they answer nothing any more
	s.cut()
}

// stop takes no more connections.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for c := range s.silent {
		_ = c.Close()
	}
}
