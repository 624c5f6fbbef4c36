package policy

import "github.com/everyhop/everyhop/policy/match"

// covering is a grant of the index, nil if there is none, that together with
// others before it decides whatever rule could: each of its callers on each of
// its routes is allowed by one that asks for no more.
func (x *index) covering(rule *Rule) *Rule {
	var cover *Rule
	for i := range rule.to {
		for _, caller := range rule.from {
			c := coverSearch{index: x, rule: rule, caller: caller.Pattern.Key()}
			c.find(&rule.to[i])
			if c.cover == nil {
				return nil
			}
			cover = c.cover
		}
	}
	return cover
}

// coverSearch walks an index with a template instead of a path.
type coverSearch struct {
	index  *index
	rule   *Rule
	caller string
	cover  *Rule
}

func (c *coverSearch) find(to *Route) {
	if to.TCP {
		c.arrive(c.index.tcp)
		return
	}
	m := c.index.methods[to.Method]
	switch {
	case m == nil:
	case to.Path.Asterisk():
		c.arrive(m.asterisk)
	default:
		c.walk(&m.paths, to.Path, to.Path.Segments())
	}
}

func (c *coverSearch) walk(n *pathNode, to match.Path, segments []match.Segment) {
	if len(segments) == 0 {
		if to.Rest() {
			c.arrive(n.rest)
		} else {
			c.arrive(n.end)
		}
		return
	}
	c.arrive(n.rest)
	s := segments[0]
	if s.Param == "" {
		if child := n.literals[s.Literal]; child != nil {
			c.walk(child, to, segments[1:])
		}
	}
	for _, p := range n.params {
		if s.Param != "" && p.kind.Covers(s.Type) || s.Param == "" && p.kind.Match(s.Literal) {
			c.walk(p.to, to, segments[1:])
		}
	}
}

func (c *coverSearch) arrive(t *terminal) {
	if t == nil || c.cover != nil {
		return
	}
	for key := c.caller; key != ""; key = t.callers.wider(key) {
		for _, at := range t.callers.lists[key] {
			earlier := c.index.routes[at].rule
			if !earlier.Shadow && earlier.conditions.covers(&c.rule.conditions, c.rule.to) {
				c.cover = earlier
				return
			}
		}
	}
}
