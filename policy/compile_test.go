package policy_test

import (
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

// Each policy's problems, whole and in the order of the file.
func TestCompile_ReportsEveryProblemAtItsPlace(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"names and unreachable grants", header + `
  - {name: a, from: spiffe://td.test/web, to: GET /a}
  - {name: a, from: spiffe://td.test/web, to: GET /b}
  - {name: c, from: spiffe://td.test/web, to: GET /a}
`, `p.yaml:7:5: grant a is there twice (it is at p.yaml:6:5 already; remove or rename one)
p.yaml:8:5: grant c can never decide: a at p.yaml:6:5 comes first and allows the same callers and routes (remove it, or move it before that one)`},
		{"routes and callers within a grant", header + `
  - {name: a, from: [spiffe://td.test/web, spiffe://td.test/web], to: ["GET /a/{x}", "GET /a/{y}"]}
  - {name: b, from: spiffe://td.test/web, to: [CONNECT /a, TRACE /a, GET *]}
`, `p.yaml:6:44: caller spiffe://td.test/web is there twice (it is at p.yaml:6:22 already; remove or rename one)
p.yaml:6:86: route GET /a/{y} is there twice (it is at p.yaml:6:72 already; remove or rename one)
p.yaml:7:48: CONNECT is never forwarded (remove this route)
p.yaml:7:60: TRACE is never forwarded (remove this route)
p.yaml:7:70: * is a target of OPTIONS only (write GET /** for every path)`},
		{"app without allow", "service: spiffe://td.test/app\napp: http://127.0.0.1:80\n",
			`p.yaml:2:6: app: is there, but nothing is allowed to reach it (add a grant under allow:, or remove app:)`},
		{"allow without app", "service: spiffe://td.test/app\nallow:\n  - {from: spiffe://td.test/web, to: GET /a}\n",
			`p.yaml:3:5: allow: is there, but no app: to forward to (add app: http://127.0.0.1:PORT)`},
		{"nothing", "service: spiffe://td.test/app\n",
			`p.yaml:1:1: the policy opens nothing (add app: and allow: to be called, or calls: to call)`},
		{"tcp route of an http app", header + "  - {name: a, from: spiffe://td.test/web, to: tcp}\n",
			`p.yaml:5:47: to: tcp is for a tcp:// app, and app: is HTTP (write METHOD /path)`},
		{"http route of a tcp app", strings.Replace(header, "http://", "tcp://", 1) + "  - {name: a, from: spiffe://td.test/web, to: GET /a}\n",
			`p.yaml:5:47: the app is tcp:// and has no HTTP routes (write to: tcp)`},
		{"calls", `service: spiffe://td.test/app
app: http://127.0.0.1:8080
allow: [{from: spiffe://td.test/web, to: GET /a}]
calls:
  a: {as: spiffe://td.test/a, at: "a.test:1", local: "127.0.0.1:9001", allow: ["GET /a/{x}", "GET /a/{y}"]}
  b: {as: spiffe://td.test/b, at: "b.test:1", local: "127.0.0.1:9001", allow: [GET /b]}
  c: {as: spiffe://td.test/b, at: "b.test:1", local: "127.0.0.1:8080", allow: [GET /b]}
`, `p.yaml:5:94: route GET /a/{y} is there twice (it is at p.yaml:5:80 already; remove or rename one)
p.yaml:6:54: the local address 127.0.0.1:9001 is there twice (it is at p.yaml:5:54 already; remove or rename one)
p.yaml:7:54: the local address 127.0.0.1:8080 is there twice (it is at p.yaml:2:6 already; remove or rename one)`},
		{"upgrades that nothing can ask for", header + `
  - {name: a, from: spiffe://td.test/web, to: POST /a, upgrade: websocket}
calls:
  b: {as: spiffe://td.test/b, at: "b.test:1", local: "127.0.0.1:9001", allow: [POST /b], upgrade: websocket}
`, `p.yaml:6:65: upgrade: websocket stands beside no GET (it is asked for by GET: add that route, as in GET /ws)
p.yaml:8:99: upgrade: websocket stands beside no GET (it is asked for by GET: add that route, as in GET /ws)`},
		{"tests without app", calling + "tests: [{as: spiffe://td.test/a, do: GET /a, expect: allow}]\n",
			`p.yaml:9:9: tests: asks what nobody can reach: there is no app: (remove tests:, or add app: and allow:)`},
	} {
		s, err := policy.Compile(parse(t, c.text), nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.want)
		}
		if s != nil {
			t.Errorf("%s: a snapshot came with the problems", c.name)
		}
	}
}

// What nothing enforces is refused where it stands, never ignored.
func TestCompile_RefusesWhatHasNoMeaningYet(t *testing.T) {
	const users = "users: {idp: {issuer: https://idp.test, audience: [a], keys: https://idp.test/k, algorithms: [ES256]}}\n"
	grant := func(more string) string {
		return header + "  - {name: g, from: spiffe://td.test/web, to: POST /a, " + more + "}\n"
	}
	call := func(more string) string {
		return "service: spiffe://td.test/app\ncalls:\n  c: {" + more + "}\n"
	}
	const plain = `as: spiffe://td.test/a, at: "a.test:1", local: "127.0.0.1:9001", allow: [GET /a]`
	for _, c := range []struct{ text, want string }{
		{users + grant(""), "p.yaml:1:9: users: is not supported yet"},
		{grant("user: {of: idp}"), "p.yaml:5:62: user: is not supported yet"},
		{grant("user: {of: idp}"), "there is no issuer idp (add it under users:)"},
		{grant("where: path.id == user.sub"), "p.yaml:5:63: where: is not supported yet"},
		{grant("cors: {origins: [https://a.test]}"), "cors: is not supported yet"},
		{grant("limit: {per_caller: 5/s}"), "limit: is not supported yet"},
		{grant("strict: true"), "strict: is not supported yet"},
		{grant("body: {schema: a.json}"), "schema: is not supported yet"},
		{grant("query: {a: {type: int}}"), "a typed or required query parameter is not supported yet (list its name only: query: [a])"},
		{grant("query: {a: {required: true}}"), "a typed or required query parameter is not supported yet"},
		{grant("headers: {a: {one_of: [x]}}"), "a typed or required header is not supported yet"},
		{grant("headers: {a: {repeated: true}}"), "a typed or required header is not supported yet"},
		{"limit: {rate: 5/s}\n" + grant(""), "p.yaml:1:8: limit: is not supported yet"},
		{"never: [{to: GET /a}]\n" + grant(""), "never: is not supported yet"},
		{"tests: [{as: spiffe://td.test/a, user: {sub: a}, do: GET /a, expect: allow}]\n" + grant(""), "user: in a test is not supported yet"},
		{call(plain + ", limit: 5/s"), "limit: is not supported yet"},
		{call(plain + ", retry: {on: [connect], at_most: 1, budget: 20%}"), "retry: is not supported yet"},
		{call(strings.Replace(plain, `"a.test:1"`, `["a.test:1", "b.test:1"]`, 1)), "a list of endpoints is not supported yet"},
		{call(strings.Replace(plain, `"a.test:1"`, `"srv:_a._tcp.test"`, 1)), "at: srv:_a._tcp.test is not supported yet"},
		{call(strings.Replace(plain, `local: "127.0.0.1:9001", `, ``, 1)), "a call without local: is not supported yet"},
		{call(`at: "https://a.test", local: "127.0.0.1:9001", allow: [GET /a]`), "a call without as: is not supported yet"},
		{call(`at: "https://a.test", local: "127.0.0.1:9001", allow: [GET /a]`), "at: https://a.test is not supported yet"},
		{call(`as: spiffe://td.test/a, at: ["a.test:1", "b.test:1"], local: "127.0.0.1:9001", tcp: true`), "a list of endpoints is not supported yet"},
	} {
		_, err := policy.Compile(parse(t, c.text), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.text, err, c.want)
		}
	}
	compile(t, grant(""))
	compile(t, strings.Replace(grant(""), "http://", "h2c://", 1))
	compile(t, call(plain+", upgrade: websocket"))
	compile(t, call(plain))
	compile(t, grant("query: {a: {repeated: true}}, headers: [b], cookies: [c], body: {max: none}, because: d, timeout: 1s"))
}

// A grant is refused as unreachable only where an earlier one decides all that
// it could.
func TestCompile_UnreachableGrants(t *testing.T) {
	for _, c := range []struct {
		first, second string
		unreachable   bool
	}{
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/a, to: GET /a", true},
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/b, to: GET /a", false},
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/a, to: GET /a/", false},
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/a, to: HEAD /a", false},
		{"from: spiffe://td.test/a, to: GET /a", "from: [spiffe://td.test/a, spiffe://td.test/b], to: GET /a", false},
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/a, to: [GET /a, GET /b]", false},
		{"from: spiffe://td.test/**, to: GET /**", "from: spiffe://td.test/a, to: GET /a/b", true},
		{"from: spiffe://td.test/**, to: GET /**", "from: spiffe://td.test/a/**, to: GET /a/**", true},
		{"from: spiffe://td.test/**, to: GET /**", "from: spiffe://other.test/a, to: GET /a/b", false},
		{"from: spiffe://td.test/a/**, to: GET /a/**", "from: spiffe://td.test/**, to: GET /a/b", false},
		{"from: spiffe://td.test/a, to: GET /a/**", "from: spiffe://td.test/a, to: GET /**", false},
		{"from: spiffe://td.test/a, to: GET /a/**", "from: spiffe://td.test/a, to: GET /a", false},
		{"from: spiffe://td.test/a, to: GET /a/**", "from: spiffe://td.test/a, to: GET /a/", true},
		{"from: spiffe://td.test/a, to: 'GET /a/{x}'", "from: spiffe://td.test/a, to: GET /a/b", true},
		{"from: spiffe://td.test/a, to: 'GET /a/{x}'", "from: spiffe://td.test/a, to: 'GET /a/{y:uuid}'", true},
		{"from: spiffe://td.test/a, to: 'GET /a/{x:int}'", "from: spiffe://td.test/a, to: GET /a/b", false},
		{"from: spiffe://td.test/a, to: 'GET /a/{x:int}'", "from: spiffe://td.test/a, to: GET /a/7", true},
		{"from: spiffe://td.test/a, to: 'GET /a/{x:int}'", "from: spiffe://td.test/a, to: 'GET /a/{x}'", false},
		{"from: spiffe://td.test/a, to: 'GET /a/{x}'", "from: spiffe://td.test/a, to: 'GET /a/{x:own}'", false},
		{"from: spiffe://td.test/a, to: 'GET /a/{x:own}'", "from: spiffe://td.test/a, to: 'GET /a/{y:own}'", true},
		{"from: spiffe://td.test/a, to: OPTIONS /**", "from: spiffe://td.test/a, to: OPTIONS *", false},
		{"from: spiffe://td.test/a, to: GET /a, shadow: true", "from: spiffe://td.test/a, to: GET /a", false},
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/a, to: GET /a, shadow: true", true},
		{"from: spiffe://td.test/a, to: GET /a, host: a.test", "from: spiffe://td.test/a, to: GET /a", false},
		{"from: spiffe://td.test/a, to: GET /a, host: [a.test, b.test]", "from: spiffe://td.test/a, to: GET /a, host: a.test", true},
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/a, to: GET /a, host: a.test", true},
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/a, to: GET /a, query: [a]", false},
		{"from: spiffe://td.test/a, to: GET /a, query: [a, b]", "from: spiffe://td.test/a, to: GET /a, query: [b]", true},
		{"from: spiffe://td.test/a, to: GET /a, query: [a]", "from: spiffe://td.test/a, to: GET /a, query: {a: {repeated: true}}", false},
		{"from: spiffe://td.test/a, to: GET /a, until: 2026-12-01T00:00:00Z", "from: spiffe://td.test/a, to: GET /a", false},
		{"from: spiffe://td.test/a, to: GET /a, until: 2026-12-01T00:00:00Z", "from: spiffe://td.test/a, to: GET /a, until: 2026-12-02T00:00:00Z", false},
		{"from: spiffe://td.test/a, to: GET /a, until: 2026-12-02T00:00:00Z", "from: spiffe://td.test/a, to: GET /a, until: 2026-12-01T00:00:00Z", true},
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/a, to: GET /a, body: {max: 1KiB}", false},
		{"from: spiffe://td.test/a, to: POST /a", "from: spiffe://td.test/a, to: POST /a, body: {max: 1KiB}", true},
		{"from: spiffe://td.test/a, to: POST /a, body: {types: [a/b]}", "from: spiffe://td.test/a, to: POST /a", false},
		{"from: spiffe://td.test/a, to: GET /a", "from: spiffe://td.test/a, to: GET /a, headers: [x], cookies: [sid], timeout: 1s", true},
	} {
		text := "types: {own: '[a-z]'}\n" + header + "  - {name: first, " + c.first + "}\n  - {name: second, " + c.second + "}\n"
		_, err := policy.Compile(parse(t, text), nil)
		if (err != nil) != c.unreachable || err != nil && !strings.Contains(err.Error(), "grant second can never decide: first at p.yaml:6:5") {
			t.Errorf("%s\nthen %s\nunreachable: want %v, got %v", c.first, c.second, c.unreachable, err)
		}
	}
}

func TestCompile_CoverMayBeSeveralGrants(t *testing.T) {
	_, err := policy.Compile(parse(t, header+`
  - {name: a, from: spiffe://td.test/a, to: [GET /a, GET /b]}
  - {name: b, from: spiffe://td.test/b, to: [GET /a, GET /b]}
  - {name: both, from: [spiffe://td.test/a, spiffe://td.test/b], to: [GET /a, GET /b]}
`), nil)
	if err == nil || !strings.Contains(err.Error(), "grant both can never decide") {
		t.Errorf("%v", err)
	}
}

// What the parser never returns must not become a wildcard here either (C07).
func TestCompile_EmptyIsNeverAnyone(t *testing.T) {
	route := func() policy.Route {
		p, err := match.ParsePath("/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		return policy.Route{Method: "GET", Path: p}
	}()
	caller, err := match.ParseCaller("spiffe://td.test/a")
	if err != nil {
		t.Fatal(err)
	}
	from := []policy.Caller{{Pattern: caller}}
	for want, grant := range map[string]policy.Grant{
		"grant g names no caller":  {Name: "g", To: []policy.Route{route}},
		"from: names nobody":       {Name: "g", To: []policy.Route{route}, From: make([]policy.Caller, 1)},
		"grant g names no route":   {Name: "g", From: from},
		"the route has no method":  {Name: "g", From: from, To: []policy.Route{{Path: route.Path}}},
		"the route has no path":    {Name: "g", From: from, To: []policy.Route{{Method: "GET"}}},
		"until: is no time":        {Name: "g", From: from, To: []policy.Route{route}, Until: &policy.Until{}},
		"more than 256 parameters": {Name: "g", From: from, To: []policy.Route{route}, Query: make([]policy.Input, 257)},
	} {
		spec := &policy.Spec{
			File: "p.yaml", Service: spiffeid.RequireFromString("spiffe://td.test/app"),
			App: &policy.App{Kind: policy.AppHTTP}, Allow: []policy.Grant{grant},
		}
		if _, err := policy.Compile(spec, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for want, spec := range map[string]*policy.Spec{
		"there is no policy":      nil,
		"service: is missing":     {},
		"app: has no kind":        {App: &policy.App{}},
		"ban: names nobody":       {Ban: make([]policy.Ban, 1)},
		"call c allows no route":  {Calls: []policy.Call{{Name: "c"}}},
		"c has nowhere to go":     {Calls: []policy.Call{{Name: "c"}}},
		"type t is there twice":   {Types: []policy.NamedType{{Name: "t"}, {Name: "t"}}},
		"issuer i is there twice": {Users: []policy.Issuer{{Name: "i"}, {Name: "i"}}},
	} {
		if _, err := policy.Compile(spec, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestCompile_CountsGenerations(t *testing.T) {
	spec := parse(t, rich)
	first, err := policy.Compile(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := policy.Compile(spec, first)
	if err != nil {
		t.Fatal(err)
	}
	if first.Generation != 1 || second.Generation != 2 {
		t.Errorf("generations %d and %d", first.Generation, second.Generation)
	}
	if second.Digest != spec.Digest || second.File != "p.yaml" || second.Service != spec.Service || second.App != spec.App {
		t.Errorf("%+v", second)
	}
}

func TestCompile_RulesCarryWhatTheHopMustKnow(t *testing.T) {
	s := compile(t, header+`
  - {name: a, from: spiffe://td.test/a, to: POST /a, headers: [X-Request-Id, x-b], cookies: [sid], body: {max: 64KiB}, timeout: 5s}
  - {name: b, from: spiffe://td.test/a, to: POST /b, body: {max: none}}
  - {name: c, from: spiffe://td.test/a, to: POST /c}
`)
	a, b, c := s.Grants[0], s.Grants[1], s.Grants[2]
	if strings.Join(a.Headers, " ") != "x-request-id x-b" || strings.Join(a.Cookies, " ") != "sid" || a.Timeout.String() != "5s" {
		t.Errorf("%+v", a)
	}
	if a.BodyMax != 64<<10 || b.BodyMax != -1 || c.BodyMax != policy.DefaultBodyMax {
		t.Errorf("bodies of at most %d, %d, %d", a.BodyMax, b.BodyMax, c.BodyMax)
	}
	if a.Index != 0 || c.Index != 2 || a.Pos.String() != "p.yaml:6:5" {
		t.Errorf("%d %d %s", a.Index, c.Index, a.Pos)
	}
}

func TestSnapshot_NamesTheTrustDomainsOfItsCallersAndCalls(t *testing.T) {
	s := compile(t, `service: spiffe://td.test/app
app: http://127.0.0.1:8080
ban: [spiffe://banned.test/**]
allow:
  - {from: [spiffe://td.test/web, spiffe://partner.test/shop/**], to: GET /a}
  - {from: spiffe://shadow.test/web, to: GET /a, shadow: true}
calls:
  c: {as: spiffe://called.test/c, at: "c.test:1", local: "127.0.0.1:9001", allow: [GET /c]}
`)
	for name, want := range map[string]bool{
		"td.test": true, "partner.test": true, "shadow.test": true, "banned.test": true, "called.test": true,
		"sub.partner.test": false, "partner": false, "other.test": false,
	} {
		if got := s.NamesTrustDomain(spiffeid.RequireTrustDomainFromString(name)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, s := range []*policy.Snapshot{nil, {}, s} {
		if s.NamesTrustDomain(spiffeid.TrustDomain{}) || (*policy.Snapshot)(nil).NamesTrustDomain(spiffeid.RequireTrustDomainFromString("td.test")) {
			t.Error("no domain is named")
		}
	}
}

func TestBan_HoldsForThoseWeCall(t *testing.T) {
	s := compile(t, strings.Replace(calling, "calls:", "ban: [spiffe://td.test/orders]\ncalls:", 1))
	if got := show(s.Call("orders").Decide(now, ask("", "GET /orders/7"), nil)); got != "peer_banned" {
		t.Error(got)
	}
}

func TestSnapshot_AdmitsWhomAGrantNames(t *testing.T) {
	s := compile(t, header+`
  - {from: [spiffe://td.test/web, spiffe://td.test/below/**, spiffe://td.test/evil], to: GET /a, when: {hours: 00:00-01:00, zone: UTC}}
  - {from: spiffe://td.test/trial, to: GET /b, shadow: true}
  - {from: spiffe://td.test/past, to: GET /c, until: 2026-11-25T12:00:00Z}
ban: [spiffe://td.test/evil]
`)
	for name, want := range map[string]bool{"web": true, "below/a": true, "below": false, "trial": false, "past": false, "evil": false, "other": false} {
		if got := s.Admits(now, spiffeid.RequireFromString("spiffe://td.test/"+name)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, none := range []*policy.Snapshot{nil, {}} {
		if none.Admits(now, spiffeid.RequireFromString("spiffe://td.test/web")) {
			t.Error("no policy admits somebody")
		}
	}
}
