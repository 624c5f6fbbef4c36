package h2

import (
	"bufio"
	"net"
	"sync"
)

// readers are those of connections at rest: there may be thousands, which hold
// none. What is in one is no longer looked at by anybody.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBufferSize) }}

// source is what a connection's reader reads from: the byte that was waited for,
// and then the connection.
type source struct {
	nc    net.Conn
	first [1]byte
	has   bool
}

func (s *source) Read(p []byte) (int, error) {
	if s.has && len(p) > 0 {
		s.has = false
		p[0] = s.first[0]
		return 1, nil
	}
	return s.nc.Read(p)
}

// reading is the connection's reader, whichever that is.
type reading struct{ c *conn }

func (r reading) Read(p []byte) (int, error) { return r.c.br.Read(p) }

// await waits for the first byte of a frame. A connection without streams holds no
// buffer meanwhile, if it keeps itself what came with that byte, as TLS does.
func (c *conn) await() error {
	if !c.keeps || c.br.Buffered() > 0 || !c.quiet() {
		_, err := c.br.Peek(1)
		return err
	}
	c.br.Reset(nil)
	readers.Put(c.br)
	c.br, c.fragment = nil, nil
	n, err := c.nc.Read(c.source.first[:])
	c.source.has = n > 0
	c.br = readers.Get().(*bufio.Reader)
	c.br.Reset(&c.source)
	if n > 0 {
		return nil
	}
	return err
}

func (c *conn) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams) == 0
}
