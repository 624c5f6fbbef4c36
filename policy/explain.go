package policy

import (
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Explanation is a decision as a person can follow it. Its texts are one line
// each.
type Explanation struct {
	Decision Decision
	Steps    []Step
	// Nearest is, for a denial, the grant that came nearest to allowing it, and
	// Missing everything that it asked for in vain. Nil where no grant could
	// have made a difference, or there is none.
	Nearest *Rule
	Route   string // of Nearest: the route that came nearest
	Missing []string
}

// Explain decides as [Snapshot.Decide] does and says why.
func Explain(s *Snapshot, now time.Time, r *Request) Explanation {
	var trace Trace
	e := Explanation{Decision: s.Decide(now, r, &trace)}
	e.Steps = trace.Steps
	// Without a canonical path no grant was asked.
	if e.Decision.Verdict == Allow || e.Decision.Path == "" && !r.TCP {
		return e
	}
	best := -1
	for _, rule := range s.Grants {
		if rule.Shadow {
			continue
		}
		for i := range rule.to {
			far := distance(rule, &rule.to[i], e.Decision.Path, now, r)
			if best < 0 || far < best {
				best, e.Nearest, e.Route = far, rule, rule.to[i].String()
				e.Missing = missing(rule, &rule.to[i], e.Decision.Path, now, r)
			}
		}
	}
	return e
}

// otherKind is farther than any path from any other.
const otherKind = 1 << 20

// distance is how far a request is from one route of a grant. A caller with a
// wrong path is farther than a path with a wrong caller: who asks for an
// explanation knows what they wanted, and wonders why they may not.
func distance(rule *Rule, to *Route, path string, now time.Time, r *Request) int {
	far := 0
	switch {
	case to.TCP != r.TCP:
		far = otherKind
	case r.TCP:
		far = len(rule.conditions.missing(now, *r))
	default:
		far = 4*pathDistance(to.Path, path) + len(rule.conditions.missing(now, *r))
	}
	if to.Method != r.Method {
		far += 3
	}
	if !rule.callerNamed(r.Caller) {
		far += 2
	}
	return far
}

func (g *Rule) callerNamed(id spiffeid.ID) bool {
	for _, caller := range g.from {
		if caller.Pattern.Match(id) {
			return true
		}
	}
	return false
}

// missing is everything that the route and its grant asked for in vain.
func missing(rule *Rule, to *Route, path string, now time.Time, r *Request) []string {
	var list []string
	switch {
	case to.TCP != r.TCP:
		list = append(list, "to: names "+to.String()+", not "+r.asks(path))
	case r.TCP:
	case pathDistance(to.Path, path) > 0:
		list = append(list, "to: "+to.String()+" does not match "+r.asks(path))
	case to.Method != r.Method:
		list = append(list, "to: names "+to.String()+", not "+r.Method)
	}
	if !rule.callerNamed(r.Caller) {
		names := make([]string, len(rule.from))
		for i, caller := range rule.from {
			names[i] = caller.Pattern.String()
		}
		list = append(list, "from: does not name "+r.Caller.String()+"; it names "+some(names))
	}
	if to.TCP != r.TCP { // the conditions are of the other kind, too
		return list
	}
	return append(list, rule.conditions.missing(now, *r)...)
}

// missing asks judge again and again, each time without what was at fault.
func (c *conditions) missing(now time.Time, r Request) (list []string) {
	own := *c // without until: and when: as they turn out to fail
	c = &own
	for {
		why := c.judge(now, &r)
		if why == Allowed {
			return list
		}
		list = append(list, c.lacks(why, &r))
		switch why {
		case GrantEnded:
			own.until = time.Time{}
		case OutsideWindow:
			own.when.zone = nil
		case SourceUndeclared:
			own.when.from = nil
		case HostUndeclared:
			r.Host = c.hosts[0]
		case QueryMalformed:
			r.Query = ""
		case QueryUndeclared, QueryRepeated:
			_, culprit := c.judgeQuery(r.Query)
			r.Query = without(r.Query, culprit)
		case UpgradeUndeclared:
			r.Upgrade = ""
		case OriginUndeclared:
			r.Origin = ""
		default:
			r.Body = false
		}
	}
}

// without is the query without any parameter of that name as written.
func without(query, name string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if own, _, _ := strings.Cut(pair, "="); own != name {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}
