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
	"github.com/everyhop/everyhop/sidecar/lease"
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
	// Held is nil while our own identity holds: without one nothing passes, on open
	// connections neither. Nil: it is not asked.
	Held   func() error
	Now    func() time.Time // time.Now if nil
	Logger *slog.Logger     // discards if nil
}

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
	}
	s.hop = hop.Config{
		Direction: audit.Inbound, Audit: config.Audit, Logger: config.Logger, Now: config.Now,
		Policy: config.Policy, Judge: s.judge, Leases: lease.NewBook(lease.Config{Now: config.Now}), Sockets: &s.sockets,
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
		Opened:  s.opened,
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

// connection is the one that the request came on, with who it proved, and whether
// that still holds.
func (s *Server) connection(r *http.Request, now time.Time) (*connection, policy.Reason) {
	nobody := &connection{}
	conn := wire.ConnOf(r.Context())
	if conn == nil {
		return nobody, policy.PeerUnverified
	}
	held, ok := conn.Fact(s.prove).(*connection)
	if !ok {
		return nobody, policy.PeerUnverified
	}
	switch condemned := held.condemned.Load(); {
	case !s.held():
		return held, policy.IdentityMissing
	case condemned != 0:
		return held, policy.Reason(condemned)
	}
	return held, holds(held.peer, now)
}

// holds is whether the peer is still who it proved to be, by its own certificate.
func holds(peer identity.Peer, now time.Time) policy.Reason {
	if !now.Before(peer.NotAfter) {
		return policy.PeerExpired
	}
	return policy.Allowed
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
	peer, err := s.peerOf(c)
	if err != nil {
		return s.config.Now()
	}
	return peer.NotAfter
}

// peerOf is the peer that a connection has proved.
func (s *Server) peerOf(c net.Conn) (identity.Peer, error) {
	secure, ok := c.(*tls.Conn)
	if !ok {
		return identity.Peer{}, errors.New("the connection is plain")
	}
	peer, err := s.config.PeerOf(secure.ConnectionState())
	if err == nil && peer.IsZero() {
		err = errors.New("the connection proves nobody")
	}
	return peer, err
}
