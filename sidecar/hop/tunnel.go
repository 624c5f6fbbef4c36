package hop

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/audit"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/lease"
)

// Tunnel is one connection of bytes that is being judged or carried: its record,
// and the one way to refuse or end it. What it does not get to say is said by
// resetting the connection: the protocol is the app's, and unknown here.
type Tunnel struct {
	Record audit.Record

	client net.Conn
	writer func(net.Conn) io.Writer
	config *Config
	lease  lease.Lease
	life   context.Context // until the tunnel is cut
	kill   context.CancelFunc

	mu       sync.Mutex // guards what follows
	upstream net.Conn
	cut      policy.Reason // why; Allowed: it was not
	judge    func(now time.Time) lease.Standing
	over     bool
}

func (s *Tunnels) newTunnel(client net.Conn) *Tunnel {
	life, kill := context.WithCancel(context.Background())
	config := &s.config
	return &Tunnel{
		client: client, writer: s.writer, config: config, life: life, kill: kill, cut: policy.Allowed,
		Record: audit.Record{Time: config.Now(), ID: config.Audit.NewID(), Direction: config.Direction, Tunnel: true},
	}
}

// Life ends when the tunnel is cut.
func (x *Tunnel) Life() context.Context { return x.life }

// Under notes which policy judges the connection.
func (x *Tunnel) Under(s *policy.Snapshot) {
	if s != nil {
		x.Record.Digest, x.Record.Generation = s.Digest, s.Generation
	}
}

// Decided notes the decision, and refuses the connection if it is a denial.
func (x *Tunnel) Decided(d policy.Decision) (allowed bool) {
	x.Record.Rule, x.Record.Shadow, x.Record.Route = d.Grant, d.Shadow, d.Route
	if d.Verdict != policy.Allow {
		x.Refuse(d.Reason)
		return false
	}
	x.Record.Verdict, x.Record.Reason = policy.Allow, policy.Allowed
	return true
}

// Recordable reports whether the connection's record can be written, and refuses
// it if not.
func (x *Tunnel) Recordable() bool {
	if x.config.Audit.Ready() != nil {
		x.Refuse(policy.AuditUnavailable)
		return false
	}
	return true
}

// Refuse resets the connection and records the reason.
func (x *Tunnel) Refuse(reason policy.Reason) {
	x.Record.Verdict, x.Record.Reason = policy.Deny, reason
	forward.Cut(x.client)
}

// Keep says how to judge the tunnel from now on: at once, because the policy may
// have changed since the decision, then whenever a standing ends and whenever
// something changes (see [lease.Book]). A tunnel that may not stay is cut.
func (x *Tunnel) Keep(judge func(now time.Time) lease.Standing) {
	x.mu.Lock()
	x.judge = judge
	x.mu.Unlock()
	x.lease.RecheckNow()
}

// Judge is whether the tunnel may stay.
func (x *Tunnel) Judge(now time.Time) lease.Standing {
	x.mu.Lock()
	judge := x.judge
	x.mu.Unlock()
	if judge == nil { // it is being judged for the first time
		return lease.Standing{Reason: policy.Allowed}
	}
	return judge(now)
}

// Expel cuts the tunnel.
func (x *Tunnel) Expel(reason policy.Reason) { x.Cut(reason) }

// Cut ends the tunnel at once, because of reason. What it carries is lost.
func (x *Tunnel) Cut(reason policy.Reason) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || x.cut != policy.Allowed {
		return
	}
	x.cut = reason
	x.kill()
	forward.Cut(x.client)
	if x.upstream != nil {
		forward.Cut(x.upstream)
	}
}

// Fail resets the connection because its upstream was not to be had.
func (x *Tunnel) Fail(fault forward.Fault, err error) {
	forward.Cut(x.client)
	x.ended(forward.Result{Fault: fault, Err: err})
}

// Carry carries bytes until both ends have ended. An end that takes none for
// stall ends both.
func (x *Tunnel) Carry(upstream net.Conn, stall time.Duration) {
	x.mu.Lock()
	x.upstream = upstream
	whole := x.cut == policy.Allowed
	x.mu.Unlock()
	if !whole {
		forward.Cut(upstream)
		x.ended(forward.Result{})
		return
	}
	x.ended(forward.Pipe(x.client, upstream, stall, x.writer))
}

// ended notes what came of the tunnel. Where it was cut, that is why it ended.
func (x *Tunnel) ended(result forward.Result) {
	x.Record.BytesIn, x.Record.BytesOut = result.BytesIn, result.BytesOut
	if errors.Is(result.Err, net.ErrClosed) {
		x.lease.RecheckNow() // the listener cut it, whose leases end as the standing does
	}
	x.mu.Lock()
	cut := x.cut
	x.mu.Unlock()
	switch {
	case cut != policy.Allowed:
		x.Record.Reason = cut
	case result.Fault != forward.None:
		x.Record.Reason = reasonOf(result.Fault)
		if result.Fault >= forward.Unreachable {
			x.Record.Fault = result.ErrorType()
			x.config.Logger.Warn("carrying bytes", "decision", x.Record.ID, "direction", x.Record.Direction, "fault", result.Fault.String(), "err", result.Err)
		}
	}
}

// end writes the record. It is deferred, so that a panic is recorded too.
func (x *Tunnel) end() {
	if fault := recover(); fault != nil {
		x.config.Logger.Error("a connection made the evaluator panic", "decision", x.Record.ID, "panic", fault, "stack", string(debug.Stack()))
		x.Refuse(policy.EvaluatorPanic)
	}
	x.mu.Lock()
	x.over = true
	x.mu.Unlock()
	x.lease.End()
	x.kill()
	x.Record.Duration = x.config.Now().Sub(x.Record.Time)
	x.config.Audit.Write(&x.Record)
}
