package h2_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is longer than anything takes that is not broken.
const patience = 20 * time.Second

// serve serves the connections of a loopback port until the test ends.
func serve(t testing.TB, config h2.Config) (*h2.Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := h2.NewServer(config)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { _ = s.ServeConn(context.Background(), nc) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		s.Close()
		serving.Wait()
	})
	return s, ln.Addr().String()
}

func dialer(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
}

func transport(t testing.TB, config h2.TransportConfig) *h2.Transport {
	t.Helper()
	to := h2.NewTransport(config)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := to.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return to
}

// exchange sends a request and reads its answer whole.
func exchange(t testing.TB, to http.RoundTripper, r *http.Request) (*http.Response, string) {
	t.Helper()
	answer, err := to.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
