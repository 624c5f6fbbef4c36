package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

func handshake(t testing.TB) *http.Request {
	r := request(t, "GET", "http://app.test/ws?a=b", nil)
	r.Header.Set("Connection", "keep-alive, Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.Header.Set("Sec-WebSocket-Version", "13")
	return r
}

// switchTo serves extended CONNECTs with this handler of their streams.
func switchTo(t testing.TB, handle func(t testing.TB, rw io.ReadWriteCloser)) *h2.Transport {
	_, address := serve(t, h2.Config{ExtendedConnect: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		handle(t, c)
	})})
	return transport(t, h2.TransportConfig{Dial: dialer(address)})
}

// RFC 8441 sections 4 and 5.
func TestTunnel_UpgradeBecomesAnExtendedConnect(t *testing.T) {
	_, address := serve(t, h2.Config{ExtendedConnect: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "CONNECT" || r.Header.Get(":protocol") != "" && r.Header[":protocol"][0] != "websocket" || r.RequestURI != "/ws?a=b" || r.Host != "app.test" ||
			r.Header.Get("Sec-WebSocket-Version") != "13" || len(r.Header["Upgrade"])+len(r.Header["Connection"])+len(r.Header["Sec-Websocket-Key"]) > 0 {
			t.Errorf("%s %s %s: %v", r.Method, r.Host, r.RequestURI, r.Header)
		}
		w.Header().Set("Sec-WebSocket-Protocol", "chat")
		w.WriteHeader(200)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	})})
	to := transport(t, h2.TransportConfig{Dial: dialer(address)})
	answer, err := to.RoundTrip(handshake(t))
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 101 || answer.Header.Get("Upgrade") != "websocket" || answer.Header.Get("Sec-WebSocket-Protocol") != "chat" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
	tunnel := answer.Body.(io.ReadWriteCloser)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // more than any window
	go func() {
		_, _ = tunnel.Write(sent)
		_ = tunnel.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if got, err := io.ReadAll(tunnel); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back: %v", len(got), len(sent), err)
	}
	_ = tunnel.Close()
}

func TestTunnel_HalfCloseLeavesTheOtherHalf(t *testing.T) {
	to := switchTo(t, func(t testing.TB, c io.ReadWriteCloser) {
		if got, err := io.ReadAll(c); err != nil || string(got) != "ask" {
			t.Errorf("%q, %v", got, err)
		}
		_, _ = io.WriteString(c, "answer")
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	})
	answer, err := to.RoundTrip(handshake(t))
	if err != nil {
		t.Fatal(err)
	}
	tunnel := answer.Body.(io.ReadWriteCloser)
	_, _ = io.WriteString(tunnel, "ask")
	if err := tunnel.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(tunnel, "more"); err == nil {
		t.Error("something was written after the end")
	}
	if got, err := io.ReadAll(tunnel); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
	_ = tunnel.Close()
}

// A tunnel that is closed early is cut, and never looks ended.
func TestTunnel_CloseIsSeenAsAReset(t *testing.T) {
	seen := make(chan error, 1)
	to := switchTo(t, func(_ testing.TB, c io.ReadWriteCloser) {
		_, err := io.ReadAll(c)
		seen <- err
	})
	answer, err := to.RoundTrip(handshake(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	var reset *h2.StreamError
	if err := <-seen; !errors.As(err, &reset) || !reset.Remote {
		t.Errorf("%v", err)
	}
	back := switchTo(t, func(_ testing.TB, c io.ReadWriteCloser) { _, _ = c.Read(make([]byte, 1)) }) // it ends with its handler
	if answer, err = back.RoundTrip(handshake(t)); err != nil {
		t.Fatal(err)
	}
	tunnel := answer.Body.(io.ReadWriteCloser)
	_, _ = io.WriteString(tunnel, "x")
	if _, err := io.ReadAll(tunnel); !errors.As(err, &reset) || !reset.Remote {
		t.Errorf("%v", err)
	}
}

func TestTunnel_DeadlinesEndReadsAndWrites(t *testing.T) {
	release := make(chan struct{})
	to := switchTo(t, func(testing.TB, io.ReadWriteCloser) { <-release })
	defer close(release)
	answer, err := to.RoundTrip(handshake(t))
	if err != nil {
		t.Fatal(err)
	}
	tunnel := answer.Body.(interface {
		io.ReadWriteCloser
		SetReadDeadline(time.Time) error
		SetWriteDeadline(time.Time) error
	})
	_ = tunnel.SetReadDeadline(time.Now())
	if _, err := tunnel.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = tunnel.SetWriteDeadline(time.Now())
	if _, err := tunnel.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) { // nobody reads
		t.Error(err)
	}
	_ = tunnel.Close()
}

func TestTunnel_RefusalIsAnAnswer(t *testing.T) {
	for _, body := range []string{"", "no"} {
		_, address := serve(t, h2.Config{ExtendedConnect: true, Limits: h2.Limits{Streams: 1}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "CONNECT" {
				w.WriteHeader(403)
			}
			_, _ = io.WriteString(w, body)
			if _, _, err := http.NewResponseController(w).Hijack(); err == nil {
				t.Error("a refusal was taken over")
			}
		})})
		to := transport(t, h2.TransportConfig{Dial: dialer(address), MaxConns: 1})
		for range 3 { // one stream at a time: none is left open
			answer, got := exchange(t, to, handshake(t))
			if answer.StatusCode != 403 || got != body {
				t.Errorf("%d %q", answer.StatusCode, got)
			}
			exchange(t, to, request(t, "GET", "http://app.test/", nil))
		}
	}
}

// U19: what the upstream's settings do not allow is not tried.
func TestTunnel_UpstreamThatDoesNotAllowIt(t *testing.T) {
	_, address := serve(t, h2.Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was tried") })})
	to := transport(t, h2.TransportConfig{Dial: dialer(address)})
	if answer, err := to.RoundTrip(handshake(t)); err == nil {
		t.Errorf("%d", answer.StatusCode)
	}
}
