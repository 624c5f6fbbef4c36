package h1

import (
	"context"
	"sync"
	"time"
)

// lifetime is the context of one request. It is a part of the exchange, where
// context.WithCancel would make two more pieces for each; it ends with the
// handler, with the client, or with the connection. [context.WithCancel] of it
// finds AfterFunc, and starts no goroutine.
type lifetime struct {
	conn context.Context // of the connection, which ends this when it ends

	mu    sync.Mutex
	done  chan struct{} // made for who asks
	err   error
	after []*func()
}

func (l *lifetime) Deadline() (time.Time, bool) { return l.conn.Deadline() }

func (l *lifetime) Value(key any) any { return l.conn.Value(key) }

func (l *lifetime) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.err != nil {
			close(l.done)
		}
	}
	return l.done
}

func (l *lifetime) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// AfterFunc is [context.AfterFunc], which asks for it.
func (l *lifetime) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		go f()
		return func() bool { return false }
	}
	l.after = append(l.after, &f)
	return func() bool { return l.forget(&f) }
}

func (l *lifetime) forget(f *func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, one := range l.after {
		if one == f {
			l.after = append(l.after[:i], l.after[i+1:]...)
			return true
		}
	}
	return false
}

// cancel ends it.
func (l *lifetime) cancel() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = context.Canceled
	if l.done != nil {
		close(l.done)
	}
	for _, f := range l.after {
		go (*f)()
	}
	l.after = nil
}
