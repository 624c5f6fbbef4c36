package h2_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// The peer's limit on streams is kept; more connections are made only when all
// are full, and beyond their number requests wait.
func TestTransport_KeepsToTheStreamsAllowed(t *testing.T) {
	const limit, requests = 3, 40
	arrived, most := new(atomic.Int32), new(atomic.Int32)
	release := make(chan struct{})
	_, address := serve(t, h2.Config{Limits: h2.Limits{Streams: limit}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/first" {
			return
		}
		if n := arrived.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer arrived.Add(-1)
		<-release
	})})
	var dials atomic.Int32
	to := transport(t, h2.TransportConfig{MaxConns: 2, Dial: func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return dialer(address)(ctx)
	}})
	exchange(t, to, request(t, "GET", "http://h.test/first", nil)) // the settings are known
	var all sync.WaitGroup
	for range requests {
		all.Go(func() {
			answer, err := to.RoundTrip(request(t, "POST", "http://h.test/", nil))
			if err != nil {
				t.Error(err)
				return
			}
			answer.Body.Close()
		})
	}
	for range requests {
		release <- struct{}{}
	}
	all.Wait()
	if d, m := dials.Load(), most.Load(); d != 2 || m > 2*limit {
		t.Errorf("%d connections, %d handlers at once", d, m)
	}
}

func TestTransport_WaitingForAStreamEndsWithTheContext(t *testing.T) {
	dial, _ := rawServer(t, func(p *raw, n int) {
		p.settle(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
		p.drain()
	})
	to := transport(t, h2.TransportConfig{Dial: dial, MaxConns: 1})
	first := request(t, "GET", "http://h.test/", nil)
	if answer, err := to.RoundTrip(first); err == nil { // sent before the settings came
		answer.Body.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := to.RoundTrip(first.Clone(ctx))
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// X36, T36.
func TestTransport_ConnectionOfAgeGetsNoNewRequests(t *testing.T) {
	var dials atomic.Int32
	now := time.Unix(1000, 0)
	address := ownServer(t, http.HandlerFunc(echo))
	to := transport(t, h2.TransportConfig{MaxAge: time.Minute, Now: func() time.Time { return now }, Dial: func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return dialer(address)(ctx)
	}})
	for _, c := range []struct {
		later time.Duration
		dials int32
	}{{0, 1}, {59 * time.Second, 1}, {time.Second, 2}, {59 * time.Second, 2}, {time.Hour, 3}} {
		now = now.Add(c.later)
		exchange(t, to, request(t, "GET", "http://h.test/", nil))
		if n := dials.Load(); n != c.dials {
			t.Errorf("%v later: %d connections", c.later, n)
		}
	}
}

// T36: a server that has had enough of a connection loses no request.
func TestServer_MaxRequestsLosesNone(t *testing.T) {
	var served atomic.Int32
	_, address := serve(t, h2.Config{MaxRequests: 7, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		echo(w, r)
	})})
	to := transport(t, h2.TransportConfig{Dial: dialer(address)})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				exchange(t, to, request(t, "POST", "http://h.test/", strings.NewReader("x")))
			}
		})
	}
	all.Wait()
	if n := served.Load(); n != 400 {
		t.Errorf("%d were served", n)
	}
}

// RT06, T37: who stops a server while clients send loses nothing that was sent.
func TestServer_ShutdownLosesNone(t *testing.T) {
	var served, answered atomic.Int32
	s, address := serve(t, h2.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		echo(w, r)
	})})
	var all sync.WaitGroup
	begun := make(chan struct{}, 1000)
	for range 10 {
		to := h2.NewTransport(h2.TransportConfig{Dial: dialer(address)})
		all.Go(func() {
			defer to.Shutdown(context.Background())
			for {
				answer, err := to.RoundTrip(request(t, "POST", "http://h.test/", strings.NewReader("x")))
				if err != nil {
					return // refused: safe to send elsewhere
				}
				if _, err := io.ReadAll(answer.Body); err != nil {
					t.Error(err)
				}
				answer.Body.Close()
				answered.Add(1)
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 100 {
		<-begun
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	all.Wait()
	if s, a := served.Load(), answered.Load(); s != a {
		t.Errorf("%d were served, %d answered", s, a)
	}
}

func TestTransport_CancelReachesTheUpstream(t *testing.T) {
	gone := make(chan struct{})
	arrived := make(chan struct{})
	address := ownServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/body" {
			http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	to := transport(t, h2.TransportConfig{Dial: dialer(address)})
	for _, path := range []string{"/head", "/body"} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() {
			answer, err := to.RoundTrip(request(t, "GET", "http://h.test"+path, nil).WithContext(ctx))
			if err == nil {
				_, err = io.ReadAll(answer.Body)
				answer.Body.Close()
			}
			done <- err
		}()
		<-arrived
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-gone
	}
}

// A body that stalls on the peer's window is let go with the context.
func TestTransport_CancelWakesTheBodysWriter(t *testing.T) {
	closed := make(chan struct{})
	dial, _ := rawServer(t, func(p *raw, n int) {
		p.settle(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		p.until(is[*http2.RSTStreamFrame])
	})
	to := transport(t, h2.TransportConfig{Dial: dial})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	body := &closing{Reader: strings.NewReader(strings.Repeat("x", 200_000)), closed: closed}
	_, err := to.RoundTrip(request(t, "POST", "http://h.test/", body).WithContext(ctx))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	<-closed
}

type closing struct {
	io.Reader
	once   sync.Once
	closed chan struct{}
}

func (c *closing) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func TestTransport_DialErrorsAreReturnedAsTheyAre(t *testing.T) {
	refused := errors.New("it did not prove who it is")
	to := transport(t, h2.TransportConfig{Dial: func(context.Context) (net.Conn, error) { return nil, refused }})
	if _, err := to.RoundTrip(request(t, "GET", "http://h.test/", nil)); err != refused {
		t.Error(err)
	}
	if _, err := transport(t, h2.TransportConfig{}).RoundTrip(request(t, "GET", "http://h.test/", nil)); err == nil {
		t.Error("a zero transport reached something")
	}
}

// One dial serves all who wait; that the first of them gives up does not end it.
func TestTransport_DialsOnceForAll(t *testing.T) {
	address := ownServer(t, http.HandlerFunc(echo))
	proceed, dialled := make(chan struct{}), make(chan struct{}, 10)
	to := transport(t, h2.TransportConfig{Dial: func(ctx context.Context) (net.Conn, error) {
		dialled <- struct{}{}
		select {
		case <-proceed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return dialer(address)(ctx)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error)
	go func() {
		_, err := to.RoundTrip(request(t, "GET", "http://h.test/", nil).WithContext(ctx))
		first <- err
	}()
	<-dialled
	var others sync.WaitGroup
	for range 10 {
		others.Go(func() { exchange(t, to, request(t, "GET", "http://h.test/", nil)) })
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(proceed)
	others.Wait()
	if n := len(dialled); n > 1 { // one more, if all others came after the first had given up
		t.Errorf("%d dials more", n)
	}
}

func TestTransport_CloseLetsAnswersEnd(t *testing.T) {
	more := make(chan struct{})
	address := ownServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "o")
		http.NewResponseController(w).Flush()
		<-more
		io.WriteString(w, "k")
	}))
	to := transport(t, h2.TransportConfig{Dial: dialer(address)})
	answer, err := to.RoundTrip(request(t, "GET", "http://h.test/", nil))
	if err != nil {
		t.Fatal(err)
	}
	to.Close()
	close(more)
	if body, err := io.ReadAll(answer.Body); string(body) != "ok" || err != nil {
		t.Errorf("%q %v", body, err)
	}
	answer.Body.Close()
	if _, body := exchange(t, to, request(t, "GET", "http://h.test/", nil)); body != "ok" { // late, on a connection that is not kept
		t.Errorf("%q", body)
	}
}
