package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/identity"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

const (
	dialTimeout = 5 * time.Second
	// maxAge bounds how long a connection lives on an SVID that has been rotated
	// away, should nobody call Refresh.
	maxAge = 5 * time.Minute
)

// peerKey is what a verified connection is good for, and nothing else: two calls
// never share one, even to the same address.
type peerKey struct {
	call string
	as   spiffeid.ID
	at   string // all addresses, in order
	alpn string
	pq   bool
}

func peerKeyOf(snapshot *policy.Snapshot, call *policy.CallRule) peerKey {
	addresses := make([]string, len(call.At))
	for i, at := range call.At {
		addresses[i] = at.Text
	}
	return peerKey{call.Name, call.As, strings.Join(addresses, " "), strings.Join(snapshot.TLS.ALPN, " "), snapshot.TLS.RequirePQ}
}

// peers are the ways to those we call.
type peers struct {
	tls   func(expected spiffeid.ID) *tls.Config
	now   func() time.Time
	links *links

	mu      sync.Mutex
	open    map[peerKey]*way
	leaving map[*way]*time.Timer // get no new requests, and will be asked to go
}

// way is the connections to one peer, and who that was last seen to be.
type way struct {
	*serve.Transport
	as   spiffeid.ID
	last atomic.Pointer[proof]
}

// proof is what the peer of one connection proved.
type proof struct {
	secure *tls.ConnectionState
	peer   identity.Peer
}

// proof is whom a connection of this way speaks for: the handshake accepted it for
// no other ID.
func (w *way) proof(secure *tls.ConnectionState) *proof {
	if last := w.last.Load(); last != nil && last.secure == secure {
		return last
	}
	fresh := &proof{secure, identity.NewPeer(w.as, secure.PeerCertificates[0])}
	w.last.Store(fresh)
	return fresh
}

// witness notes who answered a request, which call that was, and at which port it
// came.
type witness struct {
	*way
	call  *policy.CallRule
	at    portKey
	proof atomic.Pointer[proof] // nil until there is an answer
}

func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := w.Transport.RoundTrip(r)
	if err == nil && answer.TLS != nil && len(answer.TLS.PeerCertificates) > 0 {
		w.proof.Store(w.way.proof(answer.TLS))
	}
	return answer, err
}

func (p *peers) to(snapshot *policy.Snapshot, call *policy.CallRule) *way {
	key := peerKeyOf(snapshot, call)
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.open[key]; w != nil {
		return w
	}
	w := &way{as: call.As, Transport: serve.NewTransport(serve.TransportConfig{
		Dial:   func(ctx context.Context) (net.Conn, error) { return p.links.dial(ctx, call) },
		TLS:    p.tls(call.As),
		MaxAge: p.links.age(),
		Until:  p.links.proved,
		Now:    p.now,
	})}
	if p.open == nil {
		p.open = make(map[peerKey]*way)
	}
	p.open[key] = w
	return w
}

// keep retires the ways that the snapshot has no call for any more.
func (p *peers) keep(snapshot *policy.Snapshot) {
	kept := make(map[peerKey]bool)
	if snapshot != nil {
		for _, call := range snapshot.Calls {
			kept[peerKeyOf(snapshot, call)] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, w := range p.open {
		if !kept[key] {
			delete(p.open, key)
			w.Close()
		}
	}
}

// refresh forgets every way: the next request shakes hands anew. The connections
// that there are end each at its own moment, so that whoever has many callers whose
// identities change together does not see all of them at once.
func (p *peers) refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaving == nil {
		p.leaving = make(map[*way]*time.Timer)
	}
	for key, w := range p.open {
		delete(p.open, key)
		p.leaving[w] = time.AfterFunc(p.links.leases.Soon(), func() { p.leave(w) }) // close stops it
	}
}

func (p *peers) leave(w *way) {
	p.mu.Lock()
	delete(p.leaving, w)
	p.mu.Unlock()
	w.Close()
}

// close retires every way.
func (p *peers) close() {
	p.keep(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	for w, timer := range p.leaving {
		timer.Stop()
		w.Close()
	}
	p.leaving = nil
}

// dial connects to the first of the addresses that answers.
func dial(ctx context.Context, addresses []policy.Endpoint) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	var faults []error
	for _, at := range addresses {
		c, err := dialer.DialContext(ctx, "tcp", at.Text)
		if err == nil {
			return c, nil
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

func unverified(err error) bool {
	var fault *wire.UnverifiedError
	return errors.As(err, &fault)
}
