package h1

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
	"time"
)

// pool keeps the connections that carry nothing. The one that was used last is
// used first, so that those that are not needed grow old.
type pool struct {
	config *TransportConfig

	mu     sync.Mutex
	idle   []*clientConn // the longest idle first
	timer  *time.Timer   // sweeps; set while there is something to sweep
	armed  bool
	closed bool
}

// get is a connection on which nothing has come since its last answer, or nil.
func (p *pool) get() *clientConn {
	for {
		c := p.pop()
		if c == nil {
			return nil
		}
		now := p.config.Now()
		if p.fresh(c, now) && isQuiet(c.conn) {
			return c
		}
		_ = c.conn.Close()
	}
}

func (p *pool) pop() *clientConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return c
}

func (p *pool) fresh(c *clientConn, now time.Time) bool {
	return now.Sub(c.since) < p.config.Idle && (c.until.IsZero() || now.Before(c.until))
}

func (p *pool) put(c *clientConn) {
	c.since = p.config.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.config.MaxIdle || !p.fresh(c, c.since) {
		_ = c.conn.Close()
		return
	}
	p.idle = append(p.idle, c)
	if !p.armed {
		p.arm()
	}
}

func (p *pool) arm() {
	p.armed = true
	if p.timer == nil {
		p.timer = time.AfterFunc(p.config.Idle, p.sweep)
		return
	}
	p.timer.Reset(p.config.Idle)
}

// sweep closes what has grown old, and comes back while anything is left.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.config.Now()
	kept := p.idle[:0]
	for _, c := range p.idle {
		if p.fresh(c, now) {
			kept = append(kept, c)
			continue
		}
		_ = c.conn.Close()
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	if p.armed = false; len(kept) > 0 && !p.closed {
		p.arm()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		_ = c.conn.Close()
	}
	p.idle = nil
	if p.timer != nil {
		p.timer.Stop()
	}
}

// isQuiet reports whether nothing has come on a connection, not even its end.
// What comes before a request is sent would be taken for the answer to it. Where
// it cannot be told without waiting, it is taken for granted.
func isQuiet(conn net.Conn) bool {
	for {
		switch c := conn.(type) {
		case syscall.Conn:
			return isQuietSocket(c)
		case *tls.Conn:
			conn = c.NetConn()
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return true
		}
	}
}
