package policy

import (
	"time"

	"github.com/everyhop/everyhop/policy/match"
)

// Decide judges an inbound request as of now. The first grant of the file that
// fully matches decides. It allocates nothing where trace is nil and the path
// is canonical already, it does not look at grants for other routes, and it
// never panics: what fails inside it is a denial.
func (s *Snapshot) Decide(now time.Time, r *Request, trace *Trace) (d Decision) {
	defer denyOnPanic(&d)
	switch {
	case s == nil || s.index == nil:
		return trace.deny(NoPolicy, "")
	case r.Caller.IsZero():
		return trace.deny(PeerUnverified, "")
	case s.ban.names(r.Caller.String()):
		return trace.deny(CallerBanned, r.Caller.String())
	}
	return s.index.decide(r.Caller.String(), now, r, trace)
}

// Decide judges a request of the local app on its way out. The caller is the
// local app, and whom it calls judges the rest.
func (c *CallRule) Decide(now time.Time, r *Request, trace *Trace) (d Decision) {
	defer denyOnPanic(&d)
	if c == nil || c.index == nil {
		return trace.deny(NoPolicy, "")
	}
	if c.banned {
		return trace.deny(PeerBanned, c.As.String())
	}
	return c.index.decide(localApp, now, r, trace)
}

// denyOnPanic is deferred directly: recover works nowhere else, and a closure
// here would be one more thing to allocate.
func denyOnPanic(d *Decision) {
	if recover() != nil {
		*d = Decision{Reason: EvaluatorPanic}
	}
}

// decide is the evaluator: target, route and caller, conditions.
func (x *index) decide(caller string, now time.Time, r *Request, trace *Trace) Decision {
	path := ""
	if !r.TCP {
		if !match.Method(r.Method) {
			return trace.deny(MethodMalformed, r.Method)
		}
		var reason Reason
		if path, reason = target(r); reason != Allowed {
			return trace.deny(reason, r.Path)
		}
	}
	s := search{index: x, caller: caller, now: now, request: r, trace: trace, before: trace.length(),
		declared: none, allowed: none, shadow: none, nearest: none}
	s.find(path)
	return s.decision(path)
}

// target is the canonical path of a request whose target is acceptable.
func target(r *Request) (path string, reason Reason) {
	if len(r.Path) > match.MaxPath || len(r.Query) > match.MaxPath {
		return "", TargetTooLong
	}
	if r.Path == "*" && r.Method == "OPTIONS" {
		return r.Path, Allowed
	}
	if r.Path == "" || r.Path[0] != '/' {
		return "", TargetForm
	}
	path, ok := match.Canonical(r.Path)
	if !ok {
		return "", TargetAmbiguous
	}
	return path, Allowed
}
