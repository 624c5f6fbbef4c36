package hop

import (
	"context"
	"sync"
	"time"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/lease"
)

// Sockets are the open WebSockets of one direction. They are requests that do not
// end by themselves. The zero Sockets are none yet.
type Sockets struct {
	mu   sync.Mutex
	open map[*socket]struct{}
}

// socket is one of them.
type socket struct {
	tunnel *forward.WebSocket
	judge  func(now time.Time) lease.Standing
	lease  lease.Lease

	mu   sync.Mutex // guards what follows
	why  policy.Reason
	over bool
}

// Judge is whether the socket may stay.
func (s *socket) Judge(now time.Time) lease.Standing { return s.judge(now) }

// Expel closes the socket with the code for a violated policy, between two frames.
func (s *socket) Expel(reason policy.Reason) { s.close(reason, forward.PolicyViolation) }

// keep has the job judged on when it has become a WebSocket: at once, because the
// policy may have changed since the decision, and then as [lease.Book] says. The
// record says why one was closed.
func (x *Exchange) keep(job *forward.Job) {
	job.Opened = func(tunnel *forward.WebSocket) func() {
		s := &socket{tunnel: tunnel, judge: x.Judge, why: policy.Allowed}
		x.Record.Tunnel = true
		x.config.Sockets.add(s)
		x.config.Leases.Begin(&s.lease, s)
		s.lease.RecheckNow()
		return func() {
			x.config.Sockets.forget(s)
			s.lease.End()
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
	return s.why
}
