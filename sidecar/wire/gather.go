package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
)

const (
	oneRecord   = 16 << 10 // bytes that TLS puts into one record at most
	maxGathered = 96 << 10 // bytes that are held back at most; what is more goes out
	fewRecords  = 33 << 10 // bytes that two records take; a write that stalls keeps no more
)

// Gather is a connection for under a [tls.Conn], which makes a system call of
// every record of 16 KiB. It makes one of all the records of one write to what
// [WriterOf] says. The zero Gather is of no use.
type Gather struct {
	net.Conn

	mu   sync.Mutex
	held *[]byte // what waits to be written; nil while nothing is held back
	err  error   // sticky: a record that was lost must not be followed by another
}

// NewGather is a Gather over c.
func NewGather(c net.Conn) *Gather { return &Gather{Conn: c} }

// gathered and fewGathered are only ever held during one write.
var (
	gathered    = sync.Pool{New: func() any { b := make([]byte, 0, maxGathered); return &b }}
	fewGathered = sync.Pool{New: func() any { b := make([]byte, 0, fewRecords); return &b }}
)

// Write writes p, or holds it back.
func (g *Gather) Write(p []byte) (int, error) {
	g.mu.Lock()
	if g.held == nil && g.err == nil {
		g.mu.Unlock()
		return g.Conn.Write(p)
	}
	defer g.mu.Unlock()
	if g.err != nil {
		return 0, g.err
	}
	if len(*g.held)+len(p) > maxGathered {
		if g.flush(); g.err != nil {
			return 0, g.err
		}
	}
	if len(p) > maxGathered {
		var n int
		n, g.err = g.Conn.Write(p)
		return n, g.err
	}
	*g.held = append(*g.held, p...)
	return len(p), nil
}

// hold begins to hold back what is written, which is n bytes before TLS.
func (g *Gather) hold(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.held != nil:
	case n <= 2*oneRecord:
		g.held = fewGathered.Get().(*[]byte)
	default:
		g.held = gathered.Get().(*[]byte)
	}
}

// release writes what was held back.
func (g *Gather) release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flush()
	if cap(*g.held) < maxGathered { // small records at the start of a connection may have made it grow
		fewGathered.Put(g.held)
	} else {
		gathered.Put(g.held)
	}
	g.held = nil
	return g.err
}

// flush is called with mu held, so that nothing overtakes what it writes.
func (g *Gather) flush() {
	if len(*g.held) > 0 && g.err == nil {
		_, g.err = g.Conn.Write(*g.held)
	}
	*g.held = (*g.held)[:0]
}

// NetConn is the connection beneath.
func (g *Gather) NetConn() net.Conn { return g.Conn }

// CloseWrite ends our half of the connection.
func (g *Gather) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.New("closing one half of a connection: it has no halves")
}

// SetKeepAliveConfig is that of a TCP connection.
func (g *Gather) SetKeepAliveConfig(c net.KeepAliveConfig) error {
	if tcp, ok := g.Conn.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		return tcp.SetKeepAliveConfig(c)
	}
	return nil // a unix socket needs none
}

// GatherListener is a listener each of whose connections is a [Gather].
type GatherListener struct{ net.Listener }

// Accept is the next connection.
func (l GatherListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return NewGather(c), nil
}

// WriterOf is what to write to in c's place: over TLS and a [Gather], it makes one
// system call of each write. One goroutine may use it at a time.
func WriterOf(c net.Conn) io.Writer {
	secure, ok := c.(*tls.Conn)
	if !ok {
		return c
	}
	for below := secure.NetConn(); below != nil; {
		if g, ok := below.(*Gather); ok {
			return gatherWriter{secure, g}
		}
		over, ok := below.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		below = over.NetConn()
	}
	return c
}

type gatherWriter struct {
	secure *tls.Conn
	g      *Gather
}

func (w gatherWriter) Write(p []byte) (int, error) {
	if len(p) <= oneRecord {
		return w.secure.Write(p)
	}
	w.g.hold(len(p))
	n, err := w.secure.Write(p)
	if late := w.g.release(); err == nil {
		err = late
	}
	return n, err
}
