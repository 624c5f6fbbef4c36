package outbound

import (
	"net/http"
	"time"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/audit"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/hop"
	"github.com/everyhop/everyhop/sidecar/wire"
)

// passAll is what the app may say: who may say what is the peer's to decide. What
// speaks of identity stays here, for the connection proves it.
var passAll = &forward.Pass{All: true}

// serve is the whole way of a request of the local app, in order. Each step that
// does not hold has refused the request; every way out is recorded, by End.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, at portKey) {
	x := hop.Begin(w, r, &s.hop)
	defer x.End()

	snapshot := s.config.Policy() // once: no request is judged by two policies
	x.Under(snapshot)

	call := callAt(snapshot, at)
	if call == nil { // the policy changed, and this port is about to close
		x.Refuse(policy.RouteUndeclared)
		return
	}
	x.Record.Call = call.Name
	facts, flaw, ok := hop.Check(r, "http")
	if !ok {
		x.Refuse(flaw)
		return
	}
	decision := call.Decide(x.Record.Time, &facts, nil)
	if !x.Decided(decision) {
		return
	}
	mark := hop.Mark(audit.Outbound, snapshot.Service)
	if forward.Looped(r.Header, mark) {
		x.Refuse(policy.RequestLoop)
		return
	}
	if !x.Recordable() {
		return
	}
	header, ok := x.Select(passAll)
	if !ok {
		return
	}
	to := &witness{way: s.peers.to(snapshot, call), peer: &x.Record.Peer}
	job := &forward.Job{
		Upstream:   to,
		Scheme:     "https",
		Host:       call.At[0].Text,
		Path:       decision.Path,
		Header:     header,
		Via:        mark,
		BodyMax:    call.BodyMax,
		Timeout:    call.Timeout,
		Body:       snapshot.Timeouts.Body,
		Write:      snapshot.Timeouts.Write,
		Unverified: unverified,
	}
	if job.Upgrade = facts.Upgrade; job.Upgrade != "" {
		s.keep(x, job, to, call, at, facts)
	}
	x.Forward(job)
}

// keep has a request judged on for as long as it is a WebSocket. The facts are
// its own copy: most requests need none.
func (s *Server) keep(x *hop.Exchange, job *forward.Job, to *witness, call *policy.CallRule, at portKey, facts policy.Request) {
	x.Keep(job, &s.sockets, func(now time.Time) hop.Standing { return s.standing(to, call, at, now, &facts) })
}

// standing is whether the app may still speak to the peer as it asked to: by the
// policy of this moment, and by what the peer has proved.
func (s *Server) standing(to *witness, call *policy.CallRule, at portKey, now time.Time, asked *policy.Request) hop.Standing {
	call, same := s.same(call, at)
	if !same {
		return hop.Standing{Reason: policy.RouteUndeclared}
	}
	if d := call.Decide(now, asked, nil); d.Verdict != policy.Allow {
		return hop.Standing{Reason: d.Reason}
	}
	switch {
	case to.peer.IsZero() || to.secure == nil:
		return hop.Standing{Reason: policy.PeerUnverified}
	case !now.Before(to.peer.NotAfter):
		return hop.Standing{Reason: policy.PeerExpired}
	case s.config.Recheck != nil && s.config.Recheck(*to.secure) != nil:
		return hop.Standing{Reason: policy.PeerUnverified}
	}
	return hop.Standing{Reason: policy.Allowed, Until: to.peer.NotAfter}
}

// flawed refuses a request whose bytes are wrong, and records it.
func (s *Server) flawed(w http.ResponseWriter, r *http.Request, flaw wire.Flaw, at portKey) {
	x := hop.Begin(w, r, &s.hop)
	defer x.End()
	snapshot := s.config.Policy()
	x.Under(snapshot)
	if call := callAt(snapshot, at); call != nil {
		x.Record.Call = call.Name
	}
	x.Refuse(hop.Flawed(r, flaw))
}
