package h2_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// Bodies both ways on many streams, between two ends that buffer nothing: if a
// reader ever waited for a write, both would wait for ever.
func TestConn_ReadersNeverWaitForWriters(t *testing.T) {
	s := h2.NewServer(h2.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buffer := make([]byte, 32<<10)
		for {
			n, err := r.Body.Read(buffer)
			w.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	})})
	defer s.Close()
	var serving sync.WaitGroup
	defer serving.Wait()
	to := transport(t, h2.TransportConfig{MaxConns: 1, Dial: func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		serving.Go(func() { _ = s.ServeConn(context.Background(), theirs) })
		return ours, nil
	}})
	text := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if _, body := exchange(t, to, request(t, "POST", "http://h.test/", bytes.NewReader(text))); body != string(text) {
				t.Errorf("%d bytes came back", len(body))
			}
		})
	}
	all.Wait()
	s.Close()
}

// piped serves the other end of a pipe to the peer it returns, which has agreed
// on settings.
func piped(t *testing.T, s *h2.Server, serving *sync.WaitGroup, settings ...http2.Setting) *raw {
	ours, theirs := net.Pipe()
	serving.Go(func() { _ = s.ServeConn(context.Background(), ours) })
	p := newRaw(t, theirs)
	_, err := io.WriteString(theirs, http2.ClientPreface)
	p.check(err)
	p.until(is[*http2.SettingsFrame])
	p.check(p.fr.WriteSettings(settings...))
	p.check(p.fr.WriteSettingsAck())
	p.until(func(f http2.Frame) bool { s, is := f.(*http2.SettingsFrame); return is && s.IsAck() })
	return p
}

// A client that opens its windows wide and reads nothing: the writers wait, and
// what waits with them is bounded.
func TestServer_StalledReaderHoldsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chunk := make([]byte, 1<<20)
		s := h2.NewServer(h2.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		})})
		var serving sync.WaitGroup
		p := piped(t, s, &serving, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		p.check(p.fr.WriteWindowUpdate(0, 1<<30))
		before := heap()
		for i := range uint32(100) {
			p.get(2*i + 1)
		}
		synctest.Wait() // everybody waits for the reader
		if grown := heap() - before; grown > 4<<20 {
			t.Errorf("%d KiB are held", grown>>10)
		}
		p.nc.Close()
		serving.Wait()
	})
}

func heap() int {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// RT12: of the goroutines that many streams at once need, one waits for more.
func TestServer_WorkersLeaveSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := h2.NewServer(h2.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Millisecond) })})
		var serving sync.WaitGroup
		goroutines := runtime.NumGoroutine()
		p := piped(t, s, &serving)
		for round := range uint32(3) { // and they come back
			for i := range uint32(10) {
				p.get(20*round + 2*i + 1)
			}
			for range 10 {
				p.until(is[*http2.MetaHeadersFrame])
			}
			time.Sleep(300 * time.Millisecond)
			synctest.Wait()
			if n := runtime.NumGoroutine() - goroutines; n > 6 { // two, and the runtime has some of its own
				t.Errorf("%d goroutines", n)
			}
		}
		p.nc.Close()
		serving.Wait()
	})
}

// RT12: a connection at rest is a goroutine and little memory.
func TestServer_IdleConnectionsCostLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 200
		s := h2.NewServer(h2.Config{Handler: forbidden(t)})
		var serving sync.WaitGroup
		goroutines, memory := runtime.NumGoroutine(), heap()
		peers := make([]*raw, conns)
		for i := range peers {
			peers[i] = piped(t, s, &serving)
			peers[i].canary(1)
		}
		time.Sleep(15 * time.Second) // of the bubble: the sweeper comes by, and workers leave
		synctest.Wait()
		if n := runtime.NumGoroutine() - goroutines; n > conns+5 { // the runtime has some of its own
			t.Errorf("%d goroutines", n)
		}
		if each := (heap() - memory) / conns; each > 60<<10 { // of which the test's own framers are a good part
			t.Errorf("%d bytes each", each)
		}
		for _, p := range peers {
			p.nc.Close()
		}
		serving.Wait()
	})
}
