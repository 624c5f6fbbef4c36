package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/everyhop/everyhop/policy/match"
)

// Compile makes a snapshot of spec. prev is the one it follows, nil for the
// first: what lives longer than a snapshot is carried over from it. The error is
// of type [Problems] and holds everything that is wrong, in the file's order:
// names that point nowhere or are taken, grants that could never decide, and
// whatever has no meaning yet. The snapshot keeps parts of spec, which must not
// change any more.
func Compile(spec *Spec, prev *Snapshot) (*Snapshot, error) {
	if spec == nil {
		return nil, Problems{{What: "there is no policy to compile"}}
	}
	c := compiler{spec: spec, index: newIndex()}
	c.checkService()
	c.refuseLater()
	grants := c.compileGrants()
	calls := c.compileCalls()
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, inFileOrder)
		return nil, c.problems
	}
	// Nothing after this line may fail.
	s := &Snapshot{
		Service: spec.Service, App: spec.App, TLS: spec.TLS, Timeouts: spec.Timeouts,
		File: spec.File, Digest: spec.Digest, Generation: 1,
		Grants: grants, Calls: calls, Tests: spec.Tests,
		index: c.index, calls: make(map[string]*CallRule, len(calls)),
		domains: trustDomains(spec),
	}
	if prev != nil {
		s.Generation = prev.Generation + 1
	}
	for _, b := range spec.Ban {
		s.ban.add(b.ID.Key(), 0)
	}
	for _, g := range grants {
		if g.Shadow {
			continue
		}
		for _, key := range keys(g.from) {
			s.from.add(key, uint32(g.Index))
		}
	}
	for _, call := range calls {
		s.calls[call.Name] = call
		call.banned = s.Bans(call.As)
	}
	return s, nil
}

// compiler collects what is wrong while it compiles.
type compiler struct {
	spec     *Spec
	index    *index
	problems Problems
}

func (c *compiler) problem(at Pos, what, hint string) {
	c.problems = append(c.problems, Problem{Pos: at, What: what, Hint: hint})
}

func inFileOrder(a, b Problem) int {
	return cmp.Or(
		strings.Compare(a.Pos.File, b.Pos.File),
		cmp.Compare(a.Pos.Line, b.Pos.Line),
		cmp.Compare(a.Pos.Col, b.Pos.Col),
	)
}

// top is where to report what is missing from the file as a whole.
func (c *compiler) top() Pos { return Pos{File: c.spec.File, Line: 1, Col: 1} }

func (c *compiler) checkService() {
	s := c.spec
	if s.Service.IsZero() {
		c.problem(c.top(), "service: is missing", "write the SPIFFE ID that this sidecar must have")
	}
	switch {
	case s.App != nil && len(s.Allow) == 0:
		c.problem(s.App.Pos, "app: is there, but nothing is allowed to reach it", "add a grant under allow:, or remove app:")
	case s.App == nil && len(s.Allow) > 0:
		c.problem(s.Allow[0].Pos, "allow: is there, but no app: to forward to", "add app: http://127.0.0.1:PORT")
	case s.App == nil && len(s.Calls) == 0:
		c.problem(c.top(), "the policy opens nothing", "add app: and allow: to be called, or calls: to call")
	}
	if s.App == nil && len(s.Tests) > 0 {
		c.problem(s.Tests[0].Pos, "tests: asks what nobody can reach: there is no app:", "remove tests:, or add app: and allow:")
	}
	for _, b := range s.Ban {
		if b.ID.Key() == "" {
			c.problem(b.Pos, "ban: names nobody", "write a SPIFFE ID")
		}
	}
	types := unique{}
	for _, t := range s.Types {
		c.first(types, t.Name, t.Pos, "type "+t.Name)
	}
	issuers := unique{}
	for _, u := range s.Users {
		c.first(issuers, u.Name, u.Pos, "issuer "+u.Name)
	}
}

// unique is what was named so far, and where.
type unique map[string]Pos

// first is false, and a problem, where key was named before.
func (c *compiler) first(seen unique, key string, at Pos, what string) bool {
	if before, ok := seen[key]; ok {
		c.problem(at, what+" is there twice", "it is at "+before.String()+" already; remove or rename one")
		return false
	}
	seen[key] = at
	return true
}

// checkRoute is what holds for the routes of grants and of calls alike.
func (c *compiler) checkRoute(r Route) {
	switch {
	case r.TCP:
	case r.Method == "CONNECT" || r.Method == "TRACE":
		c.problem(r.Pos, r.Method+" is never forwarded", "remove this route")
	case !match.Method(r.Method):
		c.problem(r.Pos, "the route has no method", "write it before the path, as in GET /orders")
	case r.Path.IsZero():
		c.problem(r.Pos, "the route has no path", "write it after the method, as in GET /orders")
	case r.Path.Asterisk() && r.Method != "OPTIONS":
		c.problem(r.Pos, "* is a target of OPTIONS only", "write "+r.Method+" /** for every path")
	}
}

// shape is a route with the parameters' names left out: two routes of one shape
// match the same requests.
func shape(r Route) string {
	var b strings.Builder
	b.WriteString(r.Method + " ")
	if r.TCP || r.Path.Asterisk() {
		return b.String() + r.String()
	}
	for _, s := range r.Path.Segments() {
		b.WriteString("/" + s.Literal)
		if s.Param != "" {
			b.WriteString("{" + s.Type.String() + "}")
		}
	}
	if r.Path.Rest() {
		b.WriteString("/**")
	}
	return b.String()
}
