package file

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
)

var callTable = table[policy.Call]{
	is:       "a call",
	required: []string{"at"},
	fields: []field[policy.Call]{
		{"as", func(r *reader, n *yaml.Node, c *policy.Call) { c.As = r.workload(n) }},
		{"at", func(r *reader, n *yaml.Node, c *policy.Call) { c.At = list(r, n, readEndpoint) }},
		{"local", func(r *reader, n *yaml.Node, c *policy.Call) { c.Local = r.local(n) }},
		{"allow", func(r *reader, n *yaml.Node, c *policy.Call) { c.Allow = list(r, n, readRoute) }},
		{"limit", func(r *reader, n *yaml.Node, c *policy.Call) { c.Limit = r.callLimit(n) }},
		{"timeout", func(r *reader, n *yaml.Node, c *policy.Call) { c.Timeout = r.duration(n, anHour) }},
		{"retry", func(r *reader, n *yaml.Node, c *policy.Call) { c.Retry = r.retry(n) }},
		{"tcp", func(r *reader, n *yaml.Node, c *policy.Call) { c.TCP = r.boolean(n) }},
		{"upgrade", func(r *reader, n *yaml.Node, c *policy.Call) { c.Upgrade = r.upgrade(n) }},
	},
}

func readCall(r *reader, key, value *yaml.Node) (policy.Call, bool) {
	c := policy.Call{Pos: r.pos(key), Name: key.Value}
	r.key = "calls"
	if !r.name(key) || !callTable.read(r, value, &c) {
		return c, false
	}
	r.coherent(key, value, c)
	return c, true
}

const webScheme = "https://"

// coherent refuses a call whose keys do not go together.
func (r *reader) coherent(key, value *yaml.Node, c policy.Call) {
	said := func(name string) bool {
		for i := 0; i < len(value.Content); i += 2 {
			if value.Content[i].Value == name {
				return true
			}
		}
		return false
	}
	web := slices.ContainsFunc(c.At, func(e policy.Endpoint) bool { return strings.HasPrefix(e.Text, webScheme) })
	name := "the call " + c.Name
	switch {
	case web && said("as"):
		r.refuse(key, name+" has as: and is at an https:// address", "a site of the web proves its name by web PKI and no SPIFFE ID: remove as:")
	case web && len(c.At) > 1:
		r.refuse(key, name+" is at an https:// address and elsewhere", "write one https:// address, or only those that answer as as:")
	case web && c.TCP:
		r.refuse(key, name+" is at an https:// address and tcp", "remove tcp:, or give host:port")
	case !web && !said("as") && said("at"):
		r.refuse(key, name+" does not say who must answer", "add it, as in as: spiffe://example.org/payments")
	case c.TCP && (said("allow") || said("retry") || said("timeout") || said("upgrade")):
		r.refuse(key, name+" is tcp, and has a key that speaks of HTTP", "remove allow:, retry:, timeout: and upgrade:, or remove tcp:")
	case !c.TCP && !said("allow"):
		r.refuse(key, name+" allows nothing", `add what may be called, as in allow: ["GET /charges/{id}"], or tcp: true`)
	}
}

var (
	services = regexp.MustCompile(`^srv:(_[a-z0-9-]+\._(tcp|udp)\.|_[a-z0-9-]+\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9])?$`)
)

// readEndpoint is where a call goes: host:port, srv:_name, or https://host.
func readEndpoint(r *reader, n *yaml.Node) (policy.Endpoint, bool) {
	const hint = "write host:port, srv:_mtls._tcp.payments.shop.svc, or https://api.example.com"
	text, ok := r.raw(n)
	if !ok {
		return policy.Endpoint{}, false
	}
	switch {
	case strings.HasPrefix(text, "srv:"):
		if ok = services.MatchString(text); !ok {
			r.refuseValue(n, show(text)+" is not a name of an SRV record", hint)
		}
	case strings.Contains(text, "://"):
		ok = r.https(n, text, false, hint)
	default:
		text, ok = r.hostPort(n, text, hint)
	}
	return policy.Endpoint{Pos: r.pos(n), Text: text}, ok
}

// local is where the app dials: on this host only, since nothing proves who
// dials it.
func (r *reader) local(n *yaml.Node) *policy.Local {
	const hint = "write 127.0.0.1:9001, [::1]:9001 or unix:///run/payments.sock"
	text, ok := r.raw(n)
	if !ok {
		return nil
	}
	if path, found := strings.CutPrefix(text, "unix://"); found {
		return &policy.Local{Pos: r.pos(n), Network: "unix", Address: r.socket(n, path)}
	}
	address, ok := r.hostPort(n, text, hint)
	if !ok {
		return nil
	}
	if at, err := netip.ParseAddrPort(address); err != nil || !at.Addr().IsLoopback() || at.Addr().Is4In6() {
		r.refuseValue(n, show(text)+" is not loopback: others than the app could dial it", hint)
		return nil
	}
	return &policy.Local{Pos: r.pos(n), Network: "tcp", Address: address}
}

var callLimitTable = table[policy.GrantLimit]{
	is: "limit",
	fields: []field[policy.GrantLimit]{
		{"rate", func(r *reader, n *yaml.Node, l *policy.GrantLimit) { l.Rate = r.rate(n) }},
		{"burst", func(r *reader, n *yaml.Node, l *policy.GrantLimit) { l.Burst = r.count(n) }},
		{"in_flight", func(r *reader, n *yaml.Node, l *policy.GrantLimit) { l.InFlight = r.count(n) }},
		{"shared", func(r *reader, n *yaml.Node, l *policy.GrantLimit) { l.Shared = r.shared(n) }},
	},
}

// callLimit is a rate, or a map for more than that.
func (r *reader) callLimit(n *yaml.Node) *policy.GrantLimit {
	l := &policy.GrantLimit{Pos: r.pos(n)}
	if n.Kind == yaml.ScalarNode {
		l.Rate = r.rate(n)
		return l
	}
	callLimitTable.read(r, n, l)
	return l
}

// maxAttempts bounds at_most: each try is a request that the other end serves.
const maxAttempts = 10

var retryTable = table[policy.Retry]{
	is:       "retry",
	required: []string{"on"},
	fields: []field[policy.Retry]{
		{"on", func(r *reader, n *yaml.Node, t *policy.Retry) {
			t.On = distinct(r, n, enum("connect", "429", "502", "503", "504"))
		}},
		{"at_most", func(r *reader, n *yaml.Node, t *policy.Retry) {
			if t.AtMost = r.count(n); t.AtMost > maxAttempts {
				r.refuseValue(n, n.Value+" is more than 10", "retries multiply along a chain of calls: write a small number")
			}
		}},
		{"budget", func(r *reader, n *yaml.Node, t *policy.Retry) { t.Budget = r.percent(n) }},
	},
}

// What is unsaid of a retry.
const (
	defaultAttempts = 2
	defaultBudget   = 20
)

func (r *reader) retry(n *yaml.Node) *policy.Retry {
	t := &policy.Retry{Pos: r.pos(n), AtMost: defaultAttempts, Budget: defaultBudget}
	retryTable.read(r, n, t)
	return t
}
