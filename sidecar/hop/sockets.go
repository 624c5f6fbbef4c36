package hop

import (
	"context"
	"sync"
	"time"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/forward"
)

// Sockets are the open WebSockets of one direction. They are requests that do not
// end, so they are judged again whenever what they were judged by has changed. The
// zero Sockets are none yet.
type Sockets struct {
	mu   sync.Mutex
	open map[*socket]struct{}
}

// socket is one of them.
type socket struct {
	tunnel *forward.WebSocket
	judge  func(now time.Time) Standing
	now    func() time.Time

	mu    sync.Mutex // guards what follows
	why   policy.Reason
	timer *time.Timer // of the standing's end
	over  bool
}

// Keep is for a [forward.Job] whose request may become a WebSocket: it is judged
// at once, because the policy may have changed since the decision, then whenever a
// standing ends and whenever [Sockets.Recheck] asks. One that may not stay is
// closed with the code for a violated policy, between two frames, and the record
// says why.
func (x *Exchange) Keep(job *forward.Job, all *Sockets, judge func(now time.Time) Standing) {
	job.Opened = func(tunnel *forward.WebSocket) func() {
		s := &socket{tunnel: tunnel, judge: judge, now: x.now, why: policy.Allowed}
		x.Record.Tunnel = true
		all.add(s)
		s.recheck()
		return func() {
			all.forget(s)
			x.closed = s.end()
		}
	}
}

func (a *Sockets) add(s *socket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = make(map[*socket]struct{})
	}
	a.open[s] = struct{}{}
}

func (a *Sockets) forget(s *socket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, s)
}

// Count is how many there are.
func (a *Sockets) Count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.open)
}

// Recheck judges every socket anew, and closes those that may not stay.
func (a *Sockets) Recheck() {
	for _, s := range a.all() {
		s.recheck()
	}
}

// all are those of this moment: judging them takes its time, and no lock.
func (a *Sockets) all() []*socket {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*socket, 0, len(a.open))
	for s := range a.open {
		all = append(all, s)
	}
	return all
}

// farewell is how long before the end of a drain those that are left are asked to
// go: their apps, which stop too, may do it better.
const farewell = 2 * time.Second

// Drain sees to it that sockets are closed before ctx ends, and not cut by its
// end. The caller calls stop when it waits no more.
func (a *Sockets) Drain(ctx context.Context) (stop func()) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return func() {}
	}
	left := time.Until(deadline) // of the real clock, as ctx is
	timer := time.AfterFunc(max(left-farewell, left/2), func() {
		for _, s := range a.all() {
			s.close(policy.Stopped, forward.GoingAway)
		}
	})
	return func() { timer.Stop() }
}

func (s *socket) recheck() {
	now := s.now()
	standing := s.judge(now)
	if standing.Reason != policy.Allowed {
		s.close(standing.Reason, forward.PolicyViolation)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if !s.over && !standing.Until.IsZero() {
		// Nobody waits for it: it looks again, and is done.
		s.timer = time.AfterFunc(standing.Until.Sub(now), s.recheck)
	}
}

func (s *socket) close(why policy.Reason, status uint16) {
	s.mu.Lock()
	first := !s.over && s.why == policy.Allowed
	if first {
		s.why = why
	}
	s.mu.Unlock()
	if first {
		s.tunnel.Close(status)
	}
}

// end is why the socket was closed, if it was.
func (s *socket) end() policy.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.timer != nil {
		s.timer.Stop()
	}
	return s.why
}
