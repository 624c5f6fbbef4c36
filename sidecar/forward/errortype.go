package forward

import (
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
)

// ErrorType is what RFC 9209 section 2.3 calls an upstream's fault, for whoever
// looks for its cause; empty where the fault is none of an upstream's.
func (r Result) ErrorType() string {
	switch r.Fault {
	case Unreachable:
		return unreachable(r.Err)
	case Unverified:
		return "tls_certificate_error"
	case Timeout:
		return tooLate(r.Err)
	case Broken:
		return r.broken()
	}
	return ""
}

func unreachable(err error) string {
	var name *net.DNSError
	switch {
	case errors.As(err, &name) && name.IsTimeout:
		return "dns_timeout"
	case errors.As(err, &name):
		return "dns_error"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT): // of a unix socket
		return "connection_refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "destination_ip_unroutable"
	case hasOp(err, "remote error"): // as crypto/tls calls an alert that came
		return "tls_alert_received"
	case isTimeout(err):
		return "connection_timeout"
	}
	return "connection_terminated"
}

func tooLate(err error) string {
	switch {
	case hasOp(err, "dial"):
		return "connection_timeout"
	case hasOp(err, "write"):
		return "connection_write_timeout"
	}
	return "http_response_timeout"
}

func (r Result) broken() string {
	var flaw interface {
		error
		Status() int // as the flaws of the wire have, of whichever side
	}
	var network *net.OpError
	switch {
	case r.upgrade && r.Status == 0:
		return "http_upgrade_failed"
	case errors.As(r.Err, &flaw) && flaw.Status() == http.StatusRequestHeaderFieldsTooLarge:
		return "http_response_header_section_size"
	case errors.As(r.Err, &flaw) && flaw.Status() == http.StatusNotImplemented:
		return "http_response_transfer_coding"
	case errors.As(r.Err, &flaw):
		return "http_protocol_error"
	case r.Status != 0 && !r.Switched:
		return "http_response_incomplete"
	case errors.Is(r.Err, io.EOF), errors.Is(r.Err, io.ErrUnexpectedEOF), errors.As(r.Err, &network), r.Switched:
		return "connection_terminated"
	}
	return "http_protocol_error"
}

// hasOp reports whether an error of the network, or one that it wraps, is of this
// operation.
func hasOp(err error, op string) bool {
	var network *net.OpError
	for errors.As(err, &network) {
		if network.Op == op {
			return true
		}
		err = network.Err
	}
	return false
}

func isTimeout(err error) bool {
	var late interface{ Timeout() bool }
	return errors.As(err, &late) && late.Timeout()
}
