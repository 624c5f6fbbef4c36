package policy

import (
	"math"
	"strings"

	"github.com/everyhop/everyhop/policy/match"
)

// index finds the routes that a request could match without looking at the
// others: by method, then segment by segment, then by caller. Routes are known
// by their place in the file, so that the first one to allow is the least.
type index struct {
	methods map[string]*methodIndex
	tcp     *terminal      // bytes
	routes  []indexedRoute // in file order
}

type indexedRoute struct {
	rule *Rule
	to   *Route
}

type methodIndex struct {
	paths    pathNode
	asterisk *terminal // OPTIONS *
}

// pathNode is what may follow a slash.
type pathNode struct {
	literals map[string]*pathNode
	params   []paramEdge // one for each type, whatever the parameter's name
	end      *terminal   // the path may end before this slash
	rest     *terminal   // **
}

type paramEdge struct {
	kind match.Type
	to   *pathNode
}

// terminal is the end of one template: who may come there, by which routes.
type terminal struct {
	first   uint32 // the first route that is no shadow; none where all are
	callers callers
}

// none is no place in the file: it comes after all others.
const none = math.MaxUint32

// localApp stands for the caller in the index of a call: only the local app
// can reach it. No SPIFFE ID is written so.
const localApp = "app"

// callers files routes under SPIFFE IDs and prefixes of them. The zero value
// names nobody.
type callers struct {
	lists   map[string][]uint32 // by match.Caller's Key; each in file order
	longest int                 // of the prefixes; 0 where there is none
}

func (c *callers) add(key string, route uint32) {
	if c.lists == nil {
		c.lists = make(map[string][]uint32, 1)
	}
	c.lists[key] = append(c.lists[key], route)
	if strings.HasSuffix(key, "/") {
		c.longest = max(c.longest, len(key))
	}
}

// names reports whether id or a prefix of it was added.
func (c *callers) names(id string) bool {
	for key := id; key != ""; key = c.wider(key) {
		if len(c.lists[key]) > 0 {
			return true
		}
	}
	return false
}

// wider is the longest prefix that is shorter than key and may be filed: of
// spiffe://td/a/b that is spiffe://td/a/, then spiffe://td/, then nothing.
func (c *callers) wider(key string) string {
	if c.longest == 0 {
		return ""
	}
	key = key[:min(len(key)-1, c.longest)]
	cut := strings.LastIndexByte(key, '/') + 1
	if cut <= len("spiffe://") {
		return ""
	}
	return key[:cut]
}

func newIndex() *index { return &index{methods: make(map[string]*methodIndex)} }

// add files one route of rule, later in the file than all before it, under
// the keys of those who may take it.
func (x *index) add(rule *Rule, to *Route, keys []string) {
	at := uint32(len(x.routes))
	x.routes = append(x.routes, indexedRoute{rule, to})
	t := x.terminalOf(to)
	if !rule.Shadow {
		t.first = min(t.first, at)
	}
	for _, key := range keys {
		t.callers.add(key, at)
	}
}

func (x *index) terminalOf(to *Route) *terminal {
	if to.TCP {
		return orNew(&x.tcp)
	}
	m := x.methods[to.Method]
	if m == nil {
		m = &methodIndex{}
		x.methods[to.Method] = m
	}
	if to.Path.Asterisk() {
		return orNew(&m.asterisk)
	}
	n := &m.paths
	for _, s := range to.Path.Segments() {
		n = n.child(s)
	}
	if to.Path.Rest() {
		return orNew(&n.rest)
	}
	return orNew(&n.end)
}

func orNew(t **terminal) *terminal {
	if *t == nil {
		*t = &terminal{first: none}
	}
	return *t
}

func (n *pathNode) child(s match.Segment) *pathNode {
	if s.Param != "" {
		for _, p := range n.params {
			if p.kind.Same(s.Type) {
				return p.to
			}
		}
		p := paramEdge{s.Type, &pathNode{}}
		n.params = append(n.params, p)
		return p.to
	}
	c := n.literals[s.Literal]
	if c == nil {
		if n.literals == nil {
			n.literals = make(map[string]*pathNode, 1)
		}
		c = &pathNode{}
		n.literals[s.Literal] = c
	}
	return c
}
