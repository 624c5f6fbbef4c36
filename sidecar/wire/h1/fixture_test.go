package h1

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/sidecar/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is the H of the cases.
const host = "Host: app.test\r\n"

// longest is more than any of these tests takes; what waits for it has failed.
const longest = 20 * time.Second

// pipe is two ends of a loopback connection.
func pipe(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	client.SetDeadline(time.Now().Add(longest))
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// connect serves one connection until the test ends, and is its client.
func connect(t testing.TB, config ServerConfig) net.Conn {
	t.Helper()
	_, client := connectTo(t, config)
	return client
}

func connectTo(t testing.TB, config ServerConfig) (*Server, net.Conn) {
	t.Helper()
	client, server := pipe(t)
	s := NewServer(config)
	var serving sync.WaitGroup
	serving.Go(func() { s.ServeConn(context.Background(), server) })
	t.Cleanup(func() {
		client.Close()
		serving.Wait()
	})
	return s, client
}

// seen is a request as the handler saw it.
type seen struct {
	method, target, host, body string
	header                     http.Header
	trailer                    http.Header
	err                        error
}

// recorder answers 200 and keeps what it saw.
type recorder struct {
	mu    sync.Mutex
	saw   []seen
	flaws []wire.Flaw
}

func (rec *recorder) config() ServerConfig {
	return ServerConfig{
		Handler: rec,
		Flawed: func(w http.ResponseWriter, r *http.Request, flaw wire.Flaw) {
			rec.mu.Lock()
			defer rec.mu.Unlock()
			rec.flaws = append(rec.flaws, flaw)
			w.WriteHeader(flaw.Status())
		},
	}
}

func (rec *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	rec.mu.Lock()
	rec.saw = append(rec.saw, seen{r.Method, r.RequestURI, r.Host, string(body), r.Header, r.Trailer, err})
	rec.mu.Unlock()
	if err != nil {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	io.WriteString(w, "saw "+r.RequestURI)
}

func (rec *recorder) seen() ([]seen, []wire.Flaw) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.saw, rec.flaws
}

func send(t testing.TB, c net.Conn, bytes ...string) {
	t.Helper()
	for _, b := range bytes {
		if _, err := io.WriteString(c, b); err != nil {
			t.Fatal(err)
		}
	}
}

// readAnswer reads one answer to a request of that method.
func readAnswer(t testing.TB, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	answer, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

// closed fails if the connection does not end here.
func closed(t testing.TB, r *bufio.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(r); err != nil && !isReset(err) || len(rest) > 0 {
		t.Fatalf("not closed, but %q, %v", rest, err)
	}
}

func isReset(err error) bool { return strings.Contains(err.Error(), "reset by peer") }

// upstream answers each connection by a script, and counts them.
type upstream struct {
	ln      net.Listener
	serving sync.WaitGroup
	mu      sync.Mutex
	conns   []net.Conn
}

func listen(t testing.TB, script func(n int, c net.Conn, r *bufio.Reader)) *upstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{ln: ln}
	u.serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(longest))
			u.mu.Lock()
			n := len(u.conns)
			u.conns = append(u.conns, c)
			u.mu.Unlock()
			u.serving.Go(func() {
				defer c.Close()
				script(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		u.mu.Lock()
		for _, c := range u.conns {
			c.Close()
		}
		u.mu.Unlock()
		u.serving.Wait()
	})
	return u
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.conns)
}

func (u *upstream) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", u.ln.Addr().String())
}

func (u *upstream) transport(t testing.TB, config TransportConfig) *Transport {
	t.Helper()
	config.Dial = u.dial
	to := NewTransport(config)
	t.Cleanup(to.Close)
	return to
}

// readRequest reads one request, or says that there is none.
func readRequest(r *bufio.Reader) (*http.Request, string, bool) {
	request, err := http.ReadRequest(r)
	if err != nil {
		return nil, "", false
	}
	body, err := io.ReadAll(request.Body)
	return request, string(body), err == nil
}

// answers gives each request the same bytes.
func answers(bytes string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, _, ok := readRequest(r); !ok {
				return
			}
			io.WriteString(c, bytes)
		}
	}
}

func newRequest(t testing.TB, method, target string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, "http://app.test"+target, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func repeat(s string, n int) string { return string(bytes.Repeat([]byte(s), n)) }
