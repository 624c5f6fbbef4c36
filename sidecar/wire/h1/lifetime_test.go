package h1

import (
	"context"
	"testing"
	"time"
)

func TestLifetime_IsAContext(t *testing.T) {
	type key struct{}
	l := &lifetime{conn: context.WithValue(t.Context(), key{}, 1)}
	child, cancel := context.WithTimeout(l, time.Hour)
	defer cancel()
	early := l.Done()
	ran := make(chan struct{})
	context.AfterFunc(l, func() { close(ran) })
	stopped := context.AfterFunc(l, func() { t.Error("it was stopped") })
	if !stopped() || stopped() {
		t.Error("stopped once, and not twice")
	}
	if l.Err() != nil || child.Err() != nil || l.Value(key{}) != 1 {
		t.Error(l.Err(), child.Err())
	}
	if _, has := l.Deadline(); has {
		t.Error("it has a deadline")
	}
	l.cancel()
	l.cancel()
	<-early
	<-l.Done()
	<-child.Done()
	<-ran
	if l.Err() != context.Canceled || context.Cause(l) != context.Canceled || context.Cause(child) != context.Canceled {
		t.Error(l.Err(), context.Cause(l), context.Cause(child))
	}
	late := make(chan struct{})
	if stop := context.AfterFunc(l, func() { close(late) }); stop() {
		t.Error("stopped what had started")
	}
	<-late
}

func TestLifetime_AskedForLateIsDone(t *testing.T) {
	l := &lifetime{conn: t.Context()}
	l.cancel()
	<-l.Done()
}

// A child that is over is forgotten: a request that goes on for days may have
// many.
func TestLifetime_ForgetsChildren(t *testing.T) {
	l := &lifetime{conn: t.Context()}
	for range 10 {
		_, cancel := context.WithCancel(l)
		cancel()
	}
	if len(l.after) != 0 {
		t.Error(len(l.after))
	}
}
