package h1

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

var (
	errNotAsked = errors.New("taking over the connection: the client did not ask for another protocol")
	errTaken    = errors.New("taking over the connection: that happened before, or the answer has begun, or the request was not read")
	errOver     = errors.New("writing the answer: the handler has returned")
)

// exchange is one request and the answer to it: all that a handler sees, in one
// piece. It is the http.ResponseWriter, and is used once.
type exchange struct {
	c       *serverConn
	request http.Request
	url     url.URL
	body    requestBody
	coding  [1]string
	life    lifetime
	flaw    wire.Flaw

	closing   bool // the connection ends with this answer
	upgrading bool // the client asks for another protocol

	header http.Header

	mu   sync.Mutex // guards what follows, and what is written to the connection
	over bool       // the handler has returned, or has the connection
	answer
}

func newExchange(c *serverConn) *exchange {
	x := &exchange{c: c, header: make(http.Header)}
	x.life.conn = c.ctx
	x.request = *(&http.Request{URL: &x.url, RemoteAddr: c.remote}).WithContext(&x.life)
	return x
}

// SetReadDeadline is of the reading of this request's body, at most a second
// early.
func (x *exchange) SetReadDeadline(t time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return errOver
	}
	return x.c.in.until.at(t)
}

// SetWriteDeadline is of the writing of this answer, at most a second early.
func (x *exchange) SetWriteDeadline(t time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return errOver
	}
	return x.c.out.until.at(t)
}

// EnableFullDuplex changes nothing: a request is never read on the answer's
// account.
func (x *exchange) EnableFullDuplex() error { return nil }

// Hijack hands over the connection of a client that asked for another protocol,
// after the 101 that the handler wrote or before it writes one itself. What the
// client sent early is read first, from the connection and the reader alike.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !x.upgrading && x.request.Method != http.MethodConnect || x.flaw != wire.FlawNone {
		return nil, nil, errNotAsked
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || x.status != 0 && x.status != http.StatusSwitchingProtocols || !x.body.whole() {
		return nil, nil, errTaken
	}
	if err := x.c.out.flush(); err != nil {
		return nil, nil, err
	}
	x.over = true
	c := x.c
	c.dog.mu.Lock()
	c.hijacked = true // and nobody starts to read ahead any more
	c.dog.mu.Unlock()
	c.stopWatching()
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return nil, nil, err
	}
	t := &tunnel{Conn: c.conn, early: c.in.buffered()}
	return t, bufio.NewReadWriter(bufio.NewReader(t), bufio.NewWriter(t)), nil
}
