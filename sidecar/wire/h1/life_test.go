package h1

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

func TestRetire_EndsIdleConnectionsAtOnceAndOthersWithTheirAnswer(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	config := handle(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-leave
		io.WriteString(w, "done")
	})
	s, busy := connectTo(t, config)
	send(t, busy, get("")+get(""))
	<-entered
	s.Retire()
	leave <- struct{}{}
	r := bufio.NewReader(busy)
	if answer, body := readAnswer(t, r, "GET"); body != "done" || !answer.Close {
		t.Error(body, answer.Close)
	}
	closed(t, r)

	s, idle := connectTo(t, config)
	send(t, idle, get(""))
	<-entered
	leave <- struct{}{}
	r = bufio.NewReader(idle)
	readAnswer(t, r, "GET")
	s.Retire()
	closed(t, r)
}

func TestServeConn_EndsWithItsContext(t *testing.T) {
	client, server := pipe(t)
	ctx, cancel := context.WithCancel(context.Background())
	entered := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		NewServer(handle(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		})).ServeConn(ctx, server)
	})
	send(t, client, get(""))
	<-entered
	cancel()
	serving.Wait()
	closed(t, bufio.NewReader(client))
}

// timed serves one end of a pipe in a bubble of its own time.
func timed(t *testing.T, config ServerConfig, client func(t *testing.T, c net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		c, server := net.Pipe()
		var serving sync.WaitGroup
		serving.Go(func() { NewServer(config).ServeConn(context.Background(), server) })
		client(t, c)
		c.Close()
		serving.Wait()
	})
}

// R15.
func TestServer_SlowHeadIsCut(t *testing.T) {
	var flaws []wire.Flaw
	config := ServerConfig{Flawed: func(w http.ResponseWriter, r *http.Request, flaw wire.Flaw) { flaws = append(flaws, flaw) }}
	timed(t, config, func(t *testing.T, c net.Conn) {
		start := time.Now()
		var sending sync.WaitGroup
		defer sending.Wait()
		defer c.Close()
		sending.Go(func() {
			for _, b := range []byte(get("")) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		})
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.StatusCode != 408 || time.Since(start) > defaultHeadTime+time.Second {
			t.Error(answer, err, time.Since(start))
		}
	})
	if len(flaws) != 1 || flaws[0] != wire.FlawSlow {
		t.Error(flaws)
	}
}

func TestServer_IdleConnectionIsClosedWithoutAWord(t *testing.T) {
	config := handle(answerShortly)
	config.Flawed = func(http.ResponseWriter, *http.Request, wire.Flaw) { t.Error("nothing was wrong") }
	for _, c := range []struct {
		requests int
		after    time.Duration
	}{{0, defaultHeadTime}, {1, defaultIdle}, {3, defaultIdle}} {
		timed(t, config, func(t *testing.T, conn net.Conn) {
			r := bufio.NewReader(conn)
			for range c.requests {
				send(t, conn, get(""))
				readAnswer(t, r, "GET")
				time.Sleep(700 * time.Millisecond)
			}
			start := time.Now().Add(-700 * time.Millisecond)
			if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
				t.Error(rest, err)
			}
			if took := time.Since(start); took < c.after-slack || took > c.after+slack {
				t.Errorf("after %d requests: %v", c.requests, took)
			}
		})
	}
}

// R16.
func TestServer_BodyWithoutProgressIsCut(t *testing.T) {
	var got error
	config := handle(func(w http.ResponseWriter, r *http.Request) { _, got = io.ReadAll(r.Body) })
	timed(t, config, func(t *testing.T, c net.Conn) {
		start := time.Now()
		send(t, c, post("Content-Length: 5\r\n", "he"))
		readAnswer(t, bufio.NewReader(c), "POST")
		if took := time.Since(start); took < defaultStall-slack || took > defaultStall+slack {
			t.Error(took)
		}
	})
	if late, ok := got.(net.Error); !ok || !late.Timeout() {
		t.Error(got)
	}
}

// R17.
func TestServer_ClientThatTakesNothingIsCut(t *testing.T) {
	var got error
	config := handle(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		for got == nil {
			_, got = w.Write(make([]byte, 32<<10))
		}
		if took := time.Since(start); took < defaultStall-slack || took > defaultStall+slack {
			t.Error(took)
		}
		if r.Context().Err() == nil {
			t.Error("the request goes on")
		}
	})
	timed(t, config, func(t *testing.T, c net.Conn) {
		send(t, c, get(""))
		time.Sleep(2 * defaultStall)
	})
	if late, ok := got.(net.Error); !ok || !late.Timeout() {
		t.Error(got)
	}
}

func TestServer_DeadlinesThatTheHandlerSetsHold(t *testing.T) {
	config := handle(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		for _, limit := range []time.Duration{time.Second, 100 * time.Millisecond, 3 * time.Second} {
			start := time.Now()
			if err := rc.SetReadDeadline(start.Add(limit)); err != nil {
				t.Error(err)
			}
			r.Body.(*requestBody).err = nil // try again
			if _, err := r.Body.Read(make([]byte, 1)); err == nil {
				t.Error("something was read")
			}
			if took := time.Since(start); took > limit || took < limit-limit/8 {
				t.Errorf("%v took %v", limit, took)
			}
		}
		if err := rc.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		w.Header().Set("Connection", "close")
	})
	timed(t, config, func(t *testing.T, c net.Conn) {
		send(t, c, post("Content-Length: 5\r\n", ""))
		io.ReadAll(c)
	})
}
