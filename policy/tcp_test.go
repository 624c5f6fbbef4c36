package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

const bytesPolicy = `service: spiffe://td.test/db
app: tcp://127.0.0.1:5432
ban: [spiffe://td.test/sa/evil]
allow:
  - {name: ended, from: spiffe://td.test/sa/old, to: tcp, until: 2026-11-25T12:00:00Z}
  - {name: trial, from: spiffe://td.test/sa/new, to: tcp, shadow: true}
  - {name: orders, from: [spiffe://td.test/sa/orders, spiffe://partner.test/shop/**], to: tcp, because: INC-1}
  - {name: ending, from: spiffe://td.test/sa/**, to: tcp, until: 2026-11-25T12:00:01Z}
tests:
  - {as: spiffe://td.test/sa/orders, do: tcp, expect: allow}
  - {as: spiffe://td.test/other, do: tcp, expect: caller_undeclared}
  - {as: spiffe://td.test/sa/orders, do: GET /, expect: route_undeclared}
`

func TestDecideTCP(t *testing.T) {
	s := compile(t, bytesPolicy)
	for _, c := range []struct {
		caller string
		at     time.Time
		want   string
	}{
		{"spiffe://td.test/sa/orders", now, "allow orders @ tcp"},
		{"spiffe://td.test/sa/orders", now.Add(time.Hour), "allow orders @ tcp"},
		{"spiffe://partner.test/shop/a/b", now, "allow orders @ tcp"},
		{"spiffe://partner.test/shop", now, "caller_undeclared @ tcp"},
		{"spiffe://td.test/other", now, "caller_undeclared @ tcp"},
		{"spiffe://td.test/sa/evil", now, "caller_banned"},
		{"spiffe://td.test/sa/old", now.Add(-time.Second), "allow ended @ tcp"},
		{"spiffe://td.test/sa/old", now, "allow ending @ tcp"},
		{"spiffe://td.test/sa/old", now.Add(time.Second), "grant_ended ended @ tcp"},
		{"spiffe://td.test/sa/new", now, "allow ending @ tcp ~ trial"},
		{"spiffe://td.test/sa/new", now.Add(time.Hour), "grant_ended ending @ tcp ~ trial"},
	} {
		caller := spiffeid.RequireFromString(c.caller)
		if got := show(s.DecideTCP(c.at, caller, netip.Addr{}, nil)); got != c.want {
			t.Errorf("%s: %s, want %s", c.caller, got, c.want)
		}
		if got := show(s.DecideTCP(c.at, caller, netip.Addr{}, &policy.Trace{})); got != c.want {
			t.Errorf("%s: traced: %s, want %s", c.caller, got, c.want)
		}
		if n := testing.AllocsPerRun(20, func() { s.DecideTCP(c.at, caller, netip.Addr{}, nil) }); n != 0 {
			t.Errorf("%s: %v allocations", c.caller, n)
		}
	}
	if got := show(s.DecideTCP(now, spiffeid.ID{}, netip.Addr{}, nil)); got != "peer_unverified" {
		t.Errorf("nobody: %s", got)
	}
	if d := (*policy.Snapshot)(nil).DecideTCP(now, spiffeid.RequireFromString("spiffe://td.test/a"), netip.Addr{}, nil); d != (policy.Decision{}) {
		t.Errorf("no snapshot: %+v", d)
	}
}

// Neither kind of app takes what is for the other.
func TestDecideTCP_IsNoWayAroundRoutes(t *testing.T) {
	web := spiffeid.RequireFromString("spiffe://td.test/sa/web")
	if got := show(compile(t, rich).DecideTCP(now, web, netip.Addr{}, nil)); got != "route_undeclared" {
		t.Errorf("bytes to an HTTP app: %s", got)
	}
	for _, line := range []string{"GET /", "tcp /", "OPTIONS *"} {
		if got := show(compile(t, bytesPolicy).Decide(now, ask("sa/orders", line), nil)); got != "route_undeclared" {
			t.Errorf("%s to a tcp app: %s", line, got)
		}
	}
	if got := show(compile(t, bytesPolicy).Decide(now, ask("sa/orders", " /"), nil)); got != "method_malformed" {
		t.Errorf("a request without a method to a tcp app: %s", got)
	}
}

func TestCall_BytesAreDeclaredByTheCall(t *testing.T) {
	s := compile(t, calling+`  db: {as: spiffe://td.test/db, at: db.test:5432, local: 127.0.0.1:5432, tcp: true}
`)
	db, orders := s.Call("db"), s.Call("orders")
	if !db.TCP || orders.TCP {
		t.Error("the calls do not say which of them is of bytes")
	}
	for _, c := range []struct {
		call *policy.CallRule
		r    *policy.Request
		want string
	}{
		{db, &policy.Request{TCP: true}, "allow db @ tcp"},
		{db, ask("", "GET /orders/7"), "route_undeclared"},
		{orders, &policy.Request{TCP: true}, "route_undeclared"},
	} {
		if got := show(c.call.Decide(now, c.r, nil)); got != c.want {
			t.Errorf("%s: %+v: %s, want %s", c.call.Name, c.r, got, c.want)
		}
		if n := testing.AllocsPerRun(20, func() { c.call.Decide(now, c.r, nil) }); n != 0 {
			t.Errorf("%s: %v allocations", c.call.Name, n)
		}
	}
}

func TestRunTests_AskForBytes(t *testing.T) {
	results := policy.RunTests(compile(t, bytesPolicy), now)
	for _, r := range results {
		if !r.OK {
			t.Errorf("%+v", r)
		}
	}
	if len(results) != 3 || results[0].Asked != "tcp as spiffe://td.test/sa/orders" {
		t.Errorf("%+v", results)
	}
}

func TestExplain_Bytes(t *testing.T) {
	for _, c := range []struct{ name, text, caller, want string }{
		{"allowed", bytesPolicy, "spiffe://td.test/sa/orders", `allow orders @ tcp
orders: to: tcp
orders: from: names spiffe://td.test/sa/orders
`},
		{"who else", bytesPolicy, "spiffe://td.test/other", `caller_undeclared @ tcp
: from: no grant on tcp names spiffe://td.test/other
nearest orders, tcp
from: does not name spiffe://td.test/other; it names spiffe://td.test/sa/orders, spiffe://partner.test/shop/**
`},
		{"an HTTP app", header + "  - {name: a, from: spiffe://td.test/sa/orders, to: GET /a, host: a.test}\n", "spiffe://td.test/sa/orders", `route_undeclared
: to: nothing names tcp
nearest a, GET /a
to: names GET /a, not tcp
`},
	} {
		e := policy.Explain(compile(t, c.text), now, &policy.Request{Caller: spiffeid.RequireFromString(c.caller), TCP: true})
		var got strings.Builder
		fmt.Fprintln(&got, show(e.Decision))
		for _, step := range e.Steps {
			name := ""
			if step.Grant != nil {
				name = step.Grant.Name
			}
			fmt.Fprintf(&got, "%s: %s\n", name, step.What)
		}
		if e.Nearest != nil {
			fmt.Fprintf(&got, "nearest %s, %s\n%s\n", e.Nearest.Name, e.Route, strings.Join(e.Missing, "\n"))
		}
		if got.String() != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got.String(), c.want)
		}
	}
	e := policy.Explain(compile(t, bytesPolicy), now, ask("sa/orders", "GET /a"))
	if e.Nearest == nil || e.Missing[0] != "to: names tcp, not GET /a" {
		t.Errorf("a request to a tcp app: %+v", e)
	}
}

// policy/file says it of a text; a spec made otherwise is held to the same.
func TestCompile_GrantsOfBytesHaveNoConditionOfHTTP(t *testing.T) {
	spec := func(change func(*policy.Grant)) *policy.Spec {
		s := parse(t, bytesPolicy)
		change(&s.Allow[0])
		return s
	}
	for name, change := range map[string]func(*policy.Grant){
		"host":    func(g *policy.Grant) { g.Host = []policy.Text{{Text: "a.test"}} },
		"query":   func(g *policy.Grant) { g.Query = []policy.Input{{Name: "a"}} },
		"headers": func(g *policy.Grant) { g.Headers = []policy.Input{{Name: "a"}} },
		"cookies": func(g *policy.Grant) { g.Cookies = []policy.Text{{Text: "a"}} },
		"body":    func(g *policy.Grant) { g.Body = &policy.BodyRule{} },
		"timeout": func(g *policy.Grant) { g.Timeout = time.Second },
	} {
		_, err := policy.Compile(spec(change), nil)
		if err == nil || !strings.Contains(err.Error(), "p.yaml:5:5: grant ended of tcp has a condition that speaks of HTTP") {
			t.Errorf("%s: %v", name, err)
		}
	}
	path, err := match.ParsePath("/a", nil)
	check(t, err)
	_, err = policy.Compile(spec(func(g *policy.Grant) { g.To = append(g.To, policy.Route{Method: "GET", Path: path}) }), nil)
	if err == nil || !strings.Contains(err.Error(), "to: tcp stands beside another route") {
		t.Errorf("two kinds in one grant: %v", err)
	}
	for name, call := range map[string]policy.Call{
		"allow":   {Allow: []policy.Route{{Method: "GET", Path: path}}},
		"timeout": {Timeout: time.Second},
	} {
		call.Name, call.TCP = "c", true
		if _, err := policy.Compile(&policy.Spec{Calls: []policy.Call{call}}, nil); err == nil || !strings.Contains(err.Error(), "call c is tcp, and has a key that speaks of HTTP") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecideTCP_AgreesWithTheOracle(t *testing.T) {
	allowed := 0
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPolicy(rt)
		for i, g := range p.grants {
			p.grants[i] = oracleGrant{name: g.name, from: g.from, until: g.until, shadow: g.shadow, to: []string{"tcp"}}
		}
		p, s := reachable(t, p)
		if s == nil {
			rt.Skip("no grant is left")
		}
		for _, id := range someIDs {
			r := &policy.Request{Caller: spiffeid.RequireFromString(id), TCP: true}
			want := p.answer(now, r)
			if strings.HasPrefix(want, "allow") {
				allowed++
			}
			if got := show(s.DecideTCP(now, r.Caller, r.Source, nil)); got != want {
				rt.Fatalf("%+v\n%s\n got %s\nwant %s", p, id, got, want)
			}
		}
	})
	if allowed < 50 {
		t.Errorf("only %d connections were allowed: the test aims badly", allowed)
	}
}
