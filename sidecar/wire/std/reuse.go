package std

import (
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync"
)

// settled is a connection to an HTTP/1 upstream that can tell whether it has
// been read to its last byte.
//
// net/http puts a connection back for reuse when an answer has ended, and finds
// out later that the upstream sent more than the answer: until then the surplus
// can become the answer of somebody else's request. But its reader reads on only
// when it has nothing left. So before a connection is used again we wait until
// the reader waits, or has seen the surplus and closed the connection.
type settled struct {
	net.Conn

	mu      sync.Mutex
	changed sync.Cond
	waiting bool // the reader is in Read
	closed  bool
}

func newSettled(c net.Conn) *settled {
	s := &settled{Conn: c}
	s.changed.L = &s.mu
	return s
}

func (s *settled) Read(p []byte) (int, error) {
	s.set(&s.waiting, true)
	n, err := s.Conn.Read(p)
	s.set(&s.waiting, false)
	return n, err
}

func (s *settled) Close() error {
	s.set(&s.closed, true)
	return s.Conn.Close()
}

func (s *settled) set(what *bool, to bool) {
	s.mu.Lock()
	*what = to
	s.changed.Broadcast()
	s.mu.Unlock()
}

func (s *settled) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.waiting && !s.closed {
		s.changed.Wait()
	}
}

// beforeReuse holds a request until the connection that it got has settled. It
// runs before net/http expects an answer.
var beforeReuse = &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
	c := got.Conn
	if secure, ok := c.(*tls.Conn); ok {
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			return // there the answers are numbered
		}
		c = secure.NetConn()
	}
	if s, ok := c.(*settled); ok && got.Reused {
		s.settle()
	}
}}
