package inbound

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

const dialTimeout = 5 * time.Second

// app is the way to the local app. It follows the policy: a request goes to the
// app of the snapshot that judged it.
type app struct {
	mu      sync.Mutex // one change at a time
	current atomic.Pointer[appTransport]
}

type appTransport struct {
	*serve.Transport
	kind             policy.AppKind
	network, address string
}

func (t *appTransport) reaches(to *policy.App) bool {
	return t != nil && t.kind == to.Kind && t.network == to.Network && t.address == to.Address
}

func (a *app) transport(to *policy.App) *serve.Transport {
	if to == nil { // no grant is without an app; if one were, it reaches nothing
		return serve.NewTransport(serve.TransportConfig{})
	}
	if t := a.current.Load(); t.reaches(to) {
		return t.Transport
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.current.Load()
	if old.reaches(to) {
		return old.Transport
	}
	fresh := newAppTransport(to)
	a.current.Store(fresh)
	if old != nil {
		old.Close() // what it carries, it carries to its end
	}
	return fresh.Transport
}

func (a *app) close() {
	if t := a.current.Load(); t != nil {
		t.Close()
	}
}

func newAppTransport(to *policy.App) *appTransport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	network, address := to.Network, to.Address
	return &appTransport{
		Transport: serve.NewTransport(serve.TransportConfig{
			Dial: func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, network, address) },
			H2C:  to.Kind == policy.AppH2C,
		}),
		kind: to.Kind, network: network, address: address,
	}
}
