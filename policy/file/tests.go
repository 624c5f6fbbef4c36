package file

import (
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

var testTable = table[policy.Test]{
	is:       "a test",
	required: []string{"as", "do", "expect"},
	fields: []field[policy.Test]{
		{"as", func(r *reader, n *yaml.Node, t *policy.Test) { t.As = r.workload(n) }},
		{"user", func(r *reader, n *yaml.Node, t *policy.Test) { t.User = r.claims(n) }},
		{"at", func(r *reader, n *yaml.Node, t *policy.Test) { t.At, _ = r.instant(n) }},
		{"from_ip", func(r *reader, n *yaml.Node, t *policy.Test) { t.FromIP = r.ip(n) }},
		{"do", func(r *reader, n *yaml.Node, t *policy.Test) { r.request(n, t) }},
		{"expect", func(r *reader, n *yaml.Node, t *policy.Test) { t.Expect = r.outcome(n) }},
	},
}

func readTest(r *reader, n *yaml.Node) (policy.Test, bool) {
	t := policy.Test{Pos: r.pos(n)}
	return t, testTable.read(r, n, &t)
}

// claims is the user of a test: claims of a token, each one value or a list.
func (r *reader) claims(n *yaml.Node) map[string]any {
	claims := map[string]any{}
	entries(r, n, "claims", func(r *reader, key, value *yaml.Node) (struct{}, bool) {
		if value.Kind == yaml.SequenceNode {
			claims[key.Value] = list(r, value, func(r *reader, n *yaml.Node) (any, bool) { return r.value(n) })
		} else if one, ok := r.value(value); ok {
			claims[key.Value] = one
		}
		return struct{}{}, false
	})
	return claims
}

// ip is the address of one machine, as a connection would have it.
func (r *reader) ip(n *yaml.Node) netip.Addr {
	text, ok := r.raw(n)
	if !ok {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		r.refuseValue(n, show(text)+" is not an IP address", "write one, as in 10.0.0.7 or fd00::7")
	}
	return address
}

// request is a method and a target, or tcp. The target may be anything that a
// client can send: that a bad one is refused is a thing to test.
func (r *reader) request(n *yaml.Node, t *policy.Test) {
	text, ok := r.raw(n)
	if !ok {
		return
	}
	if text == "tcp" {
		t.TCP = true
		return
	}
	method, target, both := strings.Cut(text, " ")
	switch {
	case !both || target == "":
		r.refuseValue(n, show(text)+" is not a request", "write a method and a target, as in GET /orders/7?expand=items, or tcp")
	case match.ParseMethod(method) != nil:
		r.refuseError(n, match.ParseMethod(method))
	case target[0] != '/' && target != "*":
		r.refuseValue(n, "target "+show(target)+" does not begin with a slash", "write it as in GET /orders/7")
	}
	t.Method, t.Target = method, target
}

func (r *reader) outcome(n *yaml.Node) policy.Reason {
	text, ok := r.raw(n)
	if !ok {
		return policy.NoPolicy
	}
	reason, known := policy.ParseReason(text)
	if !known {
		names := []string{"allow"}
		for _, reason := range policy.Reasons() {
			names = append(names, reason.String())
		}
		hint := nearest(text, names)
		if !strings.HasPrefix(hint, "did you mean") {
			hint = "write allow, or the reason of the denial, as in route_undeclared or caller_undeclared"
		}
		r.refuseValue(n, show(text)+" is neither allow nor a reason", hint)
	}
	return reason
}

var neverTable = table[policy.Never]{
	is:       "a statement",
	required: []string{"to"},
	fields: []field[policy.Never]{
		{"from", func(r *reader, n *yaml.Node, s *policy.Never) {
			if c, ok := readCaller(r, n); ok {
				s.From = &c.Pattern
			}
		}},
		{"to", func(r *reader, n *yaml.Node, s *policy.Never) { s.To, _ = readRoute(r, n) }},
	},
}

func readNever(r *reader, n *yaml.Node) (policy.Never, bool) {
	s := policy.Never{Pos: r.pos(n)}
	return s, neverTable.read(r, n, &s)
}
