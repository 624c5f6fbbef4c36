package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

// seen is what a handler saw of a request.
type seen struct {
	method, target, scheme, host, proto string
	tls                                 bool
	conn                                net.Conn
}

func watch(into chan<- seen) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		into <- seen{r.Method, r.RequestURI, r.URL.Scheme, r.Host, r.Proto, r.TLS != nil, wire.ConnOf(r.Context()).Conn}
	})
}

func TestServer_ShowsRequestsAsReceived(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		saw := make(chan seen, 1)
		_, address := e.serve(t, true, serve.ServerConfig{Handler: watch(saw)})
		for raw, want := range map[string]seen{
			"GET /a%2fb?x HTTP/1.1\r\nHost: h\r\n\r\n":            {method: "GET", target: "/a%2fb?x", host: "h", proto: "HTTP/1.1"},
			"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n":               {method: "OPTIONS", target: "*", host: "h", proto: "HTTP/1.1"}, // P24
			"GET https://h/x HTTP/1.1\r\nHost: h\r\n\r\n":         {method: "GET", target: "https://h/x", scheme: "https", host: "h", proto: "HTTP/1.1"},
			"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n":           {method: "CONNECT", target: "a:1", host: "a:1", proto: "HTTP/1.1"},
			"GET //a/../b;c HTTP/1.1\r\nHost: other.test\r\n\r\n": {method: "GET", target: "//a/../b;c", host: "other.test", proto: "HTTP/1.1"},
		} {
			c := dialTLS(t, address, "http/1.1")
			io.WriteString(c, raw)
			got := <-saw
			if _, secure := got.conn.(*tls.Conn); !secure {
				t.Errorf("%q came on %T", raw, got.conn)
			}
			if got.conn = nil; got != want {
				t.Errorf("%q: got %+v", raw, got)
			}
			c.Close()
		}
	})
}

// T14: net/http's own wrapper would hide it.
func TestServer_ShowsSchemeOfHTTP2(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		saw := make(chan seen, 1)
		_, address := e.serve(t, true, serve.ServerConfig{Handler: watch(saw)})
		c := dialTLS(t, address, "h2")
		framer := preface(t, c)
		for i, scheme := range []string{"http", "https"} {
			open(t, framer, uint32(2*i+1), ":method", "GET", ":scheme", scheme, ":path", "/x", ":authority", "h")
			got := <-saw
			if _, secure := got.conn.(*tls.Conn); !secure {
				t.Errorf("came on %T", got.conn)
			}
			if got.conn = nil; got != (seen{"GET", "/x", scheme, "h", "HTTP/2.0", false, nil}) {
				t.Errorf("got %+v", got)
			}
		}
	})
}

func preface(t *testing.T, c net.Conn) *http2.Framer {
	t.Helper()
	io.WriteString(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return framer
}

func open(t *testing.T, framer *http2.Framer, stream uint32, fields ...string) {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
}

// T05, U19.
func TestServer_TellsItsLimitsOnHTTP2(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		_, address := e.serve(t, true, serve.ServerConfig{Handler: http.NotFoundHandler()})
		frame, err := preface(t, dialTLS(t, address, "h2")).ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		settings, ok := frame.(*http2.SettingsFrame)
		if !ok {
			t.Fatalf("%v", frame)
		}
		for id, most := range map[http2.SettingID]uint32{
			http2.SettingMaxConcurrentStreams: 100, http2.SettingMaxHeaderListSize: 32 << 10, http2.SettingInitialWindowSize: 256 << 10,
		} {
			if value, said := settings.Value(id); !said || value > most {
				t.Errorf("%v is %d, said: %v", id, value, said)
			}
		}
		if value, said := settings.Value(http2.SettingEnableConnectProtocol); said && value != 0 {
			t.Error("extended CONNECT is offered")
		}
	})
}

// H21.
func TestServer_HeaderBlocksAreBounded(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		_, address := e.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
		for _, c := range []struct {
			protocol    string
			size, wants int
		}{
			{"http/1.1", 60 << 10, 200}, {"http/1.1", 65 << 10, 431}, {"http/1.1", 1 << 20, 431}, {"h2", 30 << 10, 200}, {"h2", 33 << 10, 431},
		} {
			to := e.dial(t, serve.TransportConfig{Dial: dialer(address), TLS: trusting(c.protocol)})
			r, _ := http.NewRequest("GET", "https://h/", nil)
			r.Header.Set("X", strings.Repeat("x", c.size))
			answer, err := to.RoundTrip(r)
			switch {
			case c.wants != 200 && err != nil: // refused before it was sent whole
			case err != nil:
				t.Errorf("%+v: %v", c, err)
			default:
				answer.Body.Close()
				if answer.StatusCode != c.wants {
					t.Errorf("%+v: %d", c, answer.StatusCode)
				}
			}
		}
	})
}

// T13, T34.
func TestServer_HeaderThatDoesNotComeIsGivenUp(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		_, address := e.serve(t, false, serve.ServerConfig{H2C: true, Headers: 30 * time.Millisecond, Idle: 30 * time.Millisecond,
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
		for _, raw := range []string{"", "GET / HTTP/1.1\r\nHost", "PRI * HT", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", http2.ClientPreface} {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, raw)
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%q keeps its connection", raw)
			}
			c.Close()
		}
	})
}

func TestConn_FactIsFoundOnce(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		for _, protocol := range []string{"http/1.1", "h2"} {
			found := 0
			_, address := e.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fact := wire.ConnOf(r.Context()).Fact(func(c net.Conn) any {
					found++
					return c.(*tls.Conn).ConnectionState().NegotiatedProtocol
				})
				fmt.Fprint(w, fact)
			})})
			to := e.dial(t, serve.TransportConfig{Dial: dialer(address), TLS: trusting(protocol)})
			for range 3 {
				answer := get(t, to, "https://h/")
				body, _ := io.ReadAll(answer.Body)
				answer.Body.Close()
				if string(body) != protocol {
					t.Errorf("%q", body)
				}
			}
			if found != 1 {
				t.Errorf("%s: found %d times", protocol, found)
			}
		}
		if wire.ConnOf(context.Background()) != nil {
			t.Error("a context without a connection has one")
		}
	})
}

func TestServer_ZeroConfigServesNothing(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		_, address := e.serve(t, false, serve.ServerConfig{})
		answer := get(t, e.dial(t, serve.TransportConfig{Dial: dialer(address)}), "http://h/")
		answer.Body.Close()
		if answer.StatusCode != 503 {
			t.Error(answer.StatusCode)
		}
	})
}

func TestShutdown_RequestUnderWayEnds(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		for _, protocol := range []string{"http/1.1", "h2"} {
			entered, leave := make(chan struct{}), make(chan struct{})
			s, address := e.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-leave
				io.WriteString(w, "done")
			})})
			to := e.dial(t, serve.TransportConfig{Dial: dialer(address), TLS: trusting(protocol)})
			stopped := make(chan error, 1)
			go func() {
				<-entered
				go func() { stopped <- s.Shutdown(context.Background()) }()
				close(leave)
			}()
			answer := get(t, to, "https://h/")
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if string(body) != "done" || err != nil {
				t.Error(string(body), err)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestShutdown_CutsWhatDoesNotEnd(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		for _, protocol := range []string{"http/1.1", "h2"} {
			entered := make(chan struct{})
			s, address := e.serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-r.Context().Done()
			})})
			to := e.dial(t, serve.TransportConfig{Dial: dialer(address), TLS: trusting(protocol)})
			ctx, cancel := context.WithCancel(context.Background())
			go func() { <-entered; cancel() }()
			stopped := make(chan error, 1)
			go func() { <-ctx.Done(); stopped <- s.Shutdown(ctx) }()
			r, _ := http.NewRequest("GET", "https://h/", nil)
			if answer, err := to.RoundTrip(r); err == nil {
				answer.Body.Close()
				t.Errorf("%s: %d", protocol, answer.StatusCode)
			}
			if err := <-stopped; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

// L11, H24.
func TestErrorLog_IsBoundedAndOneLineEach(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		var out bytes.Buffer
		ended := make(chan struct{}, 100)
		_, address := e.serve(t, false, serve.ServerConfig{
			Logger: slog.New(slog.NewTextHandler(&out, nil)),
			Now:    func() time.Time { return time.Unix(1, 0) },
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				defer func() { ended <- struct{}{} }()
				panic("line one\nline two") // net/http logs it
			}),
		})
		for range 50 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			bufio.NewReader(c).ReadByte() // it is closed after the line is logged
			c.Close()
			<-ended
		}
		if n := strings.Count(out.String(), "\n"); n != 10 {
			t.Errorf("%d lines: %s", n, out.String())
		}
	})
}
