package h2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// ConnError is why a connection ended: this end's finding, or the other's, told
// in a GOAWAY. Everything on it ended too.
type ConnError struct {
	Code   http2.ErrCode
	Reason string
	Remote bool // the peer said so
}

// Error says who ended the connection, and why.
func (e *ConnError) Error() string {
	if e.Remote {
		return fmt.Sprintf("the peer ended the HTTP/2 connection: %v %q", e.Code, e.Reason)
	}
	return fmt.Sprintf("ending the HTTP/2 connection: %v: %s", e.Code, e.Reason)
}

// StreamError is why one stream ended before its messages did.
type StreamError struct {
	Code   http2.ErrCode
	Remote bool  // the peer said so
	Cause  error // what was wrong, where this end found it; may be nil
}

// Error says who ended the stream, and why.
func (e *StreamError) Error() string {
	switch {
	case e.Remote:
		return fmt.Sprintf("the peer reset the HTTP/2 stream: %v", e.Code)
	case e.Cause != nil:
		return fmt.Sprintf("resetting the HTTP/2 stream: %v: %v", e.Code, e.Cause)
	}
	return fmt.Sprintf("resetting the HTTP/2 stream: %v", e.Code)
}

// Unwrap is the cause.
func (e *StreamError) Unwrap() error { return e.Cause }

func connError(code http2.ErrCode, reason string) error {
	return &ConnError{Code: code, Reason: reason}
}

var (
	errClosed    = errors.New("the HTTP/2 connection is closed")
	errWriteSlow = errors.New("the peer took no byte in time")
	errSilent    = errors.New("the peer does not answer a ping")
	errStopped   = errors.New("the handler has returned")
	errBodyShut  = errors.New("the body was closed before")
)
