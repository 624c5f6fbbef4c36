// Package std is the seam of [wire] on net/http, with every limit and timeout set.
// It is what the engines in use are compared with by tests; nothing in production
// imports it, since net/http cleans what it reads, so that a handler on it cannot
// be strict. A zero ServerConfig serves nothing, and a zero [Transport] reaches
// nothing.
package std

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// The limits of what a client may send, in bytes where nothing else is said.
const (
	maxHeader1     = 64<<10 - 4096 // net/http adds 4 KiB of its own
	maxHeader2     = 32<<10 - 320  // and here room for ten fields: RFC 9113 section 6.5.2
	maxStreams     = 100
	streamWindow   = 256 << 10
	connWindow     = 1 << 20
	pingAfter      = 30 * time.Second // of silence
	pingTimeout    = 15 * time.Second
	defaultHeaders = 10 * time.Second
	defaultIdle    = 60 * time.Second
	defaultWrite   = 30 * time.Second
)

// ServerConfig is what a [Server] is made of.
type ServerConfig struct {
	Handler http.Handler
	// H2C also speaks HTTP/2 with prior knowledge on plain connections. On TLS
	// the protocol is what the handshake agreed.
	H2C bool
	// Headers is how long a request's header block may take, Idle how long a
	// connection may have no request, Write how long an HTTP/2 connection may
	// take no byte. 10, 60 and 30 seconds if zero.
	Headers, Idle, Write time.Duration
	Now                  func() time.Time // time.Now if nil
	Logger               *slog.Logger     // discards if nil
}

// Server serves HTTP on the connections of the listeners it is given.
type Server struct {
	http *http.Server
}

// NewServer is a server of that configuration. It does nothing until Serve.
func NewServer(config ServerConfig) *Server {
	setServerDefaults(&config)
	handler := config.Handler
	if handler == nil {
		handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}
	s := newHTTP(&config, maxHeader1)
	s.Handler = received1(handler)
	second := newHTTP(&config, maxHeader2)
	s.TLSNextProto = secondProtocol(second, handler)
	s.RegisterOnShutdown(func() { _ = second.Shutdown(context.Background()) }) // it tracks no connections, so it does not wait
	return &Server{s}
}

func setServerDefaults(c *ServerConfig) {
	if c.Headers <= 0 {
		c.Headers = defaultHeaders
	}
	if c.Idle <= 0 {
		c.Idle = defaultIdle
	}
	if c.Write <= 0 {
		c.Write = defaultWrite
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func newHTTP(config *ServerConfig, maxHeader int) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(config.H2C)
	return &http.Server{
		ReadHeaderTimeout:            config.Headers,
		IdleTimeout:                  config.Idle,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ConnContext:                  wire.WithConn,
		ErrorLog:                     log.New(&errorLog{logger: config.Logger, throttle: wire.Throttle{Now: config.Now}}, "", 0),
		Protocols:                    &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: connWindow,
			MaxReceiveBufferPerStream:     streamWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              config.Write,
		},
	}
}

// Serve serves the connections of ln until Shutdown or Close, and then returns
// nil. A TLS connection must have shaken hands already: nothing is sent to one
// that has not proved who it is.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown closes the listeners, tells HTTP/2 clients to go away, and waits for
// the requests under way. When ctx ends first, they are cut.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// Close cuts everything at once.
func (s *Server) Close() error { return s.http.Close() }

// received1 shows a request of an HTTP/1 connection as it was received.
func received1(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TLS = nil
		if r.ProtoMajor != 1 {
			// An HTTP/2 preface where the handshake agreed on HTTP/1: not a
			// version that this connection speaks.
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0
		}
		handler.ServeHTTP(w, r)
	})
}

// secondProtocol is how HTTP/2 connections are served: by a server of its own,
// since its header limit is another one, and without net/http's last wrapper,
// which hides a request whose :scheme is not the connection's.
func secondProtocol(second *http.Server, handler http.Handler) map[string]func(*http.Server, *tls.Conn, http.Handler) {
	// net/http makes these functions when it begins to serve, whatever it serves.
	_ = second.Serve(noListener{})
	protocols := make(map[string]func(*http.Server, *tls.Conn, http.Handler), len(second.TLSNextProto))
	for name, serve := range second.TLSNextProto {
		secure := name == "h2" // and not prior knowledge on a plain connection
		protocols[name] = func(_ *http.Server, c *tls.Conn, wrapped http.Handler) {
			based, ok := wrapped.(interface{ BaseContext() context.Context })
			if !ok { // no context: no connection, so nobody could be identified
				return
			}
			serve(second, c, received2{handler, based.BaseContext(), secure})
		}
	}
	return protocols
}

// received2 shows a request of an HTTP/2 connection as it was received.
type received2 struct {
	handler http.Handler
	ctx     context.Context // of the connection: net/http asks the handler for it
	secure  bool
}

func (h received2) BaseContext() context.Context { return h.ctx }

func (h received2) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.secure {
		r.URL.Scheme = "https"
		if r.TLS == nil { // net/http's way to say that :scheme is http
			r.URL.Scheme = "http"
		}
	}
	r.TLS = nil
	h.handler.ServeHTTP(w, r)
}

type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.TCPAddr{} }
