package forward

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// IsGRPC reports whether the request is gRPC, which is never spoken over HTTP/1.
func IsGRPC(r *http.Request) bool {
	if r.ProtoMajor != 2 || r.Method != http.MethodPost {
		return false
	}
	types := r.Header["Content-Type"]
	if len(types) == 0 {
		return false
	}
	rest, ok := strings.CutPrefix(types[0], "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// ErrGRPCTimeout is of a grpc-timeout that is none.
var ErrGRPCTimeout = errors.New("grpc-timeout is not one to eight digits and a unit")

// GRPCTimeout is how long the client of a gRPC call waits for all of it: at most
// eight digits and a unit (the protocol's "PROTOCOL-HTTP2", Requests). Zero: for
// ever. The header of a request that is no gRPC means nothing.
func GRPCTimeout(r *http.Request) (time.Duration, error) {
	values := r.Header["Grpc-Timeout"]
	if len(values) == 0 || !IsGRPC(r) {
		return 0, nil
	}
	text := values[0]
	if text == "" || len(values) > 1 {
		return 0, ErrGRPCTimeout
	}
	digits, each := text[:len(text)-1], unitOf(text[len(text)-1])
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || len(digits) > 8 || !all(digits, isDigit) || each == 0 {
		return 0, ErrGRPCTimeout
	}
	if n > uint64(maxGRPCTimeout/each) {
		return maxGRPCTimeout, nil
	}
	return max(time.Duration(n)*each, 1), nil // of none the upstream is not asked for long
}

const maxGRPCTimeout = 10 * 365 * 24 * time.Hour // what is longer is as good as for ever

func unitOf(c byte) time.Duration {
	switch c {
	case 'H':
		return time.Hour
	case 'M':
		return time.Minute
	case 'S':
		return time.Second
	case 'm':
		return time.Millisecond
	case 'u':
		return time.Microsecond
	case 'n':
		return time.Nanosecond
	}
	return 0
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// errDeadline ends a gRPC call whose client waits no longer.
var errDeadline = errors.New("the deadline of the gRPC call has passed")

// tellDeadline ends a gRPC answer that was begun with the status for a deadline
// that has passed.
func tellDeadline(header http.Header) {
	header[http.TrailerPrefix+"Grpc-Status"] = []string{"4"}
}
