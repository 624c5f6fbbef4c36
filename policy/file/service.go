package file

import (
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

// policyTable is the top level. Types come first: the others use them.
var policyTable = table[policy.Spec]{
	is:       "the policy",
	required: []string{"service"},
	fields: []field[policy.Spec]{
		{"types", func(r *reader, n *yaml.Node, s *policy.Spec) { s.Types = entries(r, n, "types", readType) }},
		{"service", func(r *reader, n *yaml.Node, s *policy.Spec) { s.Service = r.workload(n) }},
		{"app", func(r *reader, n *yaml.Node, s *policy.Spec) { s.App = r.app(n) }},
		{"users", func(r *reader, n *yaml.Node, s *policy.Spec) { s.Users = entries(r, n, "issuers", readIssuer) }},
		{"tls", func(r *reader, n *yaml.Node, s *policy.Spec) { s.TLS.Pos = r.pos(n); tlsTable.read(r, n, &s.TLS) }},
		{"limit", func(r *reader, n *yaml.Node, s *policy.Spec) {
			s.Limit = &policy.ServiceLimit{Pos: r.pos(n)}
			serviceLimitTable.read(r, n, s.Limit)
		}},
		{"timeouts", func(r *reader, n *yaml.Node, s *policy.Spec) {
			s.Timeouts.Pos = r.pos(n)
			timeoutsTable.read(r, n, &s.Timeouts)
		}},
		{"ban", func(r *reader, n *yaml.Node, s *policy.Spec) { s.Ban = list(r, n, readBan) }},
		{"allow", func(r *reader, n *yaml.Node, s *policy.Spec) {
			s.Allow = listOf(r, n, "allow", readGrant)
			nameGrants(s.Allow)
		}},
		{"calls", func(r *reader, n *yaml.Node, s *policy.Spec) { s.Calls = entries(r, n, "calls", readCall) }},
		{"tests", func(r *reader, n *yaml.Node, s *policy.Spec) { s.Tests = listOf(r, n, "tests", readTest) }},
		{"never", func(r *reader, n *yaml.Node, s *policy.Spec) { s.Never = listOf(r, n, "never", readNever) }},
	},
}

// listOf is list where one entry does not stand for a list of it: a grant that
// is not behind a dash is a mistake.
func listOf[T any](r *reader, n *yaml.Node, key string, read func(r *reader, n *yaml.Node) (T, bool)) []T {
	if n.Kind != yaml.SequenceNode {
		r.refuseValue(n, "this is not a list", `begin each entry of `+key+`: with "- "`)
		return nil
	}
	return list(r, n, read)
}

func readType(r *reader, key, value *yaml.Node) (policy.NamedType, bool) {
	expression, ok := r.text(value)
	if !ok {
		return policy.NamedType{}, false
	}
	t, err := match.CompileType(key.Value, expression)
	if err != nil {
		r.refuseError(value, err)
		// Whatever uses it is judged by one that is good, so as not to be
		// reported for this mistake too.
		if t, err2 := match.CompileType(key.Value, "x"); err2 == nil {
			r.types[key.Value] = t
		}
		return policy.NamedType{}, false
	}
	r.types[key.Value] = t
	return policy.NamedType{Pos: r.pos(key), Name: key.Value, Type: t}, true
}

// workload is the SPIFFE ID of one workload: no pattern.
func (r *reader) workload(n *yaml.Node) spiffeid.ID {
	text, ok := r.raw(n)
	if !ok {
		return spiffeid.ID{}
	}
	pattern, err := match.ParseCaller(text)
	switch {
	case err != nil:
		r.refuseError(n, err)
		return spiffeid.ID{}
	case pattern.Wildcard():
		r.refuseValue(n, show(text)+" names more than one workload", "write one SPIFFE ID, as in spiffe://example.org/orders")
		return spiffeid.ID{}
	}
	id, err := spiffeid.FromString(text)
	if err != nil {
		r.refuseError(n, err)
	}
	return id
}

func readCaller(r *reader, n *yaml.Node) (policy.Caller, bool) {
	text, ok := r.raw(n)
	if !ok {
		return policy.Caller{}, false
	}
	pattern, err := match.ParseCaller(text)
	if err != nil {
		r.refuseError(n, err)
	}
	return policy.Caller{Pos: r.pos(n), Pattern: pattern}, err == nil
}

func readBan(r *reader, n *yaml.Node) (policy.Ban, bool) {
	c, ok := readCaller(r, n)
	return policy.Ban{Pos: c.Pos, ID: c.Pattern}, ok
}

var schemes = map[string]policy.AppKind{
	"http": policy.AppHTTP, "h2c": policy.AppH2C, "tcp": policy.AppTCP, "unix": policy.AppHTTP,
}

func (r *reader) app(n *yaml.Node) *policy.App {
	const hint = "write http://127.0.0.1:8080, h2c://127.0.0.1:8080, tcp://127.0.0.1:5432 or unix:///run/app.sock"
	text, ok := r.raw(n)
	if !ok {
		return nil
	}
	scheme, rest, found := strings.Cut(text, "://")
	kind := schemes[scheme]
	switch {
	case !found || kind == 0:
		r.refuseValue(n, show(text)+" is not an address of an app", hint)
		return nil
	case scheme == "unix":
		return &policy.App{Pos: r.pos(n), Kind: kind, Network: "unix", Address: r.socket(n, rest)}
	}
	address, ok := r.hostPort(n, strings.TrimSuffix(rest, "/"), hint)
	if !ok {
		return nil
	}
	return &policy.App{Pos: r.pos(n), Kind: kind, Network: "tcp", Address: address}
}

// maxSocket is the longest path of a unix socket, in bytes: sun_path of Linux
// without the byte that ends it.
const maxSocket = 107

// socket is the path of a unix socket; a relative one is below the policy's folder.
func (r *reader) socket(n *yaml.Node, path string) string {
	switch {
	case path == "" || strings.HasSuffix(path, "/"):
		r.refuseValue(n, "the address names no socket", "write its path, as in unix:///run/app.sock")
		return ""
	case strings.HasPrefix(path, "@"):
		r.refuseValue(n, "an abstract socket has no permissions: any process may listen on it", "write the path of a file, as in unix:///run/app.sock")
		return ""
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(r.file), path)
	}
	if path = filepath.Clean(path); len(path) > maxSocket {
		r.refuseValue(n, "the path of the socket has more than 107 bytes", "use a shorter one, as in unix:///run/app.sock")
	}
	return path
}

var tlsTable = table[policy.TLS]{
	is: "tls",
	fields: []field[policy.TLS]{
		{"alpn", func(r *reader, n *yaml.Node, t *policy.TLS) {
			t.ALPN = distinct(r, n, enum(policy.ProtoH2, policy.ProtoHTTP1))
		}},
		{"pq", func(r *reader, n *yaml.Node, t *policy.TLS) {
			pq, _ := enum("prefer", "require")(r, n)
			t.RequirePQ = pq == "require"
		}},
	},
}

var serviceLimitTable = table[policy.ServiceLimit]{
	is: "limit",
	fields: []field[policy.ServiceLimit]{
		{"rate", func(r *reader, n *yaml.Node, l *policy.ServiceLimit) { l.Rate = r.rate(n) }},
		{"burst", func(r *reader, n *yaml.Node, l *policy.ServiceLimit) { l.Burst = r.count(n) }},
		{"in_flight", func(r *reader, n *yaml.Node, l *policy.ServiceLimit) { l.InFlight = r.count(n) }},
		{"per_caller", func(r *reader, n *yaml.Node, l *policy.ServiceLimit) { l.PerCaller = r.rate(n) }},
		{"shared", func(r *reader, n *yaml.Node, l *policy.ServiceLimit) { l.Shared = r.shared(n) }},
	},
}

var redis = regexp.MustCompile(`^rediss?://[^\s/@?#]+(/[0-9]{1,4})?$`)

// shared is where buckets live that several sidecars share.
func (r *reader) shared(n *yaml.Node) string {
	if strings.Contains(n.Value, "@") { // not shown: it may be a secret
		r.refuseValue(n, "the address has a user or a password", "write redis://host:6379 or rediss://host:6380, without them")
		return ""
	}
	url, _ := matching(redis, "an address of a Redis", "write redis://host:6379 or rediss://host:6380, without a password")(r, n)
	return url
}

var timeoutsTable = table[policy.Timeouts]{
	is: "timeouts",
	fields: []field[policy.Timeouts]{
		timeout("handshake", func(t *policy.Timeouts) *time.Duration { return &t.Handshake }),
		timeout("headers", func(t *policy.Timeouts) *time.Duration { return &t.Headers }),
		timeout("body", func(t *policy.Timeouts) *time.Duration { return &t.Body }),
		timeout("write", func(t *policy.Timeouts) *time.Duration { return &t.Write }),
		timeout("idle", func(t *policy.Timeouts) *time.Duration { return &t.Idle }),
	},
}

func timeout(name string, of func(*policy.Timeouts) *time.Duration) field[policy.Timeouts] {
	return field[policy.Timeouts]{name, func(r *reader, n *yaml.Node, t *policy.Timeouts) {
		*of(t) = r.duration(n, anHour)
	}}
}
