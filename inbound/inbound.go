// Package inbound is the hop toward the local app: mutual TLS in, a decision, and
// the request goes on to the app or is refused.
//
// It is given functions, not services: where identities and policies come from is
// not its concern, and it cannot reach them. A request that it cannot attribute,
// judge or record is refused. The zero Config is refused by New.
package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/everyhop/everyhop/identity"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/audit"
	"github.com/everyhop/everyhop/sidecar/hop"
	"github.com/everyhop/everyhop/sidecar/listener"
	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

// Config is what a [Server] is given.
type Config struct {
	// Policy is the snapshot to judge by; it is asked once for each request.
	Policy func() *policy.Snapshot
	// TLS must demand and verify the peer's SVID.
	TLS   *tls.Config
	Audit *audit.Log
	// PeerOf is the peer that a connection verified by TLS has proved.
	PeerOf func(tls.ConnectionState) (identity.Peer, error)
	// Recheck is nil while the peer of an open connection would still be accepted.
	// Nil: it is not asked.
	Recheck func(tls.ConnectionState) error
	Now     func() time.Time // time.Now if nil
	Logger  *slog.Logger     // discards if nil
}

// maxAge bounds how long an HTTP/2 connection gets new requests: its client is
// asked for a new one, and shakes hands anew.
const maxAge = time.Hour

// Server serves inbound requests. Its methods are safe for concurrent use.
type Server struct {
	config  Config
	hop     hop.Config
	app     app
	wire    *serve.Server
	tunnels *hop.Tunnels
	sockets hop.Sockets

	handshake time.Duration // how long one may take
}

// New makes a server. Timeouts of handshakes, headers and idle connections are
// those of the policy at this moment.
func New(config Config) (*Server, error) {
	if config.Policy == nil || config.TLS == nil || config.Audit == nil || config.PeerOf == nil {
		return nil, errors.New("making the inbound hop: it needs a policy, a TLS configuration, an audit log, and a way to tell peers")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		config: config,
		hop:    hop.Config{Direction: audit.Inbound, Audit: config.Audit, Logger: config.Logger, Now: config.Now},
	}
	s.tunnels = hop.NewTunnels(s.hop, wire.WriterOf)
	var timeouts policy.Timeouts
	if snapshot := config.Policy(); snapshot != nil {
		timeouts = snapshot.Timeouts
	}
	s.handshake = timeouts.Handshake
	s.wire = serve.NewServer(serve.ServerConfig{
		Handler: s,
		Flawed:  s.flawed,
		// Announced whatever the policy says now: it may open WebSocket while
		// connections live.
		ExtendedConnect: true,

		Headers: timeouts.Headers,
		Idle:    timeouts.Idle,
		Body:    timeouts.Body,
		Write:   timeouts.Write,
		MaxAge:  maxAge,
		Now:     config.Now,
		Logger:  config.Logger,
	})
	return s, nil
}

// Serve serves the connections of ln until Stop, and then returns nil. Each ends
// with its peer's certificate at the latest.
func (s *Server) Serve(ln net.Listener) error {
	return s.wire.Serve(hop.Split(listener.New(wire.GatherListener{Listener: ln}, listener.Config{
		TLS:              s.config.TLS,
		HandshakeTimeout: s.handshake,
		Lease:            s.lease,
		Logger:           s.config.Logger,
		Now:              s.config.Now,
	}), s.takeBytes))
}

// Stop takes no new connections, and waits for what is under way until ctx ends;
// then it is cut.
func (s *Server) Stop(ctx context.Context) error {
	stop := s.sockets.Drain(ctx)
	defer stop()
	err := s.wire.Shutdown(ctx)
	err = errors.Join(err, s.tunnels.Stop(ctx))
	s.app.close()
	return err
}

// peer is who the connection of the request proved, and whether that still holds.
func (s *Server) peer(r *http.Request, now time.Time) (identity.Peer, policy.Reason) {
	conn := wire.ConnOf(r.Context())
	if conn == nil {
		return identity.Peer{}, policy.PeerUnverified
	}
	peer, ok := conn.Fact(s.prove).(identity.Peer)
	switch {
	case !ok || peer.IsZero():
		return identity.Peer{}, policy.PeerUnverified
	case !now.Before(peer.NotAfter):
		return peer, policy.PeerExpired
	}
	return peer, policy.Allowed
}

// sourceOf is the address that the connection comes from; zero if it is no IP
// address.
func sourceOf(c net.Conn) netip.Addr {
	if address, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return address.AddrPort().Addr()
	}
	return netip.Addr{}
}

// lease is when the connection must end. One that proves nobody has ended by now.
func (s *Server) lease(c net.Conn) time.Time {
	peer, _ := s.prove(c).(identity.Peer)
	if peer.IsZero() {
		return s.config.Now()
	}
	return peer.NotAfter
}

// prove is the peer of a connection, or the error that there is none.
func (s *Server) prove(c net.Conn) any {
	secure, ok := c.(*tls.Conn)
	if !ok {
		return errors.New("the connection is plain")
	}
	peer, err := s.config.PeerOf(secure.ConnectionState())
	if err != nil {
		return err
	}
	return peer
}
