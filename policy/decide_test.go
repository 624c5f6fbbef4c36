package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/everyhop/everyhop/policy"
)

// The policy of the cases: every kind of pattern and condition is in it.
const rich = `service: spiffe://td.test/app
app: http://127.0.0.1:8080
types: {month: "[0-9]{4}-(0[1-9]|1[0-2])"}
ban: [spiffe://td.test/sa/evil, spiffe://bad.test/**]
allow:
  - {name: public, from: spiffe://td.test/**, to: GET /public/**}
  - {name: admin, from: spiffe://td.test/sa/admin, to: [GET /admin/**, POST /admin/**], body: {types: [application/json, text/plain]}}
  - {name: order, from: [spiffe://td.test/sa/web, spiffe://partner.test/shop/**], to: ["GET /orders/{id}", "HEAD /orders/{id}"], query: [expand, page]}
  - {name: lines, from: spiffe://td.test/sa/web, to: "GET /orders/{id:uuid}/lines/{n:int}"}
  - {name: month, from: spiffe://td.test/sa/web, to: "GET /months/{m:month}/"}
  - {name: hosted, from: spiffe://td.test/sa/web, to: GET /hosted, host: [app.test, other.test]}
  - {name: ended, from: spiffe://td.test/sa/web, to: GET /ended, until: 2026-11-25T12:00:00Z}
  - {name: ending, from: spiffe://td.test/sa/web, to: GET /ending, until: 2026-11-25T12:00:01Z}
  - {name: create, from: spiffe://td.test/sa/web, to: POST /orders}
  - {name: replaced, from: spiffe://td.test/sa/web, to: PUT /orders, until: 2026-11-25T11:00:00Z}
  - {name: replace, from: spiffe://td.test/sa/web, to: PUT /orders, query: [v]}
  - {name: trial, from: spiffe://td.test/sa/web, to: ["GET /trial/{x}", GET /orders/7], shadow: true}
  - {name: trial-real, from: spiffe://td.test/sa/web, to: GET /trial/1}
  - {name: second-trial, from: spiffe://td.test/**, to: GET /trials/**, shadow: true}
  - {name: third-trial, from: spiffe://td.test/sa/web, to: GET /trials/1, shadow: true}
  - {name: tags, from: spiffe://td.test/sa/web, to: GET /tags, query: {tag: {repeated: true}, page: {repeated: false}}}
  - {name: star, from: spiffe://td.test/sa/web, to: "OPTIONS *"}
  - {name: slash, from: spiffe://td.test/sa/web, to: GET /slash/}
  - {name: literal, from: spiffe://td.test/sa/web, to: GET /api/*/x}
  - {name: dots, from: spiffe://td.test/sa/web, to: GET /v1.0/x}
  - {name: grpc, from: spiffe://td.test/sa/web, to: POST /shop.v1.Orders/Get}
  - {name: talk, from: spiffe://td.test/sa/web, to: [GET /ws, POST /ws], upgrade: websocket}
  - {name: page, from: spiffe://td.test/sa/web, to: GET /ws/page, upgrade: websocket, headers: [origin]}
  - {name: purge, from: spiffe://td.test/sa/web, to: DELETE /orders, body: {max: 1KiB}}
`

func TestDecide(t *testing.T) {
	s := compile(t, rich)
	for _, c := range []struct{ caller, line, want string }{
		// Route and caller.
		{"sa/web", "GET /public/", "allow public @ /public/**"},
		{"sa/web", "GET /public/a/b/", "allow public @ /public/**"},
		{"sa/web", "GET /public", "route_undeclared"},
		{"sa/web", "GET /publicity", "route_undeclared"},
		{"sa/web", "HEAD /public/a", "route_undeclared"},
		{"sa/web", "get /public/a", "route_undeclared"},
		{"sa/web", "GET /orders/7", "allow order @ /orders/{id}"},
		{"sa/web", "HEAD /orders/7", "allow order @ /orders/{id}"},
		{"sa/web", "GET /orders/", "route_undeclared"},
		{"sa/web", "GET /orders/7/", "route_undeclared"},
		{"sa/web", "GET /orders/7/lines", "route_undeclared"},
		{"sa/web", "GET /orders/a%20b", "route_undeclared"},
		{"sa/web", "GET /orders/" + strings.Repeat("7", 129), "route_undeclared"},
		{"sa/web", "GET /orders/123e4567-e89b-12d3-a456-426614174000/lines/7", "allow lines @ /orders/{id:uuid}/lines/{n:int}"},
		{"sa/web", "GET /orders/123e4567-e89b-12d3-a456-426614174000/lines/07", "route_undeclared"},
		{"sa/web", "GET /orders/7/lines/7", "route_undeclared"},
		{"sa/web", "GET /months/2026-12/", "allow month @ /months/{m:month}/"},
		{"sa/web", "GET /months/2026-13/", "route_undeclared"},
		{"sa/web", "GET /months/2026-12", "route_undeclared"},
		{"sa/web", "GET /slash/", "allow slash @ /slash/"},
		{"sa/web", "GET /slash", "route_undeclared"},
		{"sa/web", "POST /shop.v1.Orders/Get", "allow grpc @ /shop.v1.Orders/Get"},
		{"sa/web", "OPTIONS *", "allow star @ *"},
		{"sa/admin", "OPTIONS *", "caller_undeclared @ *"},
		{"sa/web", "OPTIONS /*", "route_undeclared"},
		{"sa/billing", "GET /orders/7", "caller_undeclared @ /orders/{id}"},
		{"spiffe://partner.test/shop/a/b", "GET /orders/7", "allow order @ /orders/{id}"},
		{"spiffe://partner.test/shop", "GET /orders/7", "caller_undeclared @ /orders/{id}"},
		{"spiffe://partner.test/shopping/a", "GET /orders/7", "caller_undeclared @ /orders/{id}"},

		// Who is banned or nobody gets no further.
		{"", "GET /public/a", "peer_unverified"},
		{"sa/evil", "GET /public/a", "caller_banned"},
		{"sa/evil/x", "GET /public/a", "allow public @ /public/**"},
		{"spiffe://bad.test/a", "GET /nowhere", "caller_banned"},
		{"sa/evil", "G(T /../", "caller_banned"},

		// Method, then target, then route.
		{"sa/web", "G(T /../", "method_malformed"},
		{"sa/web", " /public/a", "method_malformed"},
		{"sa/web", strings.Repeat("A", 33) + " /public/a", "method_malformed"},
		{"sa/web", "GET /nowhere/../x", "target_ambiguous"},
		{"sa/web", "GET x:admin", "target_form"},
		{"sa/web", "GET *", "target_form"},
		{"sa/web", "GET ", "target_form"},
		{"sa/web", "GET /public/" + strings.Repeat("a", 8<<10), "target_too_long"},
		{"sa/web", "GET /public/a?" + strings.Repeat("a", 64<<10), "target_too_long"},

		// Conditions, in their order.
		{"sa/web", "GET /ended", "grant_ended ended @ /ended"},
		{"sa/web", "GET /ended?x=1 host=x.test upgrade=websocket body=a/b", "grant_ended ended @ /ended"},
		{"sa/web", "GET /ending", "allow ending @ /ending"},
		{"sa/web", "GET /hosted host=other.test", "allow hosted @ /hosted"},
		{"sa/web", "GET /hosted host=evil.test", "host_undeclared hosted @ /hosted"},
		{"sa/web", "GET /hosted?x=1 host=evil.test upgrade=websocket", "host_undeclared hosted @ /hosted"},
		{"sa/web", "GET /hosted?x=1 upgrade=websocket body=a/b", "query_undeclared hosted @ /hosted"},
		{"sa/web", "GET /hosted upgrade=websocket body=a/b", "upgrade_undeclared hosted @ /hosted"},
		{"sa/web", "GET /ws", "allow talk @ /ws"}, // it opens the switch, and does not demand it
		{"sa/web", "GET /ws origin=https://evil.test", "allow talk @ /ws"},
		{"sa/web", "GET /ws upgrade=websocket", "allow talk @ /ws"},
		{"sa/web", "GET /ws upgrade=h2c", "upgrade_undeclared talk @ /ws"},
		{"sa/web", "GET /ws upgrade=websocket origin=https://shop.test", "origin_undeclared talk @ /ws"}, // U28
		{"sa/web", "GET /ws upgrade=h2c origin=https://shop.test", "upgrade_undeclared talk @ /ws"},
		{"sa/web", "GET /ws/page upgrade=websocket origin=https://shop.test", "allow page @ /ws/page"},
		{"sa/web", "GET /ws upgrade=websocket body=a/b", "body_undeclared talk @ /ws"},
		{"sa/web", "GET /hosted body=a/b", "body_undeclared hosted @ /hosted"},
		{"sa/web", "POST /orders", "allow create @ /orders"},
		{"sa/web", "POST /orders body=anything/goes", "allow create @ /orders"},
		{"sa/web", "DELETE /orders body=a/b", "allow purge @ /orders"},
		{"sa/web", "OPTIONS * body=a/b", "body_undeclared star @ *"},
		{"sa/admin", "POST /admin/x body=application/json;charset=utf-8", "allow admin @ /admin/**"},
		{"sa/admin", "GET /admin/x body=TEXT/plain", "allow admin @ /admin/**"},
		{"sa/admin", "POST /admin/x body=text/html", "body_type admin @ /admin/**"},
		{"sa/admin", "POST /admin/x body=", "body_type admin @ /admin/**"},
		{"sa/admin", "POST /admin/x", "allow admin @ /admin/**"},

		// The first that fully matches; else the first that came near.
		{"sa/web", "PUT /orders?v=1", "allow replace @ /orders"},
		{"sa/web", "PUT /orders?x=1", "grant_ended replaced @ /orders"},

		// A shadow grant is told of, and grants nothing.
		{"sa/web", "GET /trial/1", "allow trial-real @ /trial/1 ~ trial"},
		{"sa/web", "GET /trial/2", "route_undeclared ~ trial"},
		{"sa/web", "GET /trials/1", "route_undeclared ~ second-trial"},
		{"sa/web", "GET /trial/1?x=1", "query_undeclared trial-real @ /trial/1"},
		{"sa/web", "GET /orders/7?page=1&page=2", "query_repeated order @ /orders/{id}"},

		// Q: the query.
		{"sa/web", "GET /orders/7?expand=1&page=2", "allow order @ /orders/{id}"},
		{"sa/web", "GET /orders/7?page=2&expand=1+2%20%2B", "allow order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?", "allow order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?%65xpand", "allow order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?expand=1%3Bb=2", "allow order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?expand=1%26b=2", "allow order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?expand=1;b=2", "query_malformed order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?Expand=1", "query_undeclared order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?expand%00=1", "query_undeclared order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?expand[]=1", "query_undeclared order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?expand.x=1", "query_undeclared order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?+expand=1", "query_undeclared order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?=1", "query_undeclared order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?expand=1&%65xpand=2", "query_repeated order @ /orders/{id}"},
		{"sa/web", "GET /tags?tag=1&page=1&t%61g=2", "allow tags @ /tags"},
		{"sa/web", "GET /tags?tag=1&page=1&tag=2&page=2", "query_repeated tags @ /tags"},
		{"sa/web", "GET /orders/8?x=1&page=%", "query_malformed order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?page=%zz", "query_malformed order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?page=1&", "query_malformed order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?page=1#x", "query_malformed order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?page=\xff", "query_malformed order @ /orders/{id}"},
		{"sa/web", "GET /orders/8?" + strings.Repeat("page=1&", 300) + "x=1", "query_malformed order @ /orders/{id}"},

		// P: the path.
		{"sa/web", "GET /ADMIN/x", "route_undeclared"},
		{"sa/web", "GET /Public/x", "route_undeclared"},
		{"sa/web", "GET /%61dmin/x", "caller_undeclared @ /admin/**"},
		{"sa/admin", "GET /%61dmin/x", "allow admin @ /admin/**"},
		{"sa/admin", "GET /%41dmin/x", "route_undeclared"},
		{"sa/web", "GET /api/a/b/x", "route_undeclared"},
		{"sa/web", "GET /api/a/x", "route_undeclared"},
		{"sa/web", "GET /api/*/x", "allow literal @ /api/*/x"},
		{"sa/web", "GET /api//x", "target_ambiguous"},
		{"sa/web", "GET /api/%2F/x", "target_ambiguous"},
		{"sa/web", "GET /v1.0/x", "allow dots @ /v1.0/x"},
		{"sa/web", "GET /v1a0/x", "route_undeclared"},
		{"sa/web", "GET /admin%3Fx=1", "route_undeclared"},
		{"sa/web", "GET /public/a%3Bb%40c%3Ad%2Ce", "allow public @ /public/**"},
	} {
		r := ask(c.caller, c.line)
		if got := show(s.Decide(now, r, nil)); got != c.want {
			t.Errorf("%s: %.80s:\n got %s\nwant %s", c.caller, c.line, got, c.want)
		}
		if got := show(s.Decide(now, r, &policy.Trace{})); got != c.want {
			t.Errorf("%s: %.80s: traced:\n got %s\nwant %s", c.caller, c.line, got, c.want)
		}
		if n := testing.AllocsPerRun(20, func() { s.Decide(now, r, nil) }); n != 0 && canonical(r.Path) {
			t.Errorf("%s: %.80s: %v allocations", c.caller, c.line, n)
		}
	}
}

func canonical(path string) bool {
	return !strings.Contains(path, "%61") && !strings.Contains(path, "%41")
}

// What is forwarded is what was judged.
func TestDecide_PathIsTheCanonicalOne(t *testing.T) {
	s := compile(t, rich)
	for path, want := range map[string]string{
		"/public/a":                           "/public/a",
		"/%70ublic/%7ea%c3%a9":                "/public/~a%C3%A9",
		"/public/a%3Bb%40c%3Ad%2Ce":           "/public/a%3Bb%40c%3Ad%2Ce",
		"/nowhere/%61":                        "/nowhere/a",
		"/public/../admin":                    "",
		"/public/" + strings.Repeat("a", 1e4): "",
	} {
		if d := s.Decide(now, ask("sa/web", "GET "+path), nil); d.Path != want {
			t.Errorf("%.40s: forwarded as %q", path, d.Path)
		}
	}
}

func TestX48_CallersAreComparedWholly(t *testing.T) {
	s := compile(t, header+`
  - {name: all, from: spiffe://td.test/**, to: GET /all}
  - {name: web, from: spiffe://td.test/ns/a/sa/web, to: GET /web}
  - {name: dot, from: spiffe://td.test/sa/a.b, to: GET /dot}
`)
	for _, c := range []struct{ caller, line, want string }{
		{"spiffe://td.test/x", "GET /all", "allow all @ /all"},
		{"spiffe://td.test.evil/x", "GET /all", "caller_undeclared @ /all"},
		{"spiffe://td.testx/x", "GET /all", "caller_undeclared @ /all"},
		{"spiffe://td.test/ns/a/sa/web", "GET /web", "allow web @ /web"},
		{"spiffe://td.test/ns/a/sa/web/admin", "GET /web", "caller_undeclared @ /web"},
		{"spiffe://td.test/ns/a/sa/Web", "GET /web", "caller_undeclared @ /web"},
		{"spiffe://td.test/ns/a/sa/web-admin", "GET /web", "caller_undeclared @ /web"},
		{"spiffe://td.test/sa/a.b", "GET /dot", "allow dot @ /dot"},
		{"spiffe://td.test/sa/axb", "GET /dot", "caller_undeclared @ /dot"},
	} {
		if got := show(s.Decide(now, ask(c.caller, c.line), nil)); got != c.want {
			t.Errorf("%s: %s: %s, want %s", c.caller, c.line, got, c.want)
		}
	}
}

func TestDecide_ZeroValuesRefuse(t *testing.T) {
	r := ask("sa/web", "GET /public/a")
	var none *policy.Snapshot
	var noCall *policy.CallRule
	for name, d := range map[string]policy.Decision{
		"nil snapshot":  none.Decide(now, r, nil),
		"zero snapshot": new(policy.Snapshot).Decide(now, r, nil),
		"nil call":      noCall.Decide(now, r, nil),
		"zero call":     new(policy.CallRule).Decide(now, r, nil),
	} {
		if d != (policy.Decision{}) || d.Verdict != policy.Deny || d.Reason != policy.NoPolicy {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if none.Call("x") != nil {
		t.Error("a nil snapshot has a call")
	}
	s := compile(t, rich)
	if d := s.Decide(now, &policy.Request{}, nil); d.Verdict != policy.Deny || d.Reason != policy.PeerUnverified {
		t.Errorf("zero request: %+v", d)
	}
}

func TestDecide_PanicIsADenial(t *testing.T) {
	s := compile(t, rich)
	if d := s.Decide(now, nil, nil); d != (policy.Decision{Reason: policy.EvaluatorPanic}) {
		t.Errorf("%+v", d)
	}
	if d := compile(t, calling).Call("orders").Decide(now, nil, nil); d != (policy.Decision{Reason: policy.EvaluatorPanic}) {
		t.Errorf("%+v", d)
	}
}

const calling = `service: spiffe://td.test/app
calls:
  orders:
    as: spiffe://td.test/orders
    at: orders.test:8443
    local: 127.0.0.1:9001
    allow: ["GET /orders/{id}", POST /orders]
    timeout: 2s
`

func TestCall_DecidesByRouteAlone(t *testing.T) {
	s := compile(t, calling)
	call := s.Call("orders")
	if call == nil || s.Call("other") != nil {
		t.Fatal("calls are not found by name")
	}
	if call.As.String() != "spiffe://td.test/orders" || call.Timeout != 2*time.Second || call.BodyMax != -1 {
		t.Errorf("%+v", call)
	}
	for _, c := range []struct{ line, want string }{
		{"GET /orders/7", "allow orders @ /orders/{id}"},
		{"GET /orders/7?any=1&any=2 host=x", "allow orders @ /orders/{id}"},
		{"POST /orders body=a/b", "allow orders @ /orders"},
		{"DELETE /orders/7", "route_undeclared"},
		{"GET /orders/../x", "target_ambiguous"},
		{"GET /orders/7?a;b", "query_malformed orders @ /orders/{id}"},
		{"GET /orders/7 upgrade=websocket", "upgrade_undeclared orders @ /orders/{id}"},
		{"G(T /", "method_malformed"},
	} {
		r := ask("", c.line)
		if got := show(call.Decide(now, r, nil)); got != c.want {
			t.Errorf("%s: %s, want %s", c.line, got, c.want)
		}
		if n := testing.AllocsPerRun(20, func() { call.Decide(now, r, nil) }); n != 0 {
			t.Errorf("%s: %v allocations", c.line, n)
		}
	}
	open := compile(t, calling+"    upgrade: websocket\n").Call("orders")
	for line, want := range map[string]string{
		"GET /orders/7": "allow orders @ /orders/{id}",
		"GET /orders/7 upgrade=websocket origin=https://shop.test": "allow orders @ /orders/{id}", // whom we call judges it
		"GET /orders/7 upgrade=h2c":                                "upgrade_undeclared orders @ /orders/{id}",
	} {
		if got := show(open.Decide(now, ask("", line), nil)); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	if d := s.Decide(now, ask("sa/web", "GET /orders/7"), nil); d.Reason != policy.RouteUndeclared {
		t.Errorf("a service that only calls answers: %s", show(d))
	}
}
