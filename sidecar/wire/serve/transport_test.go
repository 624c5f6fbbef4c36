package serve_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

// counted counts the connections that a dial makes, and those still open.
type counted struct {
	dial       func(context.Context) (net.Conn, error)
	made, open atomic.Int32
	closed     chan struct{}
}

type countedConn struct {
	net.Conn
	once sync.Once
	by   *counted
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.by.open.Add(-1); c.by.closed <- struct{}{} })
	return c.Conn.Close()
}

func (d *counted) Dial(ctx context.Context) (net.Conn, error) {
	c, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	d.made.Add(1)
	d.open.Add(1)
	return &countedConn{Conn: c, by: d}, nil
}

func count(address string) *counted {
	return &counted{dial: dialer(address), closed: make(chan struct{}, 100)}
}

func finish(t *testing.T, answer *http.Response) {
	t.Helper()
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "ok" {
		t.Errorf("%q, %v", body, err)
	}
	answer.Body.Close()
}

func ok(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

// X36.
func TestTransport_ConnectionOfAgeGetsNoNewRequests(t *testing.T) {
	eachProtocol(t, func(t *testing.T, e engine, protocol string) {
		_, address := e.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(ok)})
		now := time.Unix(1, 0)
		d := count(address)
		to := e.dial(t, serve.TransportConfig{Dial: d.Dial, TLS: trusting(protocol), MaxAge: time.Minute, Idle: 2 * time.Hour, Now: func() time.Time { return now }})
		for _, c := range []struct {
			later time.Duration
			made  int32
		}{{0, 1}, {59 * time.Second, 1}, {time.Second, 2}, {59 * time.Second, 2}, {time.Hour, 3}} {
			now = now.Add(c.later)
			finish(t, get(t, to, "https://h/"))
			if got := d.made.Load(); got != c.made {
				t.Errorf("%v later: %d connections", c.later, got)
			}
		}
		<-d.closed
		<-d.closed
		if n := d.open.Load(); n != 1 {
			t.Errorf("%d are open", n)
		}
	})
}

func TestTransport_CloseLetsAnswersEndAndKeepsNothing(t *testing.T) {
	eachProtocol(t, func(t *testing.T, e engine, protocol string) {
		more := make(chan struct{})
		_, address := e.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "o")
			http.NewResponseController(w).Flush()
			<-more
			io.WriteString(w, "k")
		})})
		d := count(address)
		to := e.dial(t, serve.TransportConfig{Dial: d.Dial, TLS: trusting(protocol)})
		answer := get(t, to, "https://h/")
		to.Close()
		if n := d.open.Load(); n != 1 {
			t.Fatalf("%d are open", n)
		}
		close(more)
		finish(t, answer)
		<-d.closed
		finish(t, get(t, to, "https://h/")) // a late request still gets there
		<-d.closed                          // on a connection that is not kept
	})
}

// O06.
func TestTransport_TakesNothingFromTheEnvironment(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"} {
			t.Setenv(name, "http://127.0.0.1:9")
		}
		_, address := e.serve(t, false, serve.ServerConfig{Handler: http.HandlerFunc(ok)})
		finish(t, get(t, e.dial(t, serve.TransportConfig{Dial: dialer(address)}), "http://elsewhere.test/"))
	})
}

// H25.
func TestTransport_AsksForNothingOfItsOwn(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		got := make(chan http.Header, 1)
		_, address := e.serve(t, false, serve.ServerConfig{H2C: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- r.Header })})
		for _, h2 := range []bool{false, true} {
			r, _ := http.NewRequest("GET", "http://h/", nil)
			r.Header["User-Agent"] = nil
			answer, err := e.dial(t, serve.TransportConfig{Dial: dialer(address), H2C: h2}).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if header := <-got; len(header) != 0 {
				t.Errorf("%v", header)
			}
		}
	})
}

func TestTransport_TellsUnverifiedFromGone(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		bad := errors.New("the peer is not who must answer")
		refuse := trusting("h2")
		refuse.VerifyConnection = func(tls.ConnectionState) error { return bad }
		_, secure := e.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(ok)})
		_, plain := e.serve(t, false, serve.ServerConfig{Handler: http.HandlerFunc(ok)})
		hangsUp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer hangsUp.Close()
		go func() {
			for {
				c, err := hangsUp.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		for name, c := range map[string]struct {
			dial       func(context.Context) (net.Conn, error)
			config     *tls.Config
			unverified bool
		}{
			"another identity": {dialer(secure), refuse, true},
			"chain unknown":    {dialer(secure), &tls.Config{ServerName: "h"}, true},
			"no TLS":           {dialer(plain), trusting(), true},
			"hangs up":         {dialer(hangsUp.Addr().String()), trusting(), false},
			"nobody there":     {dialer("127.0.0.1:1"), trusting(), false},
			"no common ALPN":   {dialer(secure), trusting("spdy/3"), false}, // the upstream would not have us
			"no way":           {nil, trusting(), false},
			"deadline":         {func(context.Context) (net.Conn, error) { return nil, os.ErrDeadlineExceeded }, trusting(), false},
		} {
			r, _ := http.NewRequest("GET", "https://h/", nil)
			_, err := e.dial(t, serve.TransportConfig{Dial: c.dial, TLS: c.config}).RoundTrip(r)
			var unverified *wire.UnverifiedError
			if err == nil || errors.As(err, &unverified) != c.unverified {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
