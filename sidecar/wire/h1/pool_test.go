package h1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// B10.
func TestTransport_StaleConnectionIsTriedOnceMoreIfNothingCanHappenTwice(t *testing.T) {
	for _, c := range []struct {
		method string
		body   func() io.Reader
		again  bool
	}{
		{"GET", nil, true},
		{"DELETE", nil, false},
		{"PUT", func() io.Reader { return strings.NewReader("hello") }, false},
		{"GET", func() io.Reader { return strings.NewReader("hello") }, true},
		{"GET", func() io.Reader { return struct{ io.Reader }{strings.NewReader("hello")} }, false},
		{"POST", nil, false},
		{"POST", func() io.Reader { return strings.NewReader("hello") }, false},
		{"PATCH", func() io.Reader { return strings.NewReader("hello") }, false},
	} {
		var got atomic.Int32
		u := listen(t, func(n int, conn net.Conn, r *bufio.Reader) {
			for i := 0; ; i++ {
				_, _, ok := readRequest(r)
				if !ok {
					return
				}
				if i == 1 { // it reads a second request, and closes
					got.Add(1)
					return
				}
				if n > 0 {
					got.Add(1)
				}
				io.WriteString(conn, okAnswer)
			}
		})
		to := u.transport(t, TransportConfig{})
		mustTrip(t, to, newRequest(t, "GET", "/", nil))
		var body io.Reader
		if c.body != nil {
			body = c.body()
		}
		_, text, err := trip(to, newRequest(t, c.method, "/", body))
		want := int32(1)
		if c.again {
			want = 2
		}
		if (err == nil) != c.again || err == nil && text != "ok" || got.Load() != want {
			t.Errorf("%s: %q, %v, seen %d times", c.method, text, err, got.Load())
		}
	}
}

func TestTransport_AnswerThatHasBegunIsNotTriedAgain(t *testing.T) {
	var got atomic.Int32
	u := listen(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for got.Load() < 2 {
			if _, _, ok := readRequest(r); !ok {
				return
			}
			if got.Add(1) == 2 {
				io.WriteString(c, "HTTP/1.1 200 O")
				return
			}
			io.WriteString(c, okAnswer)
		}
	})
	to := u.transport(t, TransportConfig{})
	mustTrip(t, to, newRequest(t, "GET", "/", nil))
	if _, _, err := trip(to, newRequest(t, "GET", "/", nil)); err == nil || u.count() != 1 {
		t.Error(err, u.count())
	}
}

func TestTransport_LongRequestKeepsItsConnection(t *testing.T) {
	u := listen(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, _, ok := readRequest(r); !ok {
				return
			}
			time.Sleep(3 * patience) // the time itself is what is tested
			io.WriteString(c, okAnswer)
		}
	})
	to := u.transport(t, TransportConfig{})
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		mustTrip(t, to, newRequest(t, "GET", "/", nil).WithContext(ctx))
		cancel() // too late to do harm
	}
	if u.count() != 1 {
		t.Error(u.count())
	}
}

func TestTransport_FreshConnectionThatDiesIsNotTriedAgain(t *testing.T) {
	u := listen(t, func(_ int, _ net.Conn, r *bufio.Reader) { readRequest(r) })
	if _, _, err := trip(u.transport(t, TransportConfig{}), newRequest(t, "GET", "/", nil)); err == nil || u.count() != 1 {
		t.Error(err, u.count())
	}
}

// B10: it has closed before the request is sent, and nothing is sent to it.
func TestTransport_ClosedConnectionIsNotUsed(t *testing.T) {
	var posts atomic.Int32
	closed := make(chan struct{})
	u := listen(t, func(n int, c net.Conn, r *bufio.Reader) {
		request, _, ok := readRequest(r)
		if !ok {
			return
		}
		if request.Method == "POST" {
			posts.Add(1)
		}
		io.WriteString(c, okAnswer)
		c.Close()
		closed <- struct{}{}
	})
	to := u.transport(t, TransportConfig{})
	for range 50 {
		if _, body := mustTrip(t, to, newRequest(t, "POST", "/", strings.NewReader("hello"))); body != "ok" {
			t.Fatal(body)
		}
		<-closed
	}
	if posts.Load() != 50 {
		t.Error(posts.Load())
	}
}

// B06: what comes when nothing was asked is nobody's answer.
func TestTransport_NobodyGetsAnotherOnesAnswer(t *testing.T) {
	poisoned := make(chan struct{})
	u := listen(t, func(n int, c net.Conn, r *bufio.Reader) {
		for i := 0; ; i++ {
			request, _, ok := readRequest(r)
			if !ok {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(request.RequestURI), request.RequestURI)
			if i%3 == 2 {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
			}
			poisoned <- struct{}{}
		}
	})
	to := u.transport(t, TransportConfig{})
	for i := range 3000 {
		target := fmt.Sprintf("/%d", i)
		if _, body := mustTrip(t, to, newRequest(t, "GET", target, nil)); body != target {
			t.Fatalf("%q got %q", target, body)
		}
		<-poisoned
	}
}

func TestPool_KeepsOnlyWhatIsFresh(t *testing.T) {
	u := listen(t, answers(okAnswer))
	now := time.Unix(1, 0)
	to := u.transport(t, TransportConfig{Idle: time.Minute, MaxAge: 90 * time.Second, Now: func() time.Time { return now }})
	for _, c := range []struct {
		later time.Duration
		made  int
	}{{0, 1}, {59 * time.Second, 1}, {30 * time.Second, 1}, {time.Second, 2}, {59 * time.Second, 2}, {time.Minute, 3}} {
		now = now.Add(c.later)
		mustTrip(t, to, newRequest(t, "GET", "/", nil))
		if u.count() != c.made {
			t.Errorf("%v later: %d connections", c.later, u.count())
		}
	}
}

func (p *pool) state() (kept int, armed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle), p.armed
}

func TestPool_SweepsWhatGrewOldAndStopsWhenItIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var serving sync.WaitGroup
		to := NewTransport(TransportConfig{MaxIdle: 2, Idle: time.Minute, Dial: func(context.Context) (net.Conn, error) {
			client, server := net.Pipe()
			serving.Go(func() { answers(okAnswer)(0, server, bufio.NewReader(server)) })
			return client, nil
		}})
		start := time.Now()
		var open []*http.Response
		for range 3 {
			answer, err := to.RoundTrip(newRequest(t, "GET", "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, answer)
		}
		for _, answer := range open {
			io.ReadAll(answer.Body)
		}
		if n, _ := to.pool.state(); n != 2 {
			t.Errorf("%d are kept", n)
		}
		serving.Wait() // for the ends of all three
		synctest.Wait()
		if took := time.Since(start); took < time.Minute || took > 2*time.Minute {
			t.Error(took)
		}
		if n, armed := to.pool.state(); n != 0 || armed {
			t.Error(n, armed)
		}
	})
}

func TestTransport_CloseLetsAnswersEndAndKeepsNothing(t *testing.T) {
	u := listen(t, answers(okAnswer))
	to := u.transport(t, TransportConfig{})
	answer, err := to.RoundTrip(newRequest(t, "GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	to.Close()
	if body, err := io.ReadAll(answer.Body); string(body) != "ok" || err != nil {
		t.Error(string(body), err)
	}
	mustTrip(t, to, newRequest(t, "GET", "/", nil)) // a late one still gets there
	if n, _ := to.pool.state(); u.count() != 2 || n != 0 {
		t.Error(u.count(), n)
	}
}

func TestTransport_ZeroReachesNothing(t *testing.T) {
	if answer, err := NewTransport(TransportConfig{}).RoundTrip(newRequest(t, "GET", "/", nil)); err == nil {
		t.Error(answer)
	}
}

// Ours at both ends: every body arrives, in every framing, and each at its own.
func TestBothEnds_EveryoneGetsTheirOwn(t *testing.T) {
	server := NewServer(handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Id", r.Header.Get("X-Id"))
		if r.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		io.Copy(w, r.Body)
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { server.ServeConn(context.Background(), c) })
		}
	})
	to := NewTransport(TransportConfig{Dial: func(context.Context) (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }})
	var clients sync.WaitGroup
	for k := range 8 {
		clients.Go(func() {
			for i := range 200 {
				size := (i*i*7919 + k) % 70000
				content := repeat(fmt.Sprintf("%d-%d;", k, i), size/4+1)[:size]
				var body io.Reader = strings.NewReader(content)
				if i%3 == 0 {
					body = struct{ io.Reader }{body}
				}
				r := newRequest(t, "POST", "/", body)
				id := fmt.Sprintf("%d-%d", k, i)
				r.Header.Set("X-Id", id)
				if i%7 == 0 { // cut somewhere: of the others, nobody may notice
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Duration(i*k)*time.Microsecond, cancel)
					_, got, err := trip(to, r.WithContext(ctx))
					cancel()
					if err == nil && got != content {
						t.Errorf("%s: cut, but whole", id)
					}
					continue
				}
				answer, got, err := trip(to, r)
				if err != nil || got != content || answer.Header.Get("X-Id") != id {
					t.Errorf("%s: %d bytes of %d, %v", id, len(got), size, err)
					return
				}
			}
		})
	}
	clients.Wait()
	to.Close()
	server.Retire()
	ln.Close()
	serving.Wait()
}
