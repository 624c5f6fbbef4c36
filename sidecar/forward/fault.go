package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
)

// Fault says whose fault it is that a request was not answered in full. The zero
// Fault is nobody's.
type Fault uint8

// The faults: ours first, then the client's, then the upstream's.
const (
	None      Fault = iota
	Withdrawn       // by a Rein
	ClientGone
	BodyTooLarge
	BodyBroken
	Unreachable
	Unverified
	Timeout
	Broken
)

var faultNames = [...]string{"none", "withdrawn", "client gone", "body too large", "body broken", "unreachable", "unverified", "timeout", "broken"}

// String is the fault's name, for logs.
func (f Fault) String() string {
	if int(f) < len(faultNames) {
		return faultNames[f]
	}
	return "unknown"
}

// fault is whose fault it is that the upstream gave no answer. The client comes
// first: a broken body makes every upstream look broken.
func (job *Job) fault(r *http.Request, body *requestBody, ctx context.Context, err error) Fault {
	cause := context.Cause(ctx)
	if cause == errWithdrawn {
		return Withdrawn
	}
	if f := body.fault(); f != None {
		return f
	}
	var network *net.OpError
	switch {
	case errors.Is(cause, errTimeout), errors.Is(err, errTimeout), errors.Is(cause, errDeadline):
		return Timeout
	case r.Context().Err() != nil:
		return goneFault(r)
	case job.Unverified != nil && job.Unverified(err):
		return Unverified
	case errors.As(err, &network) && network.Op == "dial":
		return Unreachable
	case isTimeout(err):
		return Timeout
	}
	return Broken
}

// bodyFault is whose fault an error of reading the client's body is.
func bodyFault(r *http.Request, err error) Fault {
	var network net.Error
	switch {
	case errors.Is(err, errTooLarge):
		return BodyTooLarge
	case isMalformed(err):
		return BodyBroken
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network), r.Context().Err() != nil, r.ProtoMajor == 2:
		return ClientGone
	}
	return BodyBroken
}

// goneFault is why the client's request has ended: over HTTP/2 a body that is
// malformed ends it too.
func goneFault(r *http.Request) Fault {
	if isMalformed(context.Cause(r.Context())) {
		return BodyBroken
	}
	return ClientGone
}

// isMalformed reports whether an error is of the bytes that the client sent: the
// wire's flaws are errors that know how they are answered.
func isMalformed(err error) bool {
	var flaw interface{ Status() int }
	return errors.As(err, &flaw)
}
