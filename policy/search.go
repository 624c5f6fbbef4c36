package policy

import (
	"strings"
	"time"
)

// search is one walk through an index. Wherever it comes by, it keeps only what
// stands first in the file, so that the order of the walk does not matter.
type search struct {
	index   *index
	caller  string
	now     time.Time
	request *Request
	trace   *Trace
	before  int // steps that the trace had already

	declared uint32 // the first route that matched, whoever may take it
	allowed  uint32 // the first whose grant allows
	shadow   uint32 // the first whose shadow grant would
	nearest  uint32 // the first whose caller matched but a condition failed,
	why      Reason // and which one
}

// find looks at every route whose method and path match.
func (s *search) find(path string) {
	if s.request.TCP {
		s.arrive(s.index.tcp)
		return
	}
	m := s.index.methods[s.request.Method]
	switch {
	case m == nil:
	case path == "*":
		s.arrive(m.asterisk)
	default:
		s.walk(&m.paths, path[1:])
	}
}

// walk goes on from n with what follows a slash of the path. A path longer than
// the templates ends the walk where they end.
func (s *search) walk(n *pathNode, path string) {
	s.trace.visit()
	s.arrive(n.rest)
	segment, after, more := strings.Cut(path, "/")
	if child := n.literals[segment]; child != nil {
		s.step(child, after, more)
	}
	for i := range n.params {
		if n.params[i].kind.Match(segment) {
			s.step(n.params[i].to, after, more)
		}
	}
}

func (s *search) step(n *pathNode, after string, more bool) {
	if more {
		s.walk(n, after)
	} else {
		s.arrive(n.end)
	}
}

// arrive tries the routes that end at t and name the caller.
func (s *search) arrive(t *terminal) {
	if t == nil {
		return
	}
	s.declared = min(s.declared, t.first)
	for key := s.caller; key != ""; key = t.callers.wider(key) {
		for _, at := range t.callers.lists[key] {
			if at >= s.allowed {
				break // an earlier one allows already
			}
			s.try(at)
		}
	}
}

func (s *search) try(at uint32) {
	rule := s.index.routes[at].rule
	reason := rule.conditions.judge(s.now, s.request)
	s.trace.tried(s.index.routes[at], s.request, reason)
	switch {
	case reason == Allowed && rule.Shadow:
		s.shadow = min(s.shadow, at)
	case reason == Allowed:
		s.allowed = at
	case !rule.Shadow && at < s.nearest:
		s.nearest, s.why = at, reason
	}
}

// decision is what was found, of a request whose canonical path is path.
func (s *search) decision(path string) Decision {
	d := Decision{Path: path}
	decides := s.declared
	switch {
	case s.allowed != none:
		d.Verdict, d.Reason, decides = Allow, Allowed, s.allowed
	case s.nearest != none:
		d.Reason, decides = s.why, s.nearest
	case s.declared != none:
		d.Reason = CallerUndeclared
	default:
		d.Reason = RouteUndeclared
	}
	if decides != none {
		d.Route = s.index.routes[decides].to.template()
	}
	if s.allowed != none || s.nearest != none {
		d.Grant = s.index.routes[decides].rule
	}
	if s.shadow < s.allowed {
		d.Shadow = s.index.routes[s.shadow].rule
	}
	s.trace.found(d, s)
	return d
}
