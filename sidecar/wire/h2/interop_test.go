package h2_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("X-Seen", fmt.Sprintf("%s %s %s %d", r.Method, r.RequestURI, r.Host, r.ContentLength))
	w.Header().Set(http.TrailerPrefix+"X-Sum", fmt.Sprint(len(body)))
	w.Write(body)
}

// foreignServer is net/http's, with prior knowledge.
func foreignServer(t testing.TB, handler http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: handler, Protocols: &protocols}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
	return ln.Addr().String()
}

// foreignClient is net/http's, with prior knowledge.
func foreignClient(t testing.TB, address string) http.RoundTripper {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	to := &http.Transport{Protocols: &protocols, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer(address)(ctx) }}
	t.Cleanup(to.CloseIdleConnections)
	return to
}

func ownClient(t testing.TB, address string) http.RoundTripper {
	return transport(t, h2.TransportConfig{Dial: dialer(address)})
}

func ownServer(t testing.TB, handler http.Handler) string {
	_, address := serve(t, h2.Config{Handler: handler})
	return address
}

// eachPair runs the test with each server and client that speak to each other,
// one of them ours at least.
func eachPair(t *testing.T, handler http.Handler, test func(t *testing.T, to http.RoundTripper)) {
	for _, pair := range []struct {
		name   string
		server func(testing.TB, http.Handler) string
		client func(testing.TB, string) http.RoundTripper
	}{
		{"ours to ours", ownServer, ownClient},
		{"net/http to ours", ownServer, foreignClient},
		{"ours to net/http", foreignServer, ownClient},
	} {
		t.Run(pair.name, func(t *testing.T) { test(t, pair.client(t, pair.server(t, handler))) })
	}
}

func TestInterop_BodiesOfAllSizesComeBack(t *testing.T) {
	eachPair(t, http.HandlerFunc(echo), func(t *testing.T, to http.RoundTripper) {
		for _, size := range []int{0, 1, 100, 4095, 4096, 4097, 16374, 16375, 16376, 65535, 65536, 300_000, 3_000_000} {
			text := strings.Repeat("x", size)
			answer, body := exchange(t, to, request(t, "POST", "http://h.test/a?b=c", strings.NewReader(text)))
			if body != text || answer.StatusCode != 200 {
				t.Errorf("%d bytes: %d, %d came back", size, answer.StatusCode, len(body))
			}
			if got, want := answer.Header.Get("X-Seen"), fmt.Sprintf("POST /a?b=c h.test %d", size); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if got := answer.Trailer.Get("X-Sum"); got != fmt.Sprint(size) {
				t.Errorf("%d bytes: the trailer is %q", size, got)
			}
		}
	})
}

func TestInterop_RequestsWithoutBodies(t *testing.T) {
	eachPair(t, http.HandlerFunc(echo), func(t *testing.T, to http.RoundTripper) {
		for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS"} {
			answer, body := exchange(t, to, request(t, method, "http://h.test/", nil))
			if answer.StatusCode != 200 || body != "" || answer.Header.Get("X-Seen") != method+" / h.test 0" {
				t.Errorf("%s: %d %q %q", method, answer.StatusCode, body, answer.Header)
			}
		}
	})
}
