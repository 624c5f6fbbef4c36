package forward

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
)

// record is what TLS gives in one read at most: RFC 8446 section 5.1.
const record = 16 << 10

// records are only ever held between a read and the write of the same bytes.
var records = sync.Pool{New: func() any { b := make([]byte, record); return &b }}

// source is where one half of a tunnel comes from. A plain connection holds a
// buffer only while there is something in it: most tunnels are silent most of
// the time. TLS cannot be waited on without one.
type source struct {
	conn   net.Conn
	pool   *sync.Pool
	raw    syscall.RawConn // nil: conn is read as any other
	buffer *[]byte
	n      int
	err    error
}

func newSource(c net.Conn) *source {
	s := &source{conn: c, pool: &buffers}
	if _, secure := c.(*tls.Conn); secure {
		s.pool = &records
		return s
	}
	if !canTry {
		return s
	}
	for ; c != nil; c = beneath(c) {
		if socket, ok := c.(syscall.Conn); ok {
			s.raw, _ = socket.SyscallConn() // what has none is read as any other
			break
		}
	}
	return s
}

// read waits for bytes, or for the end of them. They are good until the next
// read, or done.
func (s *source) read() ([]byte, error) {
	if s.raw == nil {
		s.hold()
		n, err := s.conn.Read(*s.buffer)
		return (*s.buffer)[:n], err
	}
	if err := s.raw.Read(s.try); err != nil { // the connection is closed
		return nil, err
	}
	if s.err != nil {
		return nil, s.err
	}
	return (*s.buffer)[:s.n], nil
}

func (s *source) hold() {
	if s.buffer == nil {
		s.buffer = s.pool.Get().(*[]byte)
	}
}

// spent is for when the bytes of the last read are no longer needed.
func (s *source) spent() {
	if s.raw != nil {
		s.done()
	}
}

func (s *source) done() {
	if s.buffer != nil {
		s.pool.Put(s.buffer)
		s.buffer = nil
	}
}
