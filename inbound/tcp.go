package inbound

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/hop"
	"github.com/everyhop/everyhop/sidecar/lease"
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
	peer, err := s.peerOf(c)
	if err != nil {
		x.Refuse(policy.PeerUnverified)
		return
	}
	x.Record.Peer = peer
	if reason := holds(peer, x.Record.Time); reason != policy.Allowed {
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
	x.Keep(func(now time.Time) lease.Standing { return s.standing(c, peer, now, bytes) })
	app, err := dialApp(x.Life(), snapshot.App)
	if err != nil {
		x.Fail(forward.Unreachable, err)
		return
	}
	x.Carry(app, snapshot.Timeouts.Write)
}

// Tunnels is how many connections of bytes and WebSockets there are.
func (s *Server) Tunnels() int { return s.tunnels.Count() + s.sockets.Count() }

func dialApp(ctx context.Context, app *policy.App) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return dialer.DialContext(ctx, app.Network, app.Address)
}
