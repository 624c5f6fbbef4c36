package policy

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Trace collects what the evaluator did, for a person. A nil Trace costs
// nothing. Its steps are in the order of the file, up to what decided.
type Trace struct {
	Steps   []Step
	Visited int // places of the index that were looked at
}

// Step is one thing the evaluator found.
type Step struct {
	Grant *Rule // nil: of no grant in particular
	Held  bool
	What  string
}

func (t *Trace) visit() {
	if t != nil {
		t.Visited++
	}
}

func (t *Trace) length() int {
	if t == nil {
		return 0
	}
	return len(t.Steps)
}

// deny is a denial that no grant had a part in.
func (t *Trace) deny(reason Reason, about string) Decision {
	if t != nil {
		what := reason.Explain()
		if about != "" {
			what += ": " + strconv.QuoteToASCII(about)
		}
		t.Steps = append(t.Steps, Step{What: what})
	}
	return Decision{Reason: reason}
}

// tried is one grant whose route and caller matched, and what its conditions
// made of the request.
func (t *Trace) tried(at indexedRoute, r *Request, why Reason) {
	if t == nil {
		return
	}
	rule := at.rule
	t.hold(rule, "to: "+at.to.String())
	if len(rule.from) > 0 {
		t.hold(rule, "from: names "+r.Caller.String())
	}
	for _, condition := range rule.conditions.stated(r) {
		if condition.stage < stage(why) {
			t.hold(rule, condition.what)
		}
	}
	if why != Allowed {
		t.Steps = append(t.Steps, Step{Grant: rule, What: rule.conditions.lacks(why, r)})
	} else if rule.Shadow {
		t.hold(rule, "shadow: it would allow, but grants nothing")
	}
}

func (t *Trace) hold(rule *Rule, what string) {
	t.Steps = append(t.Steps, Step{Grant: rule, Held: true, What: what})
}

// found puts the steps of the grants in the order of the file, leaves out those
// that come after the one that decided, and says where there was none.
func (t *Trace) found(d Decision, s *search) {
	if t == nil {
		return
	}
	own := t.Steps[s.before:]
	slices.SortStableFunc(own, func(a, b Step) int { return a.Grant.Index - b.Grant.Index })
	if d.Verdict == Allow {
		own = slices.DeleteFunc(own, func(step Step) bool { return step.Grant.Index > d.Grant.Index })
		t.Steps = t.Steps[:s.before+len(own)]
	}
	switch d.Reason {
	case RouteUndeclared:
		t.Steps = append(t.Steps, Step{What: "to: nothing names " + s.request.asks(d.Path)})
	case CallerUndeclared:
		t.Steps = append(t.Steps, Step{What: "from: no grant on " + s.request.asks(d.Route) + " names " + s.caller})
	}
}

// asks is what is asked for, as a route is written.
func (r *Request) asks(path string) string {
	if r.TCP {
		return tcpRoute
	}
	return r.Method + " " + path
}

// stage is the place in conditions.judge of the condition that why speaks of.
func stage(why Reason) int {
	switch why {
	case GrantEnded:
		return 1
	case OutsideWindow:
		return 2
	case SourceUndeclared:
		return 3
	case HostUndeclared:
		return 4
	case QueryMalformed, QueryUndeclared, QueryRepeated:
		return 5
	case UpgradeUndeclared, OriginUndeclared:
		return 6
	case BodyUndeclared, BodyType:
		return 7
	}
	return 8
}

// stated is a condition that the grant or the request brings up, and what to
// say of it where it holds.
type stated struct {
	stage int
	what  string
}

func (c *conditions) stated(r *Request) (all []stated) {
	if !c.until.IsZero() {
		all = append(all, stated{stage(GrantEnded), "until: " + instant(c.until) + " has not come"})
	}
	if c.when.zone != nil {
		all = append(all, stated{stage(OutsideWindow), "when: it is open now, " + c.when.says()})
	}
	if len(c.when.from) > 0 {
		all = append(all, stated{stage(SourceUndeclared), "when: cidr: names " + r.Source.String()})
	}
	if len(c.hosts) > 0 {
		all = append(all, stated{stage(HostUndeclared), "host: names " + r.Host})
	}
	if r.Query != "" && !c.ofCalls {
		all = append(all, stated{stage(QueryUndeclared), "query: declares every parameter"})
	}
	if r.Upgrade != "" && c.upgrade != "" {
		all = append(all, stated{stage(UpgradeUndeclared), "upgrade: opens " + c.upgrade})
	}
	if r.Body && !c.ofCalls {
		all = append(all, stated{stage(BodyUndeclared), "body: may be there"})
	}
	return all
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// lacks says, for a person, which condition failed and what it asks for.
func (c *conditions) lacks(why Reason, r *Request) string {
	_, culprit := c.judgeQuery(r.Query)
	switch why {
	case GrantEnded:
		return "until: the grant ended at " + instant(c.until)
	case OutsideWindow:
		return "when: it is open " + c.when.says() + ", not now"
	case SourceUndeclared:
		return "when: cidr: does not name " + source(r) + "; it names " + some(c.when.networks())
	case HostUndeclared:
		return "host: does not name " + strconv.Quote(r.Host) + "; it names " + some(c.hosts)
	case QueryUndeclared:
		return "query: does not declare " + strconv.Quote(culprit) + c.declared()
	case QueryRepeated:
		return "query: " + strconv.Quote(culprit) + " is given more than once"
	case BodyType:
		return "body: does not name the type " + strconv.Quote(r.ContentType) + "; it names " + some(c.types)
	case BodyUndeclared:
		return "body: is not declared, and " + r.Method + " carries one only where it is"
	}
	return why.Explain()
}

func source(r *Request) string {
	if !r.Source.IsValid() {
		return "an unknown address"
	}
	return r.Source.String()
}

func (c *conditions) declared() string {
	var names []string
	for name := range c.query {
		names = append(names, name)
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "; it declares " + some(names)
}

// some is a list as a person reads it, cut where it would fill the screen.
func some(list []string) string {
	const most = 5
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return strings.Join(list[:most], ", ") + " and " + strconv.Itoa(len(list)-most) + " more"
}
