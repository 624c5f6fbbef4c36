package inbound

import (
	"net/http"

	"github.com/everyhop/everyhop/identity"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/audit"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/hop"
	"github.com/everyhop/everyhop/sidecar/wire"
)

// ServeHTTP is the whole way of a request, in order. Each step that does not hold
// has refused the request; every way out is recorded, by End.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := hop.Begin(w, r, &s.hop)
	defer x.End()

	snapshot := s.config.Policy() // once: no request is judged by two policies
	x.Under(snapshot)

	on, reason := s.connection(r, x.Record.Time)
	peer := on.peer
	x.Record.Peer = peer
	if reason != policy.Allowed {
		x.Refuse(reason)
		return
	}
	facts, flaw, ok := hop.Check(r, "https")
	if !ok {
		x.Refuse(flaw)
		return
	}
	facts.Caller, facts.Source = peer.ID, sourceOf(on.conn)
	decision := snapshot.Decide(x.Record.Time, &facts, nil)
	if !x.Decided(decision) {
		return
	}
	mark := hop.Mark(audit.Inbound, snapshot.Service)
	if forward.Looped(r.Header, mark) {
		x.Refuse(policy.RequestLoop)
		return
	}
	if !x.Recordable() {
		return
	}
	header, ok := x.Select(&forward.Pass{Headers: decision.Grant.Headers, Cookies: decision.Grant.Cookies})
	if !ok {
		return
	}
	tell(header, peer, snapshot, x.Record.ID)
	job := &forward.Job{
		Upstream: s.app.transport(snapshot.App),
		Scheme:   "http",
		Host:     r.Host,
		Path:     decision.Path,
		Header:   header,
		Via:      mark,
		BodyMax:  decision.Grant.BodyMax,
		Timeout:  decision.Grant.Timeout,
		Body:     snapshot.Timeouts.Body,
		Write:    snapshot.Timeouts.Write,
	}
	job.Upgrade = facts.Upgrade
	x.Facts, x.About = facts, on
	x.Forward(job)
}

// flawed refuses a request whose bytes are wrong, and records it.
func (s *Server) flawed(w http.ResponseWriter, r *http.Request, flaw wire.Flaw) {
	x := hop.Begin(w, r, &s.hop)
	defer x.End()
	x.Under(s.config.Policy())
	on, reason := s.connection(r, x.Record.Time)
	x.Record.Peer = on.peer
	if reason == policy.Allowed {
		reason = hop.Flawed(r, flaw)
	}
	x.Refuse(reason)
}

// tell sets the headers in which the app is told who calls. Every twin of them is
// gone by now.
func tell(header http.Header, caller identity.Peer, snapshot *policy.Snapshot, decision string) {
	id := caller.ID.String()
	values := [...]string{id, decision, "By=" + snapshot.Service.String() + ";Hash=" + caller.Fingerprint + ";URI=" + id}
	header["Everyhop-Caller"] = values[0:1:1]
	header["Everyhop-Decision"] = values[1:2:2]
	header["X-Forwarded-Client-Cert"] = values[2:3:3]
}
