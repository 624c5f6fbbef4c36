package std

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

const (
	maxAnswerHeader = 64 << 10
	maxIdle         = 128
)

// Config is what a [Transport] is made of.
type Config struct {
	// Dial connects to the one upstream of this transport. A request's URL has no
	// say in it, and neither has a proxy of the environment.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS must verify the upstream itself, by VerifyConnection: there is no
	// server name to hold a certificate against. Nil: plain connections. The
	// protocol is what its NextProtos agree on.
	TLS *tls.Config
	// H2 speaks HTTP/2 with prior knowledge on plain connections.
	H2 bool
	// MaxAge is how long a connection gets new requests; zero: as long as it lives.
	MaxAge time.Duration
	// Idle is how long a connection without requests is kept; 30 seconds if zero.
	Idle time.Duration
	Now  func() time.Time // time.Now if nil
}

// Transport carries requests to one upstream. It follows no redirect, unpacks
// nothing, and never sends a request twice if a byte of it may have been read,
// except one that is safe and has no body (RFC 9110 section 9.2.1).
type Transport struct {
	config Config

	mu      sync.Mutex
	current *generation
	closed  bool
}

// generation is the connections made from one moment on. An old one gets no new
// requests, and is closed when its last answer has been read.
type generation struct {
	http    *http.Transport
	born    time.Time
	under   int // requests under way; guarded by Transport.mu, as is retired
	retired bool
}

// NewTransport is a transport of that configuration. It connects on demand.
func NewTransport(config Config) *Transport {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Idle <= 0 {
		config.Idle = 30 * time.Second
	}
	return &Transport{config: config}
}

// RoundTrip sends the request and returns the answer's head, as
// [http.RoundTripper] demands.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	g := t.enter()
	answer, err := g.http.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), beforeReuse)))
	if err != nil {
		t.leave(g)
		return nil, err
	}
	answer.Body = &answerBody{ReadCloser: answer.Body, left: sync.OnceFunc(func() { t.leave(g) })}
	return answer, nil
}

// Close lets the connections that there are finish what they carry. It is for a
// transport that has been replaced: a request that comes late still gets a
// connection, which is not kept.
func (t *Transport) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.retire()
}

func (t *Transport) retire() {
	g := t.current
	t.current = nil
	if g == nil {
		return
	}
	g.retired = true
	if g.under == 0 {
		g.http.CloseIdleConnections()
	}
}

func (t *Transport) enter() *generation {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.config.Now()
	if g := t.current; g != nil && t.config.MaxAge > 0 && now.Sub(g.born) >= t.config.MaxAge {
		t.retire()
	}
	if t.current == nil {
		t.current = &generation{http: newTransport(&t.config), born: now, retired: t.closed}
	}
	t.current.under++
	return t.current
}

func (t *Transport) leave(g *generation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g.under--
	if g.retired && g.under == 0 {
		g.http.CloseIdleConnections()
	}
}

// answerBody reports when the answer is done with.
type answerBody struct {
	io.ReadCloser
	left func()
}

func (b *answerBody) Close() error {
	defer b.left()
	return b.ReadCloser.Close()
}

func newTransport(config *Config) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(config.TLS != nil || !config.H2)
	protocols.SetHTTP2(config.TLS != nil)
	protocols.SetUnencryptedHTTP2(config.TLS == nil && config.H2)
	t := &http.Transport{
		Proxy: nil, // said aloud: the default one reads the environment
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, config)
		},
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        config.Idle,
		MaxResponseHeaderBytes: maxAnswerHeader,
		Protocols:              &protocols,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingTimeout,
			WriteByteTimeout: defaultWrite,
		},
	}
	if config.TLS != nil {
		t.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialTLS(ctx, config)
		}
	}
	return t
}

func dial(ctx context.Context, config *Config) (net.Conn, error) {
	if config.Dial == nil {
		return nil, errors.New("connecting to the upstream: there is no way to it")
	}
	c, err := config.Dial(ctx)
	if err != nil || config.TLS == nil && config.H2 {
		return c, err
	}
	return newSettled(c), nil
}

func dialTLS(ctx context.Context, config *Config) (net.Conn, error) {
	raw, err := dial(ctx, config)
	if err != nil {
		return nil, err
	}
	return wire.Handshake(ctx, raw, config.TLS)
}
