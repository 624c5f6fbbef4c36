package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const handshakeTimeout = 10 * time.Second

// Handshake makes raw a TLS connection, or closes it. config must verify the
// upstream itself, by VerifyConnection. Where the upstream did not prove who it
// is, the error is an [UnverifiedError]; where it went away, a [net.OpError] of
// "dial", like that of an upstream that does not listen.
func Handshake(ctx context.Context, raw net.Conn, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, handshakeFault(raw, err)
	}
	return c, nil
}

// UnverifiedError is a handshake in which the upstream did not prove who it is.
type UnverifiedError struct {
	Err error
}

// Error says what was wrong with the handshake.
func (e *UnverifiedError) Error() string { return e.Err.Error() }

// Unwrap is the fault itself.
func (e *UnverifiedError) Unwrap() error { return e.Err }

// handshakeFault tells an upstream that is not who it should be from one that
// went away or would not have us: that one was not reached, like one that does
// not listen.
func handshakeFault(raw net.Conn, err error) error {
	said := &net.OpError{Op: "dial", Net: "tls", Addr: raw.RemoteAddr(), Err: fmt.Errorf("shaking hands: %w", err)}
	var network net.Error // timeouts, resets, and alerts that the upstream sent
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return said
	}
	return &UnverifiedError{said}
}
