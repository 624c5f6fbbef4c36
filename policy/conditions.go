package policy

import (
	"slices"
	"time"

	"github.com/everyhop/everyhop/policy/match"
)

// conditions is what a grant asks of a request besides its route and caller.
// The zero value asks that there be neither query nor upgrade, nor a body where
// the method commonly has none.
type conditions struct {
	until   time.Time // zero: no end
	when    window
	hosts   []string         // empty: any
	query   map[string]param // by decoded name
	upgrade string           // the one protocol that may be switched to; empty: none
	origins bool             // whose page asks for the switch is the app's to judge
	types   []string         // of a body; empty: any
	body    bool             // a body whatever the method
	ofCalls bool             // the hop of whom we call judges query, origin and body
}

// param is one declared query parameter.
type param struct {
	bit      uint8 // its place in a set of those seen
	repeated bool
}

// judge is Allowed, or the reason of the first condition that does not hold.
func (c *conditions) judge(now time.Time, r *Request) Reason {
	if !c.until.IsZero() && !now.Before(c.until) {
		return GrantEnded
	}
	if !c.when.openAt(now) {
		return OutsideWindow
	}
	if !c.when.names(r.Source) {
		return SourceUndeclared
	}
	if len(c.hosts) > 0 && !slices.Contains(c.hosts, r.Host) {
		return HostUndeclared
	}
	if reason, _ := c.judgeQuery(r.Query); reason != Allowed {
		return reason
	}
	if reason := c.judgeUpgrade(r); reason != Allowed {
		return reason
	}
	return c.judgeBody(r)
}

// judgeUpgrade refuses a switch that the grant does not open. One that a browser
// asks for on behalf of some page (RFC 6455 section 10.2) is opened only where the
// grant passes origin on: the browser sends its user's cookies, whoever wrote the
// page, and nothing else would tell.
func (c *conditions) judgeUpgrade(r *Request) Reason {
	switch {
	case r.Upgrade == "":
		return Allowed
	case r.Upgrade != c.upgrade:
		return UpgradeUndeclared
	case r.Origin != "" && !c.origins && !c.ofCalls:
		return OriginUndeclared
	}
	return Allowed
}

// judgeQuery is also the name as written of the first parameter at fault. A
// query that is malformed anywhere is malformed, whatever else it is.
func (c *conditions) judgeQuery(raw string) (reason Reason, culprit string) {
	reason = Allowed
	var buf [match.MaxParamName]byte
	var seen [match.MaxParams / 64]uint64
	query := match.NewQuery(raw)
	for name, ok := query.Next(); ok; name, ok = query.Next() {
		if reason != Allowed || c.ofCalls {
			continue
		}
		decoded, fits := match.Name(name, &buf)
		p, declared := c.query[string(decoded)]
		word, bit := p.bit/64, uint64(1)<<(p.bit%64)
		switch {
		case !fits || !declared:
			reason, culprit = QueryUndeclared, name
		case seen[word]&bit != 0 && !p.repeated:
			reason, culprit = QueryRepeated, name
		}
		seen[word] |= bit
	}
	if query.Malformed() {
		return QueryMalformed, ""
	}
	return reason, culprit
}

func (c *conditions) judgeBody(r *Request) Reason {
	switch {
	case !r.Body || c.ofCalls:
		return Allowed
	case !c.body && bodiless(r.Method):
		return BodyUndeclared
	case len(c.types) == 0:
		return Allowed
	}
	for _, t := range c.types {
		if match.MediaTypeIs(r.ContentType, t) {
			return Allowed
		}
	}
	return BodyType
}

// bodiless methods are those in which RFC 9110 section 9.3 gives a body no
// meaning, so that some servers read it and others do not.
func bodiless(method string) bool {
	switch method {
	case "GET", "HEAD", "DELETE", "OPTIONS":
		return true
	}
	return false
}

// covers reports whether whatever passes d also passes c, on the given routes.
func (c *conditions) covers(d *conditions, routes []Route) bool {
	if !c.until.IsZero() && (d.until.IsZero() || d.until.After(c.until)) {
		return false
	}
	return c.when.covers(&d.when) && subset(c.hosts, d.hosts) && c.coversQuery(d) && c.coversUpgrade(d) && c.coversBody(d, routes)
}

func (c *conditions) coversUpgrade(d *conditions) bool {
	return d.upgrade == "" || d.upgrade == c.upgrade && (c.origins || !d.origins)
}

func (c *conditions) coversQuery(d *conditions) bool {
	for name, p := range d.query {
		if own, ok := c.query[name]; !ok || p.repeated && !own.repeated {
			return false
		}
	}
	return true
}

func (c *conditions) coversBody(d *conditions, routes []Route) bool {
	restricted := func(r Route) bool { return bodiless(r.Method) }
	if d.body && !c.body && slices.ContainsFunc(routes, restricted) {
		return false
	}
	return subset(c.types, d.types)
}

// subset reports whether all that inner lets pass is let pass by outer, where
// an empty list lets everything pass.
func subset(outer, inner []string) bool {
	if len(outer) == 0 {
		return true
	}
	if len(inner) == 0 {
		return false
	}
	for _, text := range inner {
		if !slices.Contains(outer, text) {
			return false
		}
	}
	return true
}
