package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestStop_AgainstStartLeavesNothing(t *testing.T) {
	shop := newShop(t)
	for range 20 {
		s, err := New(shop.config)
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() {
			if err := s.Start(t.Context()); err != nil && !errors.Is(err, ErrStopped) {
				t.Errorf("start: %v", err)
			}
		})
		both.Go(func() {
			if err := s.Stop(t.Context()); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
		both.Wait()
		if _, err := net.Dial("tcp", s.Addr("admin").String()); err == nil {
			t.Error("the admin listener is still open")
		}
	}
}

func TestStop_BeforeStartAndAgain(t *testing.T) {
	shop := newShop(t)
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Start(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("start: %v", err)
	}
}

func TestStop_NotReadyAtOnceWhileSlowRequestsFinish(t *testing.T) {
	shop := newShop(t)
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	shop.app.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "slow order")
	})
	s := shop.start()
	client := shop.client("web")
	answers := make(chan string, 10)
	for range 10 {
		go func() {
			_, body, err := get(client, orderURL(s))
			answers <- fmt.Sprint(body, err)
		}()
	}
	for range 10 {
		<-arrived
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(ctx) }()
	plain := shop.client("")
	until(t, "not ready", func() bool { status, _, _ := get(plain, adminURL(s, "/readyz")); return status == 503 })
	if body := shop.want(plain, adminURL(s, "/readyz"), 503); !strings.Contains(body, "stopping") {
		t.Errorf("got %q", body)
	}
	until(t, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", s.Addr("inbound").String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(release)
	for range 10 {
		if got := <-answers; got != "slow order<nil>" {
			t.Errorf("got %q", got)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := strings.Count(shop.audit.String(), `"status":200`); n != 10 {
		t.Errorf("%d of 10 requests are in the audit log", n)
	}
}

func TestStop_CutsWhatOutlastsTheDrain(t *testing.T) {
	shop := newShop(t)
	arrived := make(chan struct{})
	shop.app.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	shop.config.Drain = 20 * time.Millisecond
	s := shop.start()
	answer := make(chan error, 1)
	go func() {
		_, _, err := get(shop.client("web"), orderURL(s))
		answer <- err
	}()
	<-arrived
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-answer; err == nil {
		t.Error("the request was answered")
	}
	if !strings.Contains(shop.log.String(), `msg="requests were cut: they outlasted the drain" side=inbound`) {
		t.Error(shop.log.String())
	}
}

func TestRun_EndsCleanlyWithItsContext(t *testing.T) {
	shop := newShop(t)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- Run(ctx, shop.config) }()
	until(t, "ready", func() bool { return strings.Contains(shop.log.String(), "msg=ready") })
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if !strings.Contains(shop.log.String(), "msg=stopped") {
		t.Error(shop.log.String())
	}
}

func TestRun_ListenerThatBreaksEndsIt(t *testing.T) {
	shop := newShop(t)
	shop.config.InboundListener = held(t)
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- s.Run(t.Context()) }()
	until(t, "ready", func() bool { return s.Ready() == nil })
	shop.config.InboundListener.Close()
	if err := <-ran; err == nil || !strings.Contains(err.Error(), "serving inbound") {
		t.Errorf("got %v", err)
	}
}

func TestRun_SaysWhatItWaitsForAndStopsCleanlyMeanwhile(t *testing.T) {
	shop := newShop(t)
	empty := filepath.Join(shop.dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	shop.config.Identity = "dir:" + empty
	var late atomic.Int64
	shop.config.Now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	until(t, "it says so", func() bool {
		late.Add(int64(identitySay))
		return strings.Contains(shop.log.String(), `msg="not ready: waiting for the identity" source=dir:`+empty)
	})
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
