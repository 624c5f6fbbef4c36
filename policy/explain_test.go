package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/everyhop/everyhop/policy"
)

// narrate is an explanation as a command would print it.
func narrate(e policy.Explanation) string {
	var b strings.Builder
	fmt.Fprintln(&b, show(e.Decision))
	for _, step := range e.Steps {
		mark, name := "-", ""
		if step.Held {
			mark = "+"
		}
		if step.Grant != nil {
			name = step.Grant.Name + ": "
		}
		fmt.Fprintf(&b, "%s %s%s\n", mark, name, step.What)
	}
	if e.Nearest != nil {
		fmt.Fprintf(&b, "nearest %s, %s\n", e.Nearest.Name, e.Route)
		for _, missing := range e.Missing {
			fmt.Fprintf(&b, "  %s\n", missing)
		}
	}
	return b.String()
}

func TestExplain_SaysWhyAndWhatWasMissing(t *testing.T) {
	s := compile(t, rich)
	for _, c := range []struct{ caller, line, want string }{
		{"sa/web", "GET /orders/7?page=1", `
allow order @ /orders/{id}
+ order: to: GET /orders/{id}
+ order: from: names spiffe://td.test/sa/web
+ order: query: declares every parameter
`},
		{"sa/billing", "GET /orders/7", `
caller_undeclared @ /orders/{id}
- from: no grant on GET /orders/{id} names spiffe://td.test/sa/billing
nearest order, GET /orders/{id}
  from: does not name spiffe://td.test/sa/billing; it names spiffe://td.test/sa/web, spiffe://partner.test/shop/**
`},
		{"sa/web", "DELETE /orders/7", `
route_undeclared
- to: nothing names DELETE /orders/7
nearest order, GET /orders/{id}
  to: names GET /orders/{id}, not DELETE
`},
		{"sa/web", "GET /order/7", `
route_undeclared
- to: nothing names GET /order/7
nearest order, GET /orders/{id}
  to: GET /orders/{id} does not match GET /order/7
`},
		{"sa/web", "GET /hosted?x=1&y=2 host=evil.test upgrade=websocket body=a/b", `
host_undeclared hosted @ /hosted
+ hosted: to: GET /hosted
+ hosted: from: names spiffe://td.test/sa/web
- hosted: host: does not name "evil.test"; it names app.test, other.test
nearest hosted, GET /hosted
  host: does not name "evil.test"; it names app.test, other.test
  query: does not declare "x"
  query: does not declare "y"
  the grant opens no upgrade
  body: is not declared, and GET carries one only where it is
`},
		{"sa/web", "GET /ws upgrade=websocket origin=https://evil.test body=a/b", `
origin_undeclared talk @ /ws
+ talk: to: GET /ws
+ talk: from: names spiffe://td.test/sa/web
- talk: the grant does not declare the header origin, and a browser asks for the upgrade
nearest talk, GET /ws
  the grant does not declare the header origin, and a browser asks for the upgrade
  body: is not declared, and GET carries one only where it is
`},
		{"sa/web", "GET /ws upgrade=websocket", `
allow talk @ /ws
+ talk: to: GET /ws
+ talk: from: names spiffe://td.test/sa/web
+ talk: upgrade: opens websocket
`},
		{"sa/web", "PUT /orders?v=1", `
allow replace @ /orders
+ replaced: to: PUT /orders
+ replaced: from: names spiffe://td.test/sa/web
- replaced: until: the grant ended at 2026-11-25T11:00:00Z
+ replace: to: PUT /orders
+ replace: from: names spiffe://td.test/sa/web
+ replace: query: declares every parameter
`},
		{"sa/web", "PUT /orders?v=1&v=2&x", `
grant_ended replaced @ /orders
+ replaced: to: PUT /orders
+ replaced: from: names spiffe://td.test/sa/web
- replaced: until: the grant ended at 2026-11-25T11:00:00Z
+ replace: to: PUT /orders
+ replace: from: names spiffe://td.test/sa/web
- replace: query: "v" is given more than once
nearest replace, PUT /orders
  query: "v" is given more than once
  query: does not declare "x"; it declares v
`},
		{"sa/admin", "POST /admin/x body=text/html", `
body_type admin @ /admin/**
+ admin: to: POST /admin/**
+ admin: from: names spiffe://td.test/sa/admin
- admin: body: does not name the type "text/html"; it names application/json, text/plain
nearest admin, POST /admin/**
  body: does not name the type "text/html"; it names application/json, text/plain
`},
		{"sa/web", "GET /trial/1", `
allow trial-real @ /trial/1 ~ trial
+ trial: to: GET /trial/{x}
+ trial: from: names spiffe://td.test/sa/web
+ trial: shadow: it would allow, but grants nothing
+ trial-real: to: GET /trial/1
+ trial-real: from: names spiffe://td.test/sa/web
`},
		{"sa/web", "GET /orders/8?a;b", `
query_malformed order @ /orders/{id}
+ order: to: GET /orders/{id}
+ order: from: names spiffe://td.test/sa/web
- order: the query is malformed
nearest order, GET /orders/{id}
  the query is malformed
`},
		{"sa/web", "GET /ending body=a/b", `
body_undeclared ending @ /ending
+ ending: to: GET /ending
+ ending: from: names spiffe://td.test/sa/web
+ ending: until: 2026-11-25T12:00:01Z has not come
- ending: body: is not declared, and GET carries one only where it is
nearest ending, GET /ending
  body: is not declared, and GET carries one only where it is
`},
		{"sa/web", "OPTIONS *?x", `
query_undeclared star @ *
+ star: to: OPTIONS *
+ star: from: names spiffe://td.test/sa/web
- star: query: does not declare "x"
nearest star, OPTIONS *
  query: does not declare "x"
`},

		// No grant could have made a difference.
		{"sa/evil", "GET /public/a", "\ncaller_banned\n- the caller is banned: \"spiffe://td.test/sa/evil\"\n"},
		{"", "GET /public/a", "\npeer_unverified\n- the connection proves no peer\n"},
		{"sa/web", "GET /public/..", "\ntarget_ambiguous\n- the path could be read in more than one way: \"/public/..\"\n"},
		{"sa/web", "GET /a\x1b[2J", "\ntarget_ambiguous\n- the path could be read in more than one way: \"/a\\x1b[2J\"\n"},
		{"sa/web", "G(T /", "\nmethod_malformed\n- the method is not an HTTP token of at most 32 bytes: \"G(T\"\n"},
	} {
		e := policy.Explain(s, now, ask(c.caller, c.line))
		if got := "\n" + narrate(e); got != c.want {
			t.Errorf("%s: %s:%s\nwant%s", c.caller, c.line, got, c.want)
		}
		for _, line := range e.Missing {
			if strings.ContainsAny(line, "\n\r\x1b") {
				t.Errorf("%q is not one line", line)
			}
		}
	}
	if got := narrate(policy.Explain(nil, now, ask("sa/web", "GET /"))); got != "no_policy\n- no good policy is loaded\n" {
		t.Errorf("without a policy: %s", got)
	}
}

// The nearest grant is the one of which the least was missing, then the first.
func TestExplain_Nearest(t *testing.T) {
	s := compile(t, header+`
  - {name: list, from: spiffe://td.test/a, to: GET /shop/orders}
  - {name: one, from: spiffe://td.test/a, to: "GET /shop/orders/{id:int}"}
  - {name: item, from: spiffe://td.test/b, to: "POST /shop/orders/{id:int}/items"}
  - {name: files, from: spiffe://td.test/a, to: GET /files/**}
  - {name: shadow, from: spiffe://td.test/a, to: GET /shadow, shadow: true}
  - {name: star, from: spiffe://td.test/a, to: OPTIONS *}
`)
	for line, want := range map[string]string{
		"GET /shop/orders/":        "list",
		"GET /shop/order":          "list",
		"GET /shop/orders/x":       "one",
		"GET /shop/orders/7/":      "one",
		"PUT /shop/orders/7":       "one",
		"GET /shop/orders/7/items": "item",
		"POST /shop/orders/7/item": "item",
		"GET /files":               "files",
		"POST /files/a/b/c":        "files",
		"GET /files2/a/b/c/d/e":    "files",
		"GET /shadow":              "files",
		"OPTIONS /":                "star",
	} {
		e := policy.Explain(s, now, ask("a", line))
		if e.Nearest == nil || e.Nearest.Name != want {
			t.Errorf("%s: %s", line, narrate(e))
		}
	}
}

func TestTrace_AppendsToWhatIsThere(t *testing.T) {
	s := compile(t, rich)
	var trace policy.Trace
	for _, line := range []string{"GET /orders/7", "GET /nowhere", "GET /.."} {
		if d := s.Decide(now, ask("sa/web", line), &trace); d.Reason == policy.EvaluatorPanic {
			t.Fatal("the trace broke the evaluator")
		}
	}
	if len(trace.Steps) != 4 {
		t.Errorf("%d steps: %+v", len(trace.Steps), trace.Steps)
	}
}

func TestRunTests_TellsWhichHold(t *testing.T) {
	s := compile(t, header+`  - {from: spiffe://td.test/web, to: "GET /orders/{id}", query: [expand], until: 2026-11-25T12:00:00Z}
tests:
  - {as: spiffe://td.test/web, do: "GET /orders/7?expand=items", expect: allow}
  - {as: spiffe://td.test/web, do: "GET /orders/7?x=1", expect: query_undeclared}
  - {as: spiffe://td.test/billing, do: GET /orders/7, expect: allow}
`)
	var got []string
	for _, when := range []int{-1, 0} {
		for _, r := range policy.RunTests(s, now.AddDate(0, 0, when)) {
			got = append(got, fmt.Sprintf("%s: %s: want %s, got %s: %v", r.Pos, r.Asked, r.Want, r.Got, r.OK))
		}
	}
	want := []string{
		"p.yaml:7:5: GET /orders/7?expand=items as spiffe://td.test/web: want allowed, got allowed: true",
		"p.yaml:8:5: GET /orders/7?x=1 as spiffe://td.test/web: want query_undeclared, got query_undeclared: true",
		"p.yaml:9:5: GET /orders/7 as spiffe://td.test/billing: want allowed, got caller_undeclared: false",
		"p.yaml:7:5: GET /orders/7?expand=items as spiffe://td.test/web: want allowed, got grant_ended: false",
		"p.yaml:8:5: GET /orders/7?x=1 as spiffe://td.test/web: want query_undeclared, got grant_ended: false",
		"p.yaml:9:5: GET /orders/7 as spiffe://td.test/billing: want allowed, got caller_undeclared: false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if policy.RunTests(nil, now) != nil {
		t.Error("no policy has tests")
	}
}
