package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/h1"
	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// TransportConfig is what a [Transport] is made of.
type TransportConfig struct {
	// Dial connects to the one upstream of this transport. A request's URL has no
	// say in it, and neither has a proxy of the environment.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS must verify the upstream itself, by VerifyConnection: there is no server
	// name to hold a certificate against. Nil: plain connections. The protocol is
	// what its NextProtos agree on.
	TLS *tls.Config
	// H2C speaks HTTP/2 with prior knowledge on plain connections.
	H2C bool
	// MaxAge is how long a connection gets new requests; zero: as long as it lives.
	MaxAge time.Duration
	// Until is the same as a moment, of one connection whose handshake is done. It is
	// asked once for each; zero: as long as it lives. Nil: MaxAge alone counts.
	Until func(net.Conn) time.Time
	// Idle is how long a connection without requests is kept; 30 seconds if zero.
	Idle time.Duration
	Now  func() time.Time // time.Now if nil
}

// Transport carries requests to one upstream: over one connection where it speaks
// HTTP/2, else over as many as there are requests at a time. It follows no
// redirect, unpacks nothing, and sends a request a second time only where the
// upstream cannot have acted on the first, or where doing so twice does no harm.
type Transport struct {
	config TransportConfig
	first  *h1.Transport
	second *h2.Transport
	speaks atomic.Uint32 // the protocol that the upstream chose last

	mu    sync.Mutex
	spare *spare
}

// spare is a connection that was made for the engine which does not speak its
// protocol. The other one takes it, at once.
type spare struct {
	net.Conn
	speaks protocol
	timer  *time.Timer
}

const spareTime = time.Second // until one that nobody takes is closed

// NewTransport is a transport of that configuration. It connects on demand.
func NewTransport(config TransportConfig) *Transport {
	t := &Transport{config: config}
	guess := http1
	if config.TLS != nil && slices.Contains(config.TLS.NextProtos, "h2") || config.TLS == nil && config.H2C {
		guess = http2
	}
	t.speaks.Store(uint32(guess))
	t.first = h1.NewTransport(h1.TransportConfig{Dial: t.dialFor(http1), Idle: config.Idle, MaxAge: config.MaxAge, Until: config.Until, Now: config.Now})
	t.second = h2.NewTransport(h2.TransportConfig{Dial: t.dialFor(http2), Times: h2.Times{Idle: config.Idle}, MaxAge: config.MaxAge, Until: config.Until, Now: config.Now})
	return t
}

const maxTurns = 3 // of an upstream that speaks one protocol now, and another then

// RoundTrip sends the request and returns the answer's head, as
// [http.RoundTripper] demands. The answer's TLS is that of its connection.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var answer *http.Response
	err := wire.ErrOtherProtocol
	for turn := 0; turn < maxTurns && errors.Is(err, wire.ErrOtherProtocol); turn++ {
		if protocol(t.speaks.Load()) == http2 {
			answer, err = t.second.RoundTrip(r)
		} else {
			answer, err = t.first.RoundTrip(r)
		}
	}
	if errors.Is(err, wire.ErrOtherProtocol) && r.Body != nil {
		_ = r.Body.Close()
	}
	return answer, err
}

// Close lets the connections that there are finish what they carry. It is for a
// transport that has been replaced: a request that comes late still gets a
// connection, which is not kept.
func (t *Transport) Close() {
	t.mu.Lock()
	t.dropSpare()
	t.mu.Unlock()
	t.first.Close()
	t.second.Close()
}

// dialFor is how the engine of that protocol connects.
func (t *Transport) dialFor(wanted protocol) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if c := t.take(wanted); c != nil {
			return c, nil
		}
		c, chosen, err := t.connect(ctx, wanted)
		if err != nil {
			return nil, err
		}
		t.speaks.Store(uint32(chosen))
		if chosen != wanted {
			t.leave(c, chosen)
			return nil, wire.ErrOtherProtocol
		}
		return c, nil
	}
}

var (
	errNoWay   = errors.New("connecting to the upstream: there is no way to it")
	errForeign = errors.New("connecting to the upstream: it chose a protocol that is not spoken here")
)

// connect makes a connection, and says what is spoken on it.
func (t *Transport) connect(ctx context.Context, wanted protocol) (net.Conn, protocol, error) {
	if t.config.Dial == nil {
		return nil, unknown, errNoWay
	}
	raw, err := t.config.Dial(ctx)
	if err != nil || t.config.TLS == nil {
		return raw, wanted, err
	}
	c, err := wire.Handshake(ctx, wire.NewGather(raw), t.config.TLS)
	if err != nil {
		return nil, unknown, err
	}
	chosen := agreed(c)
	if chosen == unknown {
		_ = c.Close()
		return nil, unknown, errForeign
	}
	return c, chosen, nil
}

// leave keeps the connection for the engine that speaks its protocol.
func (t *Transport) leave(c net.Conn, speaks protocol) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropSpare()
	s := &spare{Conn: c, speaks: speaks}
	s.timer = time.AfterFunc(spareTime, func() { t.expire(s) })
	t.spare = s
}

func (t *Transport) take(speaks protocol) net.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.spare
	if s == nil || s.speaks != speaks {
		return nil
	}
	s.timer.Stop()
	t.spare = nil
	return s.Conn
}

func (t *Transport) expire(s *spare) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spare == s {
		t.dropSpare()
	}
}

// dropSpare is called with mu held.
func (t *Transport) dropSpare() {
	if t.spare != nil {
		t.spare.timer.Stop()
		_ = t.spare.Close()
		t.spare = nil
	}
}
