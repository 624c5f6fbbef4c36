package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/identity"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/hop"
	"github.com/everyhop/everyhop/sidecar/lease"
	"github.com/everyhop/everyhop/sidecar/wire"
)

// takeBytes takes the connections to a port whose call is of bytes.
func (s *Server) takeBytes(c net.Conn, at portKey) bool {
	call := callAt(s.config.Policy(), at)
	if call == nil || !call.TCP {
		return false
	}
	s.tunnels.Serve(c, func(x *hop.Tunnel) { s.tunnel(x, at) })
	return true
}

// tunnel is the whole way of a connection of bytes of the local app, in order.
// Each step that does not hold has refused it; every way out is recorded. Nothing
// that the app sends goes on before the peer has proved who it is.
func (s *Server) tunnel(x *hop.Tunnel, at portKey) {
	snapshot := s.config.Policy()
	x.Under(snapshot)
	call := callAt(snapshot, at)
	if call == nil { // the policy changed, and this port is about to close
		x.Refuse(policy.RouteUndeclared)
		return
	}
	x.Record.Call = call.Name
	if !x.Decided(call.Decide(x.Record.Time, ofBytes, nil)) {
		return
	}
	if !x.Recordable() {
		return
	}
	x.Keep(func(now time.Time) lease.Standing { return s.declared(call, at, now, ofBytes) })
	peer, fault, err := s.reach(x.Life(), call, snapshot.Timeouts.Handshake)
	if err != nil {
		x.Fail(fault, err)
		return
	}
	proved := identity.NewPeer(call.As, peer.ConnectionState().PeerCertificates[0])
	x.Record.Peer = proved
	x.Keep(func(now time.Time) lease.Standing {
		switch {
		case !now.Before(proved.NotAfter):
			return lease.Standing{Reason: policy.PeerExpired}
		case s.config.Recheck != nil && s.config.Recheck(peer.ConnectionState()) != nil:
			return lease.Standing{Reason: policy.PeerUnverified}
		}
		standing := s.declared(call, at, now, ofBytes)
		standing.Until = proved.NotAfter
		return standing
	})
	x.Carry(peer, snapshot.Timeouts.Write)
}

// ofBytes is what a connection of bytes asks for.
var ofBytes = &policy.Request{TCP: true}

// declared is whether the policy of this moment still has the call, and allows what
// was asked of it.
func (s *Server) declared(call *policy.CallRule, at portKey, now time.Time, asked *policy.Request) lease.Standing {
	call, same := s.same(call, at)
	if !same {
		return lease.Standing{Reason: policy.RouteUndeclared}
	}
	return lease.Standing{Reason: call.Decide(now, asked, nil).Reason}
}

// same is the call of this moment at that port, if it still goes where that one
// went.
func (s *Server) same(call *policy.CallRule, at portKey) (now *policy.CallRule, same bool) {
	now = callAt(s.config.Policy(), at)
	equal := func(a, b policy.Endpoint) bool { return a.Text == b.Text }
	return now, now != nil && now.TCP == call.TCP && now.Name == call.Name && now.As == call.As && slices.EqualFunc(now.At, call.At, equal)
}

// reach connects to whoever the call says must answer.
func (s *Server) reach(ctx context.Context, call *policy.CallRule, handshake time.Duration) (*tls.Conn, forward.Fault, error) {
	raw, err := dial(ctx, call.At)
	if err != nil {
		return nil, forward.Unreachable, err
	}
	if handshake <= 0 {
		handshake = policy.DefaultTimeouts().Handshake
	}
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	c := tls.Client(forward.NoteEnd(wire.NewGather(raw)), s.bytesTLS(call.As))
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, handshakeFault(err), err
	}
	return c, forward.None, nil
}

// bytesTLS is how a peer is spoken to in bytes: not at all, where nobody said.
func (s *Server) bytesTLS(expected spiffeid.ID) *tls.Config {
	if s.config.Bytes == nil {
		return &tls.Config{VerifyConnection: func(tls.ConnectionState) error {
			return errors.New("there is no TLS configuration for calls of bytes")
		}}
	}
	return s.config.Bytes(expected)
}

// handshakeFault tells a peer that is not who it should be from one that went
// away or would not have us.
func handshakeFault(err error) forward.Fault {
	var network net.Error // timeouts, resets, and alerts that the peer sent
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return forward.Timeout
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return forward.Unreachable
	}
	return forward.Unverified
}

// Recheck judges everything that is open anew, by the policy and the trust bundles
// of now. It is for after a change.
func (s *Server) Recheck() {
	s.hop.Leases.Recheck()
	s.links.leases.Recheck()
}

// Tunnels is how many connections of bytes and WebSockets there are.
func (s *Server) Tunnels() int { return s.tunnels.Count() + s.sockets.Count() }
