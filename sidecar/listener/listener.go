// Package listener accepts connections, and hands over only those that are
// ready to be used: their TLS handshake is done, so who is there is known.
//
// A slow or failing handshake keeps no other connection waiting. The number of
// connections and of handshakes is bounded. Every connection is tracked from the
// moment it is accepted until it is closed, and can be cut from outside, or at
// the end of its lease. The package knows nothing of who may connect: that is
// for whoever made the [tls.Config].
package listener

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"time"
)

// What is unsaid in a [Config].
const (
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultMaxConns         = 10_000
	DefaultMaxHandshakes    = 1_000
)

// Config says how connections are accepted.
type Config struct {
	// TLS is the server's side of each handshake. Nil: there is no handshake, and
	// connections are handed over as they come.
	TLS *tls.Config
	// HandshakeTimeout is how long one handshake may take in all. Zero: DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// MaxConns is how many connections may be open. Those above are closed at
	// once. Zero: DefaultMaxConns.
	MaxConns int
	// MaxHandshakes is how many handshakes may be under way. Above it the oldest
	// gives way if it has taken over a second; otherwise the new one is closed at
	// once. Zero: DefaultMaxHandshakes.
	MaxHandshakes int
	// Lease is when a connection must end whatever it does, zero for never. It is
	// asked once, when CloseWhere can see the connection already, so that a
	// change between the handshake and that moment can be caught here.
	Lease func(net.Conn) time.Time
	// OnRefused is told of every connection that was not handed over, with one of
	// Reasons, and of every failure to accept. It must not block.
	OnRefused func(reason string, err error)
	// Logger gets the same, ten lines a second at most. Nil: no one does.
	Logger *slog.Logger
	// Now is the clock of leases, stale handshakes and the log's rate. Nil: time.Now.
	Now func() time.Time
}

// Listener is a net.Listener of connections that are ready to be used. With TLS
// each is a bare *tls.Conn, which whoever serves it can ask what was proved.
type Listener struct {
	ln     net.Listener
	config Config
	log    throttle
	ready  chan net.Conn
	done   chan struct{} // closed when no more is accepted
	end    func()        // closes done, once
	wg     sync.WaitGroup

	mu      sync.Mutex
	open    map[*conn]struct{}
	shaking list.List // of *conn, oldest first
}

// New accepts from ln, and owns it from now on. It begins at once: whoever
// connects before the first Accept waits with the handshake done.
func New(ln net.Listener, c Config) *Listener {
	c = c.withDefaults()
	l := &Listener{
		ln:     ln,
		config: c,
		log:    throttle{logger: c.Logger, now: c.Now},
		ready:  make(chan net.Conn),
		done:   make(chan struct{}),
		open:   make(map[*conn]struct{}),
	}
	l.end = sync.OnceFunc(func() { close(l.done) })
	l.wg.Add(1)
	go l.acceptAll()
	return l
}

func (c Config) withDefaults() Config {
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if c.MaxConns <= 0 {
		c.MaxConns = DefaultMaxConns
	}
	if c.MaxHandshakes <= 0 {
		c.MaxHandshakes = DefaultMaxHandshakes
	}
	if c.OnRefused == nil {
		c.OnRefused = func(string, error) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Accept is the next connection that is ready. After Close, or when the
// listener beneath was closed, its error is net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Addr is the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Close stops accepting, ends the handshakes that are under way and waits for
// them. Connections that were handed over stay open and tracked. It may be
// called more than once.
func (l *Listener) Close() error {
	l.end()
	err := l.ln.Close()
	l.closeWhere(func(handed net.Conn) bool { return handed == nil })
	l.wg.Wait()
	return err
}

// Count is how many connections are open, handed over or not.
func (l *Listener) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// CloseAll cuts every connection.
func (l *Listener) CloseAll() { l.closeWhere(func(net.Conn) bool { return true }) }

// CloseWhere cuts the connections that were handed over, or are about to be, of
// which cut is true, and says how many. They end at once, without the goodbye of
// TLS, which could wait for a peer that does not read.
func (l *Listener) CloseWhere(cut func(net.Conn) bool) int {
	return l.closeWhere(func(handed net.Conn) bool { return handed != nil && cut(handed) })
}

// closeWhere closes the connections of which cut is true. It is asked under no
// lock, with nil for a connection that is not ready yet.
func (l *Listener) closeWhere(cut func(handed net.Conn) bool) int {
	l.mu.Lock()
	all := make(map[*conn]net.Conn, len(l.open))
	for c := range l.open {
		all[c] = c.handed
	}
	l.mu.Unlock()
	n := 0
	for c, handed := range all {
		if cut(handed) {
			c.Close()
			n++
		}
	}
	return n
}

// How long to wait after a failure to accept: file descriptors that ran out come
// back only when someone closes a connection.
const (
	firstBackoff = 5 * time.Millisecond
	lastBackoff  = time.Second
)

func (l *Listener) acceptAll() {
	defer l.wg.Done()
	defer l.end()
	var backoff time.Duration
	for {
		raw, err := l.ln.Accept()
		if err == nil {
			backoff = 0
			l.admit(raw)
			continue
		}
		if l.ended() || isClosed(err) {
			return
		}
		l.refuse(ReasonAccept, nil, err)
		backoff = min(max(backoff*2, firstBackoff), lastBackoff)
		if !l.pause(backoff) {
			return
		}
	}
}

func (l *Listener) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *Listener) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}

// admit tracks a new connection and begins its handshake, or closes it.
func (l *Listener) admit(raw net.Conn) {
	c := &conn{Conn: raw, l: l, since: l.config.Now()}
	if reason := l.track(c); reason != "" {
		raw.Close()
		l.refuse(reason, raw, nil)
		return
	}
	keepAlive(raw)
	if l.config.TLS == nil {
		l.handOver(c, c)
		return
	}
	go l.shake(c)
}

// staleHandshake is after what time a handshake gives way to a new one. Peers on
// one network take milliseconds; who takes this long is slow on purpose.
const staleHandshake = time.Second

// track takes c among the open connections, or says why not. The goroutine of
// its handshake is counted here, under the lock that Close takes too.
func (l *Listener) track(c *conn) (reason string) {
	l.mu.Lock()
	var stale *conn
	switch {
	case l.ended():
		reason = reasonClosed
	case len(l.open) >= l.config.MaxConns:
		reason = ReasonConns
	case l.config.TLS != nil && l.shaking.Len() >= l.config.MaxHandshakes:
		if stale = l.evict(c.since); stale == nil {
			reason = ReasonHandshakes
		}
	}
	if reason == "" {
		l.open[c] = struct{}{}
		if l.config.TLS != nil {
			c.place = l.shaking.PushBack(c)
			l.wg.Add(1)
		}
	}
	l.mu.Unlock()
	if stale != nil {
		stale.Close()
	}
	return reason
}

// evict takes the oldest handshake from the list if it is stale.
func (l *Listener) evict(now time.Time) *conn {
	oldest := l.shaking.Front().Value.(*conn)
	if now.Sub(oldest.since) < staleHandshake {
		return nil
	}
	l.shaking.Remove(oldest.place)
	oldest.place = nil
	return oldest
}

// shake does one handshake and hands the connection over.
func (l *Listener) shake(c *conn) {
	defer l.wg.Done()
	secure := tls.Server(c, l.config.TLS)
	err := c.SetDeadline(time.Now().Add(l.config.HandshakeTimeout)) // the kernel's clock, not ours
	if err == nil {
		err = secure.HandshakeContext(context.Background()) // the deadline ends it, and so does Close
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	reason := handshakeReason(err)
	if l.settle(c) {
		reason = ReasonStale
	}
	if reason == "" {
		l.handOver(c, secure)
		return
	}
	l.refuse(reason, c, err)
	if reason == ReasonHandshake {
		c.letAlertArrive()
	}
	c.Close()
}

// settle takes c from the list of handshakes, and is true if it was evicted.
func (l *Listener) settle(c *conn) (evicted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.place == nil {
		return true
	}
	l.shaking.Remove(c.place)
	c.place = nil
	return false
}

// handOver gives the connection to Accept, as ready.
func (l *Listener) handOver(c *conn, ready net.Conn) {
	l.mu.Lock()
	c.handed = ready
	l.mu.Unlock()
	if !l.lease(c) {
		c.Close()
		l.refuse(ReasonLease, c, nil)
		return
	}
	select {
	case l.ready <- ready:
	case <-l.done:
		c.Close()
	}
}

// lease sets the end of c's life, and is false if it has come already.
func (l *Listener) lease(c *conn) bool {
	if l.config.Lease == nil {
		return true
	}
	end := l.config.Lease(c.handed)
	if end.IsZero() {
		return true
	}
	left := end.Sub(l.config.Now())
	if left <= 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, open := l.open[c]; open {
		// Nobody waits for it: it cuts the connection and is done.
		c.timer = time.AfterFunc(left, func() { c.Close() })
	}
	return true
}
