package h2

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// TransportConfig is what a [Transport] is made of.
type TransportConfig struct {
	// Dial connects to the one upstream of this transport; a TLS connection must
	// have shaken hands. A request's URL has no say in it. Its errors are returned
	// as they are; of [wire.ErrOtherProtocol] the request's body is left as it is.
	Dial func(ctx context.Context) (net.Conn, error)
	// DialTimeout is how long it may take; 10 seconds if zero.
	DialTimeout time.Duration
	Limits      Limits
	Times       Times
	// MaxAge is how long a connection gets new requests; zero: as long as it lives.
	MaxAge time.Duration
	// Until is the same as a moment, of one connection. It is asked once; zero: as long
	// as it lives. Nil: MaxAge alone counts.
	Until func(net.Conn) time.Time
	// MaxConns is how many connections there may be at once; more than one only
	// when each carries as many streams as the upstream allows; 4 if zero.
	MaxConns int
	Now      func() time.Time // time.Now if nil
}

// Transport carries requests to one upstream, over one connection as long as that
// suffices. It follows no redirect, unpacks nothing, and sends a request a second
// time only where the upstream cannot have acted on the first: where it said so
// (REFUSED_STREAM, or GOAWAY with a lower id), where no byte was sent, or where
// the method is safe and there is no body (RFC 9110 section 9.2.1).
type Transport struct {
	config TransportConfig
	under  sync.WaitGroup // dials and connections

	mu      sync.Mutex
	conns   []*clientConn
	dialing *dialing
	wanted  atomic.Int32    // requests that have no stream yet
	waiting []chan struct{} // those of them that wait for a stream to end, in their order
	closed  bool
}

// dialing is a connection being made, for everyone who waits for it.
type dialing struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	err     error
}

// NewTransport is a transport of that configuration. It connects on demand.
func NewTransport(config TransportConfig) *Transport {
	config.Limits = config.Limits.withDefaults(true)
	config.Times = config.Times.withDefaults(true)
	orDefault(&config.DialTimeout, 10*time.Second)
	orDefault(&config.MaxConns, 4)
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Transport{config: config}
}

const (
	maxTries = 2  // of a request that may have been sent
	maxTurns = 10 // of getting hold of a connection that still lives
)

// RoundTrip sends the request and returns the answer's head, as
// [http.RoundTripper] demands. A GET that asks for another protocol with Upgrade
// goes out as the extended CONNECT that it stands for; where the upstream agrees
// the answer is a 101, as on HTTP/1.1, and its Body an io.ReadWriteCloser.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	out, err := newOutgoing(r)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	answer, err := t.try(out)
	if err != nil {
		if !errors.Is(err, wire.ErrOtherProtocol) {
			out.stop()
		}
		return nil, err
	}
	if out.tunnel {
		return out.switched(answer), nil
	}
	return answer, nil
}

func (t *Transport) try(out *outgoing) (*http.Response, error) {
	for tries, turns := 0, 0; ; turns++ {
		c, err := t.conn(out.r.Context())
		if err != nil {
			return nil, err
		}
		answer, err := c.roundTrip(out)
		var again *retryError
		if !errors.As(err, &again) {
			return answer, err
		}
		if !again.unopened {
			tries++
		}
		if tries == maxTries || turns == maxTurns || !out.again() {
			return nil, again.err
		}
	}
}

// retryError is a failure of a request that the upstream has not acted on.
type retryError struct {
	err      error
	unopened bool // there was not even a stream for it
}

func (e *retryError) Error() string { return e.err.Error() }

// Close lets the connections that there are finish what they carry. It is for a
// transport that has been replaced: a request that comes late still gets a
// connection, which is not kept.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	conns := append([]*clientConn(nil), t.conns...)
	t.mu.Unlock()
	for _, c := range conns {
		c.retire()
	}
}

// Shutdown is Close, and waits for the answers under way; when ctx ends first,
// they are cut. Requests must not be begun any more.
func (t *Transport) Shutdown(ctx context.Context) error {
	t.Close()
	stop := context.AfterFunc(ctx, t.cut)
	t.under.Wait()
	if !stop() {
		return ctx.Err()
	}
	return nil
}

func (t *Transport) cut() {
	t.mu.Lock()
	conns := append([]*clientConn(nil), t.conns...)
	if t.dialing != nil {
		t.dialing.cancel()
	}
	t.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		c.kill(errClosed)
		c.mu.Unlock()
	}
}

// conn is a connection on which a stream has been reserved.
func (t *Transport) conn(ctx context.Context) (*clientConn, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		t.mu.Lock()
		t.wanted.Add(1) // before looking: what ends after that is told
		c, full := t.reserve()
		if c != nil {
			t.wanted.Add(-1)
			t.mu.Unlock()
			return c, nil
		}
		wait := t.waitForDial
		if full >= t.config.MaxConns && t.dialing == nil {
			wait = t.waitForStream
		}
		err := wait(ctx)
		t.wanted.Add(-1)
		if err != nil {
			return nil, err
		}
	}
}

// reserve is the first connection that takes another stream; without one, how
// many would if they carried less. mu is held.
func (t *Transport) reserve() (c *clientConn, full int) {
	for _, c := range t.conns {
		switch c.reserve() {
		case reserved:
			return c, 0
		case saturated:
			full++
		}
	}
	return nil, full
}

// later lets one who waits look again, or all, if there are any. conn.mu may be
// held.
func (t *Transport) later(all bool) {
	if t.wanted.Load() == 0 {
		return
	}
	t.under.Add(1)
	go t.wake(all)
}

func (t *Transport) wake(all bool) {
	defer t.under.Done()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
	for all && len(t.waiting) > 0 {
		t.next()
	}
}

// waitForStream waits until a stream ends. mu is held, and let go.
func (t *Transport) waitForStream(ctx context.Context) error {
	turn := make(chan struct{}, 1)
	t.waiting = append(t.waiting, turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.waiting {
		if other == turn {
			t.waiting = append(t.waiting[:i], t.waiting[i+1:]...)
			return context.Cause(ctx)
		}
	}
	t.next() // our turn had come: it is another's now
	return context.Cause(ctx)
}

// next lets the first who waits look again. mu is held.
func (t *Transport) next() {
	if len(t.waiting) > 0 {
		t.waiting[0] <- struct{}{}
		t.waiting = t.waiting[1:]
	}
}

var errNoDial = errors.New("connecting to the upstream: there is no way to it")

// waitForDial waits for the connection that is being made, and begins to make it
// if nobody did. mu is held, and let go.
func (t *Transport) waitForDial(ctx context.Context) error {
	if t.config.Dial == nil {
		t.mu.Unlock()
		return errNoDial
	}
	d := t.dialing
	if d == nil {
		dialCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.config.DialTimeout)
		d = &dialing{done: make(chan struct{}), cancel: cancel}
		t.dialing = d
		t.under.Add(1)
		go t.dial(dialCtx, d)
	}
	d.waiters++
	t.mu.Unlock()
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.waiters--; d.waiters == 0 {
		d.cancel() // nobody wants it any more
		if t.dialing == d {
			t.dialing = nil
		}
	}
	return context.Cause(ctx)
}

func (t *Transport) dial(ctx context.Context, d *dialing) {
	defer t.under.Done()
	defer d.cancel()
	nc, err := t.config.Dial(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dialing == d {
		t.dialing = nil
	}
	if d.err = err; err == nil {
		t.adopt(nc)
	}
	close(d.done)
	for range len(t.waiting) {
		t.next()
	}
}

// adopt begins to use the connection. mu is held.
func (t *Transport) adopt(nc net.Conn) {
	c := newClientConn(t, nc)
	t.conns = append(t.conns, c)
	t.under.Add(1)
	go c.serve()
}

// lose forgets a connection that takes no more requests.
func (t *Transport) lose(c *clientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.conns {
		if other == c {
			t.conns = append(t.conns[:i:i], t.conns[i+1:]...)
			break
		}
	}
	for range len(t.waiting) {
		t.next()
	}
}
