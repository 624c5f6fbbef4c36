package h1

import (
	"errors"
	"net"
)

// tunnel is a connection that has left HTTP, with what came early on it. It is
// read by one goroutine and written by another.
type tunnel struct {
	net.Conn
	early []byte
}

// Read is what came early first.
func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(p, t.early)
		if t.early = t.early[n:]; len(t.early) == 0 {
			t.early = nil // and with it the buffer
		}
		return n, nil
	}
	return t.Conn.Read(p)
}

// CloseWrite ends our half of the connection.
func (t *tunnel) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.New("closing one half of a connection: it has no halves")
}
