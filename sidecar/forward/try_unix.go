//go:build unix

package forward

import (
	"io"
	"net"
	"os"
	"syscall"
)

// canTry says that a socket can be tried without waiting.
const canTry = true

// try reads what there is, and is false if that is nothing yet. While it is
// waited for there is no buffer.
func (s *source) try(fd uintptr) bool {
	s.hold()
	for {
		s.n, s.err = syscall.Read(int(fd), *s.buffer)
		switch {
		case s.err == syscall.EINTR:
			continue
		case s.err == syscall.EAGAIN:
			s.done()
			return false
		case s.err != nil:
			s.n, s.err = 0, &net.OpError{Op: "read", Net: s.conn.LocalAddr().Network(), Source: s.conn.LocalAddr(), Addr: s.conn.RemoteAddr(), Err: os.NewSyscallError("read", s.err)}
		case s.n == 0:
			s.err = io.EOF
		}
		return true
	}
}
