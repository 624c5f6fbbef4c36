package h1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// TransportConfig is what a [Transport] is made of.
type TransportConfig struct {
	// Dial connects to the one upstream of this transport, and shakes hands where
	// that is wanted. A request's URL has no say in it. Nil: nothing is reached. Of
	// [wire.ErrOtherProtocol] the request's body is left as it is.
	Dial func(ctx context.Context) (net.Conn, error)
	// MaxIdle is how many connections without a request are kept, Idle how long
	// one is, MaxAge how long one gets new requests. 128, 30 seconds, and for as
	// long as it lives, if zero.
	MaxIdle int
	Idle    time.Duration
	MaxAge  time.Duration
	// Until is MaxAge as a moment, of one connection. It is asked once; zero: as long
	// as it lives. Nil: MaxAge alone counts.
	Until func(net.Conn) time.Time
	// Write is how long the upstream may take nothing, 30 seconds if zero. Stall is
	// how long it may send nothing in the middle of a body; for ever if zero. How
	// long it may think is for the request's context to say.
	Write, Stall time.Duration
	// MaxHead is the most bytes of an answer's head, with those of 1xx before it,
	// MaxFields the most field lines of one. 64 KiB and 256 if zero.
	MaxHead, MaxFields int
	Now                func() time.Time // for the ages; time.Now if nil
}

// Transport carries requests to one upstream, one at a time on each connection.
// It writes and reads on the calling goroutine; only a body that is not there yet
// is sent by another one, which ends when the body's Read does. A short body is
// there if the request has a GetBody, or if the body's method Buffered() int says
// that as many bytes have come; it goes out with the head, in one write.
//
// A request goes out again, once and on a new connection, if one that was kept
// turns out to be closed: if nothing of it was written, or if its method is safe
// (RFC 9110 section 9.2.1) and its body can be had again.
//
// A cancelled request is cut within a tenth of a second, or at once if it has
// taken longer than that.
type Transport struct {
	config TransportConfig
	pool   pool
}

// NewTransport is a transport of that configuration. It connects on demand.
func NewTransport(config TransportConfig) *Transport {
	if config.Now == nil {
		config.Now = time.Now
	}
	orElse(&config.MaxIdle, 128)
	orElse(&config.Idle, 30*time.Second)
	orElse(&config.Write, defaultStall)
	orElse(&config.MaxHead, defaultHead)
	orElse(&config.MaxFields, defaultAnswer)
	t := &Transport{config: config}
	t.pool.config = &t.config
	return t
}

// Close closes the connections that carry nothing, and lets the others finish. A
// request that comes late still gets a connection, which is not kept.
func (t *Transport) Close() { t.pool.close() }

var errNoWay = errors.New("connecting to the upstream: there is no way to it")

// RoundTrip sends the request and returns the answer's head, as
// [http.RoundTripper] demands. The target is URL.Opaque byte for byte, or else
// the URL's path as it was encoded, and the query as it is; nothing is added but
// the framing. Of a switch of protocols that was asked for, the answer's Body is
// an io.ReadWriteCloser. A malformed answer's error wraps a wire.Flaw.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	s, err := newSending(r)
	if err != nil {
		s.closeBody()
		return nil, fmt.Errorf("sending the request: %w", err)
	}
	answer, err := t.attempt(s, false)
	if s.again && err != nil && r.Context().Err() == nil && s.rewind() {
		answer, err = t.attempt(s, true)
	}
	if err != nil {
		if !errors.Is(err, wire.ErrOtherProtocol) {
			s.closeBody()
		}
		return nil, err
	}
	return answer, nil
}

// attempt carries the request on one connection. s.again says whether another one
// may have it.
func (t *Transport) attempt(s *sending, fresh bool) (*http.Response, error) {
	s.again = false
	ctx := s.r.Context()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var c *clientConn
	if !fresh {
		c = t.pool.get()
	}
	kept := c != nil
	if !kept {
		if t.config.Dial == nil {
			return nil, errNoWay
		}
		conn, err := t.config.Dial(ctx)
		if err != nil {
			return nil, err
		}
		c = newClientConn(t, conn)
	}
	c.begin(ctx)
	untouched, err := c.send(s)
	if err == nil {
		var answer *http.Response
		if answer, untouched, err = c.receive(s); err == nil {
			answer.TLS = c.secure
			return answer, nil
		}
		s.again = kept && untouched && isGone(err) && s.replayable()
	} else {
		s.again = kept && (untouched || isGone(err) && s.replayable())
	}
	c.finish(false)
	return nil, c.why(s, err)
}

// isGone reports whether an error says that the other end has closed.
func isGone(err error) bool {
	var network *net.OpError
	return !isTimeout(err) &&
		(errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) || errors.As(err, &network))
}
