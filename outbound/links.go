package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/lease"
)

// A connection gets no new requests in the last fifth of what is left of its peer's
// certificate, ten seconds at most, so that none is under way when it is cut.
const (
	lastShare = 5
	lastTime  = 10 * time.Second
)

// links are the open connections to peers that carry requests. Each is cut when its
// peer is nobody any more, or banned.
type links struct {
	config *Config
	leases *lease.Book
}

// newLinks are none yet. A link outlives whatever was begun on it in time.
func newLinks(config *Config) *links {
	return &links{config, lease.NewBook(lease.Config{Now: config.Now, MaxAge: 2 * (lease.DefaultMaxAge + maxAge)})}
}

// link is one of them, from its dialling on.
type link struct {
	net.Conn
	links *links
	as    spiffeid.ID

	mu     sync.Mutex // guards what follows
	lease  lease.Lease
	secure *tls.Conn // once the peer has proved who it is
	closed bool
}

func (s *links) dial(ctx context.Context, call *policy.CallRule) (net.Conn, error) {
	raw, err := dial(ctx, call.At)
	if err != nil {
		return nil, err
	}
	return &link{Conn: raw, links: s, as: call.As}, nil
}

// age is how long a connection gets new requests: not all of them equally long.
func (s *links) age() time.Duration {
	return time.Duration(float64(maxAge) * float64(s.leases.Age()) / float64(2*(lease.DefaultMaxAge+maxAge)))
}

// Judge is whether the peer may stay.
func (l *link) Judge(now time.Time) lease.Standing {
	state := l.secure.ConnectionState()
	switch end := state.PeerCertificates[0].NotAfter; {
	case !now.Before(end):
		return lease.Standing{Reason: policy.PeerExpired}
	case l.links.config.Recheck != nil && l.links.config.Recheck(state) != nil:
		return lease.Standing{Reason: policy.PeerUnverified}
	case l.links.config.Policy().Bans(l.as):
		return lease.Standing{Reason: policy.PeerBanned}
	default:
		return lease.Standing{Reason: policy.Allowed, Until: end}
	}
}

// Expel cuts the connection.
func (l *link) Expel(policy.Reason) { _ = l.Conn.Close() }

// proved begins the lease of a connection whose handshake is done, and is when it
// gets no new requests.
func (s *links) proved(c net.Conn) time.Time {
	secure, ok := c.(*tls.Conn)
	if !ok {
		return time.Time{}
	}
	l := linkOf(secure)
	now, end := s.config.Now(), secure.ConnectionState().PeerCertificates[0].NotAfter
	if l != nil {
		l.begin(secure)
	}
	return end.Add(-min(end.Sub(now)/lastShare, lastTime))
}

func (l *link) begin(secure *tls.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.secure != nil {
		return
	}
	l.secure = secure
	l.links.leases.Begin(&l.lease, l)
}

// linkOf is the link beneath a TLS connection, nil if there is none.
func linkOf(secure *tls.Conn) *link {
	for c := secure.NetConn(); c != nil; {
		if l, ok := c.(*link); ok {
			return l
		}
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = over.NetConn()
	}
	return nil
}

// Close ends the connection, and with it the lease.
func (l *link) Close() error {
	l.mu.Lock()
	if !l.closed && l.secure != nil {
		l.lease.End()
	}
	l.closed = true
	l.mu.Unlock()
	return l.Conn.Close()
}

// NetConn is the connection beneath: for what the kernel knows of it.
func (l *link) NetConn() net.Conn { return l.Conn }

// CloseWrite ends our half of the connection.
func (l *link) CloseWrite() error {
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.New("closing one half of a connection: it has no halves")
}
