package forward

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Pipe carries the bytes of a client and its upstream to each other, and owns
// both connections: they are closed when it returns. It returns when both have
// ended what they had to say. One that ends first is told on by a half-close,
// and may go on reading. One that breaks, or takes no byte for stall (zero: it
// may take for ever), breaks the other too: it is reset, so that nobody takes
// what arrived for the whole. It holds 16 KiB for a TLS connection, and 32 KiB for
// a plain one while there is something in them.
//
// A TLS connection that ends without close_notify was cut by somebody (RFC 8446
// section 6.1), and counts as broken. crypto/tls does not tell the two apart; the
// connection beneath must, as those of sidecar/listener and [NoteEnd] do.
//
// writer is what to write to in a connection's place; nil: the connection.
func Pipe(client, upstream net.Conn, stall time.Duration, writer func(net.Conn) io.Writer) Result {
	if writer == nil {
		writer = func(c net.Conn) io.Writer { return c }
	}
	p := pipe{client: client, upstream: upstream}
	in := half{from: client, to: upstream, out: writer(upstream), stall: stall, sent: ClientGone, took: Broken, late: Timeout}
	out := half{from: upstream, to: client, out: writer(client), stall: stall, sent: Broken, took: ClientGone, late: ClientGone}
	var back sync.WaitGroup
	back.Go(func() { p.carry(&out) })
	p.carry(&in)
	back.Wait()
	_ = client.Close() // both halves have ended already
	_ = upstream.Close()
	p.result.BytesIn, p.result.BytesOut = in.n, out.n
	return p.result
}

// pipe is the two connections, and what broke them.
type pipe struct {
	client, upstream net.Conn
	once             sync.Once
	result           Result
}

func (p *pipe) carry(h *half) {
	fault, err := h.carry()
	if fault == None {
		return
	}
	p.once.Do(func() {
		p.result.Fault, p.result.Err = fault, err
		Cut(p.client)
		Cut(p.upstream)
	})
}

// half is one direction.
type half struct {
	from, to         net.Conn
	out              io.Writer // of to
	stall            time.Duration
	sent, took, late Fault // whose fault it is when from breaks, to breaks, to stalls
	n                int64
	armed            time.Time
}

func (h *half) carry() (Fault, error) {
	from := newSource(h.from)
	defer from.done()
	for {
		some, err := from.read()
		if len(some) > 0 {
			h.arm()
			wrote, failed := h.out.Write(some)
			from.spent()
			h.n += int64(wrote)
			if failed != nil {
				return h.blame(failed)
			}
		}
		switch {
		case err == io.EOF && !truncated(h.from):
			return h.end()
		case err == io.EOF:
			return h.sent, errTruncated
		case err != nil:
			return h.sent, err
		}
	}
}

// end tells the other that there is no more.
func (h *half) end() (Fault, error) {
	half, ok := h.to.(interface{ CloseWrite() error })
	if !ok {
		return h.took, errNoHalves
	}
	if err := half.CloseWrite(); err != nil {
		return h.blame(err)
	}
	return None, nil
}

func (h *half) blame(err error) (Fault, error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return h.late, err
	}
	return h.took, err
}

// arm gives the next write its time. A deadline costs a timer, so it is moved
// only when a part of it has passed.
func (h *half) arm() {
	if h.stall <= 0 {
		return
	}
	if now := time.Now(); now.Sub(h.armed) > h.stall/8 {
		h.armed = now
		_ = h.to.SetWriteDeadline(now.Add(h.stall)) // a closed connection says so on the write
	}
}

var (
	errTruncated = errors.New("the connection was cut: it ended without the goodbye of TLS")
	errNoHalves  = errors.New("the connection has no halves to close")
)

func truncated(c net.Conn) bool {
	secure, ok := c.(*tls.Conn)
	if !ok {
		return false
	}
	raw, ok := secure.NetConn().(interface{ Ended() bool })
	return ok && raw.Ended()
}

// Cut resets a connection: the other end sees that it did not end. What is under
// way on it is lost. A unix socket knows no reset and is closed.
func Cut(c net.Conn) {
	outer := c
	if secure, ok := c.(*tls.Conn); ok {
		outer = secure.NetConn() // its Close would say goodbye, as if all were well
	}
	for raw := outer; raw != nil; raw = beneath(raw) {
		if lingers, ok := raw.(interface{ SetLinger(int) error }); ok {
			_ = lingers.SetLinger(0) // it may be closed already
			break
		}
	}
	_ = outer.Close()
}

func beneath(c net.Conn) net.Conn {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		return over.NetConn()
	}
	return nil
}

// NoteEnd is c, to go beneath a [tls.Client] whose connection is for [Pipe].
func NoteEnd(c net.Conn) net.Conn { return &noted{Conn: c} }

// noted is a connection that knows whether the other end has closed it.
type noted struct {
	net.Conn
	ended atomic.Bool
}

func (c *noted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		c.ended.Store(true)
	}
	return n, err
}

// Ended reports whether the end of the connection was read.
func (c *noted) Ended() bool { return c.ended.Load() }

// NetConn is the connection beneath.
func (c *noted) NetConn() net.Conn { return c.Conn }
