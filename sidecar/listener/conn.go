package listener

import (
	"container/list"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// conn is one accepted connection, tracked until it is closed.
type conn struct {
	net.Conn
	l     *Listener
	since time.Time
	ended atomic.Bool // the peer closed the connection, and that was read

	// Under l.mu.
	place  *list.Element // among the handshakes; nil when done, or evicted
	handed net.Conn      // what Accept returns; nil until then
	timer  *time.Timer   // of its lease
}

// Close ends the connection at once, with its lease.
func (c *conn) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c)
	if c.timer != nil {
		c.timer.Stop()
	}
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// Read notes the end of the connection. crypto/tls says io.EOF of it as it does
// of a goodbye, which comes before it; bytes that nothing else delimits need to
// know which it was.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		c.ended.Store(true)
	}
	return n, err
}

// Ended reports whether the peer has closed the connection. Where TLS said io.EOF
// and this is true, the peer did not say goodbye.
func (c *conn) Ended() bool { return c.ended.Load() }

// CloseWrite ends our half of the connection.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.New("closing one half of a connection: it has no halves")
}

// NetConn is the connection beneath: for copying without a detour, and for what
// the kernel knows of it.
func (c *conn) NetConn() net.Conn { return c.Conn }

// What is read of a refused peer, so that the kernel does not reset the
// connection before our alert is there.
const (
	lingerBytes = 64 << 10
	lingerTime  = 250 * time.Millisecond
)

// letAlertArrive gives a refused peer the time to read why.
func (c *conn) letAlertArrive() {
	if c.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	io.CopyN(io.Discard, c.Conn, lingerBytes)
}

// keepAlive finds peers that went away without a word.
func keepAlive(raw net.Conn) {
	if c, ok := raw.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		// An error means that the connection is gone; its first read says so better.
		c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4})
	}
}
