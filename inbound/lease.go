package inbound

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/everyhop/everyhop/identity"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/hop"
	"github.com/everyhop/everyhop/sidecar/lease"
	"github.com/everyhop/everyhop/sidecar/wire"
)

// A connection gets no new requests in the last fifth of what is left of its peer's
// certificate, ten seconds at most, so that none is under way when it is cut.
const (
	lastShare = 5
	lastTime  = 10 * time.Second
)

// connection is one that carries requests, and who its peer is. They are judged by
// themselves; it is judged by its peer.
type connection struct {
	server    *Server
	conn      net.Conn
	peer      identity.Peer
	last      time.Time     // from when on it gets no new requests
	condemned atomic.Uint32 // a policy.Reason: why it takes no more; 0: it does
	lease     lease.Lease
}

// opened begins the lease of a connection that is about to be served.
func (s *Server) opened(c *wire.Conn) (closed func()) {
	held, ok := c.Fact(s.prove).(*connection)
	if !ok {
		return func() {} // its requests are refused
	}
	s.hop.Leases.Begin(&held.lease, held)
	return held.lease.End
}

// prove is the connection with its peer, or the error that there is none.
func (s *Server) prove(c net.Conn) any {
	peer, err := s.peerOf(c)
	if err != nil {
		return err
	}
	left := peer.NotAfter.Sub(s.config.Now())
	return &connection{server: s, conn: c, peer: peer, last: peer.NotAfter.Add(-min(left/lastShare, lastTime))}
}

// Judge is whether the connection may stay: its peer is somebody still, and somebody
// whom the policy names.
func (c *connection) Judge(now time.Time) lease.Standing {
	snapshot := c.server.config.Policy()
	reason := c.server.still(c.conn, c.peer, now)
	switch {
	case reason != policy.Allowed:
	case snapshot.Bans(c.peer.ID):
		reason = policy.CallerBanned
	case !snapshot.Admits(now, c.peer.ID):
		reason = policy.CallerUndeclared
	case !now.Before(c.last):
		reason = policy.LeaseEnded
	}
	return lease.Standing{Reason: reason, Until: c.last}
}

// Expel cuts the connection of one who is nobody any more or banned, and asks any
// other to go.
func (c *connection) Expel(reason policy.Reason) {
	if (lease.Standing{Reason: reason}).Urgent() {
		c.condemned.Store(uint32(reason))
		time.AfterFunc(lastWords, c.cut) // nobody waits for it: it cuts the connection, and is done
		return
	}
	if !c.server.wire.RetireConn(c.conn) {
		c.cut()
	}
}

// lastWords is how long those on a connection that is cut have to hear why: the
// requests on it are ended when it is.
const lastWords = 200 * time.Millisecond

func (c *connection) cut() {
	if secure, ok := c.conn.(*tls.Conn); ok {
		_ = secure.NetConn().Close() // without the goodbye, which could wait for a peer that does not read
		return
	}
	_ = c.conn.Close()
}

// still is whether the connection proves its peer at this moment, and we ourselves.
func (s *Server) still(c net.Conn, peer identity.Peer, now time.Time) policy.Reason {
	if !s.held() {
		return policy.IdentityMissing
	}
	if !now.Before(peer.NotAfter) {
		return policy.PeerExpired
	}
	secure, ok := c.(*tls.Conn)
	if !ok || s.config.Recheck != nil && s.config.Recheck(secure.ConnectionState()) != nil {
		return policy.PeerUnverified
	}
	return policy.Allowed
}

// held is whether we are who we say at this moment.
func (s *Server) held() bool { return s.config.Held == nil || s.config.Held() == nil }

// standing is whether the peer may still speak to the app as it asked to: by its
// certificate, by the bundles of this moment, and by the policy of this moment.
func (s *Server) standing(c net.Conn, peer identity.Peer, now time.Time, asked *policy.Request) lease.Standing {
	if reason := s.still(c, peer, now); reason != policy.Allowed {
		return lease.Standing{Reason: reason}
	}
	decision := s.config.Policy().Decide(now, asked, nil)
	if decision.Verdict != policy.Allow {
		return lease.Standing{Reason: decision.Reason}
	}
	until := peer.NotAfter
	if end := decision.Grant.Until(now); !end.IsZero() && end.Before(until) {
		until = end
	}
	return lease.Standing{Reason: policy.Allowed, Until: until}
}

// judge is the standing of a request that is under way.
func (s *Server) judge(x *hop.Exchange, now time.Time) lease.Standing {
	c := x.About.(*connection)
	return s.standing(c.conn, c.peer, now, &x.Facts)
}

// Recheck judges everything that is open anew, by the policy and the trust bundles
// of now. It is for after a change.
func (s *Server) Recheck() { s.hop.Leases.Recheck() }
