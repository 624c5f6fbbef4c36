package forward_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

// RFC 9209 section 2.3: each fault of an upstream by the name that says where to
// look.
func TestErrorType_OfAnswers(t *testing.T) {
	for raw, want := range map[string]string{
		ok2: "",
		"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n": "",
		"":                               "connection_terminated",
		"HTTP/1.1 200 OK\r\nContent-Len": "connection_terminated",
		"SSH-2.0-OpenSSH_9.9\r\n\r\n":    "http_protocol_error",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n":                     "http_protocol_error",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 1<<20) + "\r\n\r\n":                      "http_response_header_section_size",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n":                                    "http_response_transfer_coding",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok":                                        "http_response_incomplete",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok":                          "http_response_incomplete",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": "http_protocol_error",
	} {
		u := newUpstream(t, func(c net.Conn, _ *http.Request, _ []byte) {
			io.WriteString(c, raw)
			c.Close()
		})
		h := newHop(t, "h2", u, nil)
		_, _, _ = h.do(t, h.request(t, "POST", "/", strings.NewReader("x")))
		if r := <-h.results; r.ErrorType() != want || (r.Fault == forward.None) != (want == "") {
			t.Errorf("%.40q: %q of %+v", raw, r.ErrorType(), r)
		}
	}
	// What was to become a WebSocket.
	u := newUpstream(t, func(c net.Conn, _ *http.Request, _ []byte) { c.Close() })
	h := newHop(t, "h1", u, nil)
	h.raw(t, handshake)
	if r := <-h.results; r.ErrorType() != "http_upgrade_failed" {
		t.Errorf("%q of %+v", r.ErrorType(), r)
	}
}

func TestErrorType_OfConnections(t *testing.T) {
	silent := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	hangsUp := listen(t, func(net.Conn) {})
	refuses := listen(t, func(c net.Conn) { io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28") }) // handshake_failure
	to := func(network, address string) func(context.Context) (net.Conn, error) {
		return func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, address)
		}
	}
	never := func(context.Context) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
	}
	unknown := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}}
	slow := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", Name: "x", IsTimeout: true}}
	fails := func(err error) func(context.Context) (net.Conn, error) {
		return func(context.Context) (net.Conn, error) { return nil, err }
	}
	verify := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return errors.New("another") }} //nolint:gosec // it is verified
	for name, c := range map[string]struct {
		dial    func(context.Context) (net.Conn, error)
		tls     *tls.Config
		timeout time.Duration
		want    string
	}{
		"nobody there":     {to("tcp", "127.0.0.1:1"), nil, 0, "connection_refused"},
		"no socket":        {to("unix", filepath.Join(t.TempDir(), "none")), nil, 0, "connection_refused"},
		"no name":          {fails(unknown), nil, 0, "dns_error"},
		"names are slow":   {fails(slow), nil, 0, "dns_timeout"},
		"dialling is slow": {never, nil, 0, "connection_timeout"},
		"hangs up on TLS":  {to("tcp", hangsUp.Addr().String()), verify, 0, "connection_terminated"},
		"refuses TLS":      {to("tcp", refuses.Addr().String()), verify, 0, "tls_alert_received"},
		"thinks for ever":  {to("tcp", silent.Addr().String()), nil, 50 * time.Millisecond, "http_response_timeout"},
		"hangs up on HTTP": {to("tcp", hangsUp.Addr().String()), nil, 0, "connection_terminated"},
	} {
		way := serve.NewTransport(serve.TransportConfig{Dial: c.dial, TLS: c.tls})
		h := newHop(t, "h1", nil, func(job *forward.Job) { job.Upstream, job.Timeout = way, c.timeout })
		_, _, _ = h.do(t, h.request(t, "POST", "/", strings.NewReader("x")))
		if r := <-h.results; r.ErrorType() != c.want {
			t.Errorf("%s: %q of %+v", name, r.ErrorType(), r)
		}
		way.Close()
	}
	if got := (forward.Result{Fault: forward.Unverified}).ErrorType(); got != "tls_certificate_error" {
		t.Error(got)
	}
	for _, f := range []forward.Fault{forward.None, forward.ClientGone, forward.BodyTooLarge, forward.BodyBroken} {
		if got := (forward.Result{Fault: f, Err: io.EOF}).ErrorType(); got != "" {
			t.Errorf("%v: %q is the upstream's", f, got)
		}
	}
}
