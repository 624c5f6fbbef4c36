package inbound

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/everyhop/everyhop/identity"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/hop"
)

// takeBytes takes the connections that are for a tcp:// app: those that say so in
// their handshake, and while the app is one, those that name no protocol.
func (s *Server) takeBytes(c net.Conn) bool {
	secure, ok := c.(*tls.Conn)
	if !ok {
		return false
	}
	switch secure.ConnectionState().NegotiatedProtocol {
	case policy.ProtoTCP:
	case "":
		if snapshot := s.config.Policy(); snapshot == nil || snapshot.App == nil || snapshot.App.Kind != policy.AppTCP {
			return false
		}
	default:
		return false
	}
	s.tunnels.Serve(secure, func(x *hop.Tunnel) { s.tunnel(x, secure) })
	return true
}

// tunnel is the whole way of a connection of bytes, in order. Each step that does
// not hold has refused it; every way out is recorded. The handshake is done: the
// app hears nothing of whoever may not speak to it.
func (s *Server) tunnel(x *hop.Tunnel, c *tls.Conn) {
	snapshot := s.config.Policy()
	x.Under(snapshot)
	peer, reason := s.peerOf(c, x.Record.Time)
	x.Record.Peer = peer
	if reason != policy.Allowed {
		x.Refuse(reason)
		return
	}
	decision := snapshot.DecideTCP(x.Record.Time, peer.ID, sourceOf(c), nil)
	if !x.Decided(decision) {
		return
	}
	if !x.Recordable() {
		return
	}
	bytes := &policy.Request{Caller: peer.ID, Source: sourceOf(c), TCP: true}
	x.Keep(func(now time.Time) hop.Standing { return s.standing(c, peer, now, bytes) })
	app, err := dialApp(x.Life(), snapshot.App)
	if err != nil {
		x.Fail(forward.Unreachable, err)
		return
	}
	x.Carry(app, snapshot.Timeouts.Write)
}

// peerOf is who the connection proved, and whether that holds at the time.
func (s *Server) peerOf(c net.Conn, now time.Time) (identity.Peer, policy.Reason) {
	peer, _ := s.prove(c).(identity.Peer)
	switch {
	case peer.IsZero():
		return identity.Peer{}, policy.PeerUnverified
	case !now.Before(peer.NotAfter):
		return peer, policy.PeerExpired
	}
	return peer, policy.Allowed
}

// standing is whether the peer may still speak to the app as it asked to: by its
// certificate, by the bundles of this moment, and by the policy of this moment.
func (s *Server) standing(c net.Conn, peer identity.Peer, now time.Time, asked *policy.Request) hop.Standing {
	if !now.Before(peer.NotAfter) {
		return hop.Standing{Reason: policy.PeerExpired}
	}
	secure, ok := c.(*tls.Conn)
	if !ok || s.config.Recheck != nil && s.config.Recheck(secure.ConnectionState()) != nil {
		return hop.Standing{Reason: policy.PeerUnverified}
	}
	decision := s.config.Policy().Decide(now, asked, nil)
	if decision.Verdict != policy.Allow {
		return hop.Standing{Reason: decision.Reason}
	}
	until := peer.NotAfter
	if end := decision.Grant.Until(now); !end.IsZero() && end.Before(until) {
		until = end
	}
	return hop.Standing{Reason: policy.Allowed, Until: until}
}

// Recheck judges every open connection of bytes and every WebSocket anew, by the
// policy and the trust bundles of now, and ends those that may not stay. It is for
// after a change.
func (s *Server) Recheck() {
	s.tunnels.Recheck()
	s.sockets.Recheck()
}

// Tunnels is how many connections of bytes and WebSockets there are.
func (s *Server) Tunnels() int { return s.tunnels.Count() + s.sockets.Count() }

func dialApp(ctx context.Context, app *policy.App) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return dialer.DialContext(ctx, app.Network, app.Address)
}
