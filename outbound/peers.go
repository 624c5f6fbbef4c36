package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/wire"
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
	tls func(expected spiffeid.ID) *tls.Config
	now func() time.Time

	mu   sync.Mutex
	open map[peerKey]*wire.Transport
}

func (p *peers) transport(snapshot *policy.Snapshot, call *policy.CallRule) *wire.Transport {
	key := peerKeyOf(snapshot, call)
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.open[key]; t != nil {
		return t
	}
	t := wire.NewTransport(wire.Config{
		Dial:   func(ctx context.Context) (net.Conn, error) { return dial(ctx, call.At) },
		TLS:    p.tls(call.As),
		MaxAge: maxAge,
		Now:    p.now,
	})
	if p.open == nil {
		p.open = make(map[peerKey]*wire.Transport)
	}
	p.open[key] = t
	return t
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
	for key, t := range p.open {
		if !kept[key] {
			delete(p.open, key)
			t.Close()
		}
	}
}

// refresh forgets every way: the next request shakes hands anew.
func (p *peers) refresh() { p.keep(nil) }

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
