package h1

import (
	"bytes"
	"io"
	"net"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// source is what comes from a connection, through a buffer. One goroutine reads
// at a time.
type source struct {
	conn  net.Conn
	until deadline
	buf   []byte
	r, w  int // what was read and not yet taken is buf[r:w]
	one   [1]byte
	head  head
}

func (s *source) open(conn net.Conn, names *casing, maxFields, maxLine int) {
	s.conn = conn
	s.until.set = conn.SetReadDeadline
	s.head = head{names: names, maxFields: maxFields, maxLine: maxLine}
}

func (s *source) buffered() []byte { return s.buf[s.r:s.w] }

// shrink lets go of a buffer that a long head made large.
func (s *source) shrink() {
	if s.r == s.w {
		s.r, s.w = 0, 0
		if len(s.buf) > bufferSize {
			s.buf = nil
		}
	}
}

// first waits for a byte, and holds no buffer meanwhile. It is for a connection
// that keeps what came with that byte, as TLS does, and when nothing is buffered.
func (s *source) first() error {
	putBuffer(s.buf)
	s.buf, s.r, s.w = nil, 0, 0
	n, err := s.receive(s.one[:])
	if n == 0 {
		return err
	}
	s.buf = getBuffer()
	s.w = copy(s.buf, s.one[:])
	return nil
}

// fill reads once, at least a byte, behind what is buffered. A full buffer grows
// up to limit; beyond it, fill is io.ErrShortBuffer.
func (s *source) fill(limit int) error {
	if !s.room(limit) {
		return io.ErrShortBuffer
	}
	n, err := s.receive(s.buf[s.w:])
	s.w += n
	if n > 0 {
		return nil
	}
	return err
}

// room makes some behind what is buffered.
func (s *source) room(limit int) bool {
	switch {
	case s.buf == nil:
		s.buf = make([]byte, bufferSize)
	case s.w < len(s.buf):
	case s.r > 0:
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	case len(s.buf) >= limit:
		return false
	default:
		grown := make([]byte, min(2*len(s.buf), limit))
		copy(grown, s.buf)
		s.buf = grown
	}
	return true
}

// receive reads from the connection itself.
func (s *source) receive(p []byte) (int, error) {
	if err := s.until.begin(); err != nil {
		return 0, err
	}
	n, err := s.conn.Read(p)
	s.until.end()
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	return n, err
}

// read takes what is buffered, or reads on. A large p is filled without a detour.
func (s *source) read(p []byte) (int, error) {
	if s.r == s.w {
		s.r, s.w = 0, 0
		if len(p) >= directSize {
			n, err := s.receive(p)
			if n > 0 {
				err = nil
			}
			return n, err
		}
		if err := s.fill(bufferSize); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.r:s.w])
	s.r += n
	return n, nil
}

// line takes one line without its end, which must be CR LF. It is good until the
// next read.
func (s *source) line() ([]byte, error) {
	seen := 0
	for {
		b := s.buffered()
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			end := seen + i
			s.r += end + 1
			if end == 0 || b[end-1] != '\r' {
				return nil, wire.FlawChunk
			}
			return b[:end-1], nil
		}
		if seen = len(b); seen > maxChunkLine {
			return nil, wire.FlawChunk
		}
		if err := s.fill(bufferSize); err != nil {
			return nil, cut(err)
		}
	}
}

// hasLine reports whether line would not wait, from offset on.
func (s *source) hasLine(offset int) bool {
	b := s.buffered()
	return len(b) > offset && bytes.IndexByte(b[offset:], '\n') >= 0
}

// readHead scans a head, or a trailer section, up to its end, and takes it. more
// is called before it has to wait in the middle of it.
func (s *source) readHead(firstLine bool, limit int, more func()) (string, error) {
	s.head.begin(firstLine)
	for {
		done, flaw := s.head.scan(s.buffered())
		switch {
		case flaw != wire.FlawNone:
			return "", flaw
		case done && s.head.pos <= limit:
			text := string(s.buf[s.r : s.r+s.head.pos])
			s.r += s.head.pos
			return text, nil
		case done || s.w-s.r >= limit:
			return "", wire.FlawFieldSize
		}
		if more != nil && s.w > s.r {
			more()
			more = nil
		}
		if err := s.fill(max(limit, bufferSize)); err != nil {
			return "", err
		}
	}
}

// cut is what the end of a connection is in the middle of a message.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
