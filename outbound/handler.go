package outbound

import (
	"net/http"
	"time"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/audit"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/hop"
	"github.com/everyhop/everyhop/sidecar/lease"
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
	to := &witness{way: s.peers.to(snapshot, call), call: call, at: at}
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
	job.Upgrade = facts.Upgrade
	x.Facts, x.About = facts, to
	x.Forward(job)
	if proof := to.proof.Load(); proof != nil {
		x.Record.Peer = proof.peer
	}
}

// judge is whether the app may still speak to the peer as it asked to: by what the
// peer has proved, once it has, and by the policy of this moment.
func (s *Server) judge(x *hop.Exchange, now time.Time) lease.Standing {
	to := x.About.(*witness)
	proof := to.proof.Load()
	if proof != nil {
		switch {
		case !now.Before(proof.peer.NotAfter):
			return lease.Standing{Reason: policy.PeerExpired}
		case s.config.Recheck != nil && s.config.Recheck(*proof.secure) != nil:
			return lease.Standing{Reason: policy.PeerUnverified}
		}
	}
	standing := s.declared(to.call, to.at, now, &x.Facts)
	if proof != nil && standing.Reason == policy.Allowed {
		standing.Until = proof.peer.NotAfter
	}
	return standing
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
