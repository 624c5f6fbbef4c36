package file

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

var grantTable = table[policy.Grant]{
	is:       "a grant",
	required: []string{"from", "to"},
	fields: []field[policy.Grant]{
		{"name", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Name = r.label(n) }},
		{"from", func(r *reader, n *yaml.Node, g *policy.Grant) { g.From = list(r, n, readCaller) }},
		{"to", func(r *reader, n *yaml.Node, g *policy.Grant) { g.To = list(r, n, readGrantRoute) }},
		{"user", func(r *reader, n *yaml.Node, g *policy.Grant) { g.User = r.user(n) }},
		{"where", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Where = r.expression(n) }},
		{"host", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Host = list(r, n, readHost) }},
		{"query", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Query = r.inputs(n, readParameterName) }},
		{"headers", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Headers = r.inputs(n, readHeaderName) }},
		{"strict", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Strict = r.boolean(n) }},
		{"cookies", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Cookies = r.cookies(n) }},
		{"body", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Body = r.body(n) }},
		{"cors", func(r *reader, n *yaml.Node, g *policy.Grant) { g.CORS = r.cors(n) }},
		{"limit", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Limit = r.grantLimit(n) }},
		{"when", func(r *reader, n *yaml.Node, g *policy.Grant) { g.When = r.when(n) }},
		{"until", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Until = r.until(n) }},
		{"because", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Because = r.label(n) }},
		{"timeout", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Timeout = r.duration(n, anHour) }},
		{"shadow", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Shadow = r.boolean(n) }},
		{"upgrade", func(r *reader, n *yaml.Node, g *policy.Grant) { g.Upgrade = r.upgrade(n) }},
	},
}

func readGrant(r *reader, n *yaml.Node) (policy.Grant, bool) {
	g := policy.Grant{Pos: r.pos(n)}
	ok := grantTable.read(r, n, &g)
	if ok {
		r.bytesOnly(n, g)
	}
	return g, ok
}

// onlyBytes are the keys of a grant that say something of bytes, too. All others
// speak of HTTP, which a grant of a tcp:// app does not see.
const onlyBytes = " name from to limit when until because shadow "

// bytesOnly refuses what a grant of tcp cannot hold to: ignored, it would let
// more pass than it says.
func (r *reader) bytesOnly(n *yaml.Node, g policy.Grant) {
	for _, route := range g.To {
		if !route.TCP {
			continue
		}
		if len(g.To) > 1 {
			r.report(route.Pos, "to: tcp stands beside another route", "an app is spoken to in one way: a grant of tcp has no other route")
		}
		for i := 0; i < len(n.Content); i += 2 {
			if key := n.Content[i]; !strings.Contains(onlyBytes, " "+key.Value+" ") {
				r.refuse(key, key.Value+": speaks of HTTP, and this grant is of tcp", "remove it: of tcp only bytes are seen")
			}
		}
		return
	}
}

// nameGrants gives every grant without a name that of its first route. Where
// another has that name, a number tells them apart.
func nameGrants(grants []policy.Grant) {
	taken := map[string]bool{}
	for _, g := range grants {
		taken[g.Name] = true
	}
	for i := range grants {
		g := &grants[i]
		if g.Name != "" || len(g.To) == 0 {
			continue
		}
		base := g.To[0].String()
		g.Name = base
		for n := 2; taken[g.Name]; n++ {
			g.Name = fmt.Sprintf("%s #%d", base, n)
		}
		taken[g.Name] = true
	}
}

func readGrantRoute(r *reader, n *yaml.Node) (policy.Route, bool) {
	if n.Kind == yaml.ScalarNode && n.Value == "tcp" {
		return policy.Route{Pos: r.pos(n), TCP: true}, true
	}
	return readRoute(r, n)
}

// readRoute is a method and a path template.
func readRoute(r *reader, n *yaml.Node) (policy.Route, bool) {
	text, ok := r.raw(n)
	if !ok {
		return policy.Route{}, false
	}
	method, path, both := strings.Cut(text, " ")
	switch {
	case text == "tcp":
		r.refuseValue(n, "tcp is not a route here", "say tcp: true beside at:, and remove allow:")
		return policy.Route{}, false
	case method == "*":
		r.refuseValue(n, "the method is *, and there is no wildcard for methods", "list each route, as in [GET /orders, POST /orders]")
		return policy.Route{}, false
	case !both && strings.HasPrefix(text, "/"):
		r.refuseValue(n, show(text)+" has no method", "write one before the path, as in GET "+short(text))
		return policy.Route{}, false
	case !both:
		r.refuseValue(n, show(text)+" has no path", "write a method and a path, as in GET /orders/{id}")
		return policy.Route{}, false
	}
	if err := match.ParseMethod(method); err != nil {
		r.refuseError(n, err)
		return policy.Route{}, false
	}
	template, err := match.ParsePath(strings.TrimLeft(path, " "), r.types)
	if err != nil {
		r.refuseError(n, err)
		return policy.Route{}, false
	}
	return policy.Route{Pos: r.pos(n), Method: method, Path: template}, true
}

// maxLabel is the longest name or reason, in bytes: it is in every record.
const maxLabel = 128

// label is a text for people, as a metric label or in a record.
func (r *reader) label(n *yaml.Node) string {
	text, ok := r.text(n)
	if ok && len(text) > maxLabel {
		r.refuseValue(n, fmt.Sprintf("the text has %d bytes, which is more than %d", len(text), maxLabel), "use a shorter one")
	}
	if ok && strings.TrimSpace(text) != text {
		r.refuseValue(n, show(text)+" begins or ends with a space", "remove it")
	}
	return text
}

func (r *reader) upgrade(n *yaml.Node) *policy.Text {
	text, ok := enum("websocket")(r, n)
	if !ok {
		return nil
	}
	return &policy.Text{Pos: r.pos(n), Text: text}
}
