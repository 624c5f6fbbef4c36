package serve

import (
	"errors"
	"net"
	"strings"
	"time"
)

// preface is how a client begins that knows we speak HTTP/2: RFC 9113 section 3.4.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// listenFor is what a plain connection speaks by its first bytes, and the
// connection with these still to be read. Nothing of HTTP/1.1 begins as the
// preface does.
func (s *Server) listenFor(c net.Conn) (protocol, net.Conn) {
	if !s.quiet(c) {
		return unknown, c
	}
	defer s.spoke(c)
	// Of the real clock, as every deadline of a connection.
	if c.SetReadDeadline(time.Now().Add(s.config.Headers)) != nil {
		return unknown, c
	}
	early := make([]byte, len(preface))
	for n := 0; n < len(preface); {
		got, err := c.Read(early[n:])
		n += got
		if !strings.HasPrefix(preface, string(early[:n])) {
			return s.heard(http1, c, early[:n])
		}
		if err != nil {
			return unknown, c
		}
	}
	return s.heard(http2, c, early)
}

func (s *Server) heard(speaks protocol, c net.Conn, early []byte) (protocol, net.Conn) {
	if c.SetReadDeadline(time.Time{}) != nil {
		return unknown, c
	}
	return speaks, &begun{Conn: c, early: early}
}

func (s *Server) quiet(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return false
	}
	s.silent[c] = struct{}{}
	return true
}

func (s *Server) spoke(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.silent, c)
}

// begun is a connection some bytes of which were read already. One goroutine reads.
type begun struct {
	net.Conn
	early []byte
}

// Read is what was read already first.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.early) > 0 {
		n := copy(p, b.early)
		b.early = b.early[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// NetConn is the connection beneath, to which bytes may be written all the same.
func (b *begun) NetConn() net.Conn { return b.Conn }

// CloseWrite ends our half of the connection.
func (b *begun) CloseWrite() error {
	if half, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errNoHalves
}

var errNoHalves = errors.New("closing one half of a connection: it has no halves")
