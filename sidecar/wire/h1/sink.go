package h1

import (
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// sink is what goes to a connection, through a buffer: a head and the body that
// follows it are one write where they fit.
type sink struct {
	to       io.Writer
	vectored net.Conn // takes several pieces in one call; nil where none does
	until    deadline
	buf      []byte
	err      error // sticky
}

func (s *sink) open(conn net.Conn, stall time.Duration) {
	s.to, s.vectored = wire.WriterOf(conn), vectored(conn)
	s.until.set = conn.SetWriteDeadline
	s.until.limit(stall)
	s.buf = make([]byte, 0, bufferSize)
}

// rest lets go of the buffer, in which there is nothing; wake gets one.
func (s *sink) rest() {
	putBuffer(s.buf[:cap(s.buf)])
	s.buf = nil
}

func (s *sink) wake() { s.buf = getBuffer()[:0] }

// vectored is the socket beneath conn, where bytes that are written to it are
// what is written to conn. A connection that has a NetConn changes nothing that
// passes it, unless it is TLS.
func vectored(conn net.Conn) net.Conn {
	for {
		switch c := conn.(type) {
		case *net.TCPConn, *net.UnixConn:
			return conn
		case *tls.Conn:
			return nil
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// write takes p along: into the buffer if it fits there, else with it to the
// connection.
func (s *sink) write(p []byte) error {
	if len(s.buf)+len(p) <= bufferSize {
		s.buf = append(s.buf, p...)
		return s.err
	}
	if s.vectored != nil && len(s.buf) > 0 {
		return s.writeBoth(p)
	}
	if n := bufferSize - len(s.buf); n > 0 && len(s.buf) > 0 {
		s.buf = append(s.buf, p[:n]...)
		p = p[n:]
	}
	if err := s.flush(); err != nil {
		return err
	}
	if len(p) <= bufferSize {
		s.buf = append(s.buf, p...)
		return nil
	}
	return s.send(p)
}

func (s *sink) writeBoth(p []byte) error {
	if s.err != nil {
		return s.err
	}
	if s.err = s.until.begin(); s.err != nil {
		return s.err
	}
	both := net.Buffers{s.buf, p}
	_, s.err = both.WriteTo(s.vectored)
	s.until.end()
	s.buf = s.buf[:0]
	return s.err
}

// flush sends what is buffered.
func (s *sink) flush() error {
	if len(s.buf) == 0 {
		return s.err
	}
	err := s.send(s.buf)
	if s.buf = s.buf[:0]; cap(s.buf) > 4*bufferSize {
		s.buf = make([]byte, 0, bufferSize)
	}
	return err
}

// send writes to the connection itself.
func (s *sink) send(p []byte) error {
	if s.err != nil {
		return s.err
	}
	if s.err = s.until.begin(); s.err != nil {
		return s.err
	}
	_, s.err = s.to.Write(p)
	s.until.end()
	return s.err
}

// sendAll sends what is buffered, and says how much of it may have gone out.
func (s *sink) sendAll() (n int, err error) {
	if s.err = s.until.begin(); s.err != nil {
		return 0, s.err
	}
	n, s.err = s.to.Write(s.buf)
	s.until.end()
	if cap(s.buf) > 4*bufferSize {
		s.buf = make([]byte, 0, bufferSize)
	}
	return n, s.err
}
