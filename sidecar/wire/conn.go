package wire

import (
	"context"
	"net"
	"sync"
)

// Conn is the connection that a request came on, with one fact about it that
// lives as long as the connection does. It is the only value that travels in a
// request's context.
type Conn struct {
	net.Conn
	once sync.Once
	fact any
}

type connKey struct{}

// ConnOf is the connection of the request with this context, nil if [WithConn]
// did not make the context.
func ConnOf(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

// WithConn is a context for the requests of a connection.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, &Conn{Conn: c})
}

// Fact is what find says of the connection. It is asked once for each
// connection, by the first request: what the handshake proved does not change.
func (c *Conn) Fact(find func(net.Conn) any) any {
	c.once.Do(func() { c.fact = find(c.Conn) })
	return c.fact
}
