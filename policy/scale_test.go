package policy_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy"
)

// A shape is a way for a policy to be large, and a request for its last grant.
var shapes = []struct {
	name  string
	grant func(i int) oracleGrant
	ask   func(n int) *policy.Request
}{
	{"distinct routes", func(i int) oracleGrant {
		return oracleGrant{from: []string{"spiffe://td/web"}, to: []string{fmt.Sprintf("GET /service%d/orders", i)}}
	}, func(n int) *policy.Request { return ask("spiffe://td/web", fmt.Sprintf("GET /service%d/orders", n-1)) }},
	{"callers of one route", func(i int) oracleGrant {
		return oracleGrant{from: []string{fmt.Sprintf("spiffe://td/ns/shop/sa/web%d", i)}, to: []string{"GET /orders"}}
	}, func(n int) *policy.Request {
		return ask(fmt.Sprintf("spiffe://td/ns/shop/sa/web%d", n-1), "GET /orders")
	}},
	{"parameters and wildcards", func(i int) oracleGrant {
		return oracleGrant{
			from: []string{fmt.Sprintf("spiffe://td/team%d/**", i%100)},
			to:   []string{fmt.Sprintf("GET /service%d/{x}/items/{y:int}", i), fmt.Sprintf("GET /service%d/files/**", i)},
		}
	}, func(n int) *policy.Request {
		return ask(fmt.Sprintf("spiffe://td/team%d/web", (n-1)%100), fmt.Sprintf("GET /service%d/abc/items/7", n-1))
	}},
}

func large(t testing.TB, n int, grant func(i int) oracleGrant) *policy.Spec {
	var p oraclePolicy
	for i := range n {
		g := grant(i)
		g.name = fmt.Sprintf("g%d", i)
		p.grants = append(p.grants, g)
	}
	return p.spec(t)
}

func compileSpec(t testing.TB, spec *policy.Spec) *policy.Snapshot {
	s, err := policy.Compile(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What is looked at is counted, not timed.
func TestDecide_LooksAtNoMoreInALargerPolicy(t *testing.T) {
	for _, shape := range shapes {
		visited, steps := 0, 0
		for _, n := range []int{10, 1000, 10000} {
			s := compileSpec(t, large(t, n, shape.grant))
			var trace policy.Trace
			if d := s.Decide(now, shape.ask(n), &trace); d.Verdict != policy.Allow || d.Grant.Index != n-1 {
				t.Fatalf("%s: of %d grants: %s", shape.name, n, show(d))
			}
			if visited > 0 && (trace.Visited != visited || len(trace.Steps) != steps) {
				t.Errorf("%s: of %d grants %d places and %d steps, of fewer %d and %d",
					shape.name, n, trace.Visited, len(trace.Steps), visited, steps)
			}
			visited, steps = trace.Visited, len(trace.Steps)
		}
		if visited == 0 {
			t.Errorf("%s: nothing was counted", shape.name)
		}
	}
}

// P28: a long path costs at most one place for each of its segments, and is
// refused by its length before that.
func TestP28_LongPathsStayLinear(t *testing.T) {
	// The longest template first, so that none is unreachable.
	s := compileSpec(t, large(t, 1000, func(i int) oracleGrant {
		return oracleGrant{from: []string{"spiffe://td/web"}, to: []string{"GET " + strings.Repeat("/a", 1000-i) + "/**"}}
	}))
	for _, c := range []struct {
		segments, most int
		want           policy.Reason
	}{
		{2, 2, policy.Allowed}, {500, 500, policy.Allowed}, {1000, 1000, policy.Allowed},
		{2000, 1001, policy.Allowed}, {4000, 1001, policy.Allowed}, {20000, 0, policy.TargetTooLong},
	} {
		var trace policy.Trace
		d := s.Decide(now, ask("spiffe://td/web", "GET "+strings.Repeat("/a", c.segments)), &trace)
		if d.Reason != c.want || trace.Visited > c.most {
			t.Errorf("%d segments: %s after %d places", c.segments, d.Reason, trace.Visited)
		}
	}
}

// A template that differs in one type only opens no more ways through the index
// than the policy has templates.
func TestDecide_AmbiguousTemplatesDoNotMultiply(t *testing.T) {
	kinds := []string{"a", "{x%d}", "{x%d:ab}"}
	s := compileSpec(t, large(t, 300, func(i int) oracleGrant {
		path := ""
		for depth := range 10 {
			kind := kinds[(i/(depth+1)+i*depth)%len(kinds)]
			if strings.Contains(kind, "%") {
				kind = fmt.Sprintf(kind, depth)
			}
			path += "/" + kind
		}
		return oracleGrant{from: []string{fmt.Sprintf("spiffe://td/w%d", i)}, to: []string{"GET " + path}}
	}))
	var trace policy.Trace
	s.Decide(now, ask("spiffe://td/w1", "GET "+strings.Repeat("/a", 10)), &trace)
	if trace.Visited == 0 || trace.Visited > 300*10+1 {
		t.Errorf("%d places", trace.Visited)
	}
}

// C25: whatever no grant covers is denied, whoever asks.
func TestC25_WhatIsNotCoveredIsDenied(t *testing.T) {
	s := compile(t, rich)
	random := rand.New(rand.NewPCG(25, 25))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	segment := func() string {
		return pick("public", "admin", "orders", "7", "lines", "..", "%2e", "%61dmin", "a b", "", "ADMIN", "api", "*", "**", "x;y", "%00", "ended")
	}
	denied := 0
	for range 10_000 {
		caller := pick("sa/web", "sa/admin", "sa/other", "spiffe://td.test.evil/sa/web", "spiffe://other.test/sa/admin", "spiffe://partner.test/shop", "sa/web/x", "sa/evil")
		r := &policy.Request{
			Caller: ask(caller, "GET /").Caller,
			Method: pick("GET", "POST", "PUT", "PATCH", "HEAD", "DELETE", "OPTIONS", "get", "TRACE", "CONNECT", ""),
			Path:   "/" + segment() + "/" + segment() + "/" + segment(),
			Query:  pick("", "x=1", "expand=1;y", "%"),
			Host:   pick("app.test", "evil.test", ""),
		}
		if random.IntN(4) == 0 {
			r.Path = "/" + segment()
		}
		if covered(r) {
			continue
		}
		denied++
		if d := s.Decide(now, r, nil); d.Verdict != policy.Deny || d.Reason == policy.Allowed || d.Reason == policy.EvaluatorPanic {
			t.Fatalf("%+v: %s", r, show(d))
		}
	}
	if denied < 5000 {
		t.Errorf("only %d requests were not covered", denied)
	}
}

// covered is generous: whatever a reader of the rich policy might think that it
// allows to these callers.
func covered(r *policy.Request) bool {
	path := strings.ReplaceAll(r.Path, "%61", "a")
	id := r.Caller.String()
	web, admin := id == "spiffe://td.test/sa/web", id == "spiffe://td.test/sa/admin"
	switch {
	case r.Method == "GET" && strings.HasPrefix(path, "/public/"):
		return r.Caller.TrustDomain().Name() == "td.test"
	case strings.HasPrefix(path, "/admin/"):
		return admin && (r.Method == "GET" || r.Method == "POST")
	}
	return web && (strings.HasPrefix(path, "/orders") || strings.HasPrefix(path, "/api/"))
}

func BenchmarkDecide(b *testing.B) {
	for _, shape := range shapes {
		for _, n := range []int{10, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(shape.name, " ", "-"), n), func(b *testing.B) {
				s := compileSpec(b, large(b, n, shape.grant))
				// Not always the same one, which the processor would know by heart.
				requests := make([]*policy.Request, 1000)
				for i := range requests {
					requests[i] = shape.ask(1 + i*7919%n)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if s.Decide(now, requests[i%len(requests)], nil).Verdict != policy.Allow {
						b.Fatal("denied")
					}
				}
			})
		}
	}
	b.Run("denied/10000", func(b *testing.B) {
		s, r := compileSpec(b, large(b, 10000, shapes[0].grant)), ask("spiffe://td/web", "GET /nowhere/at/all")
		b.ReportAllocs()
		for b.Loop() {
			s.Decide(now, r, nil)
		}
	})
}

func BenchmarkCompile10000(b *testing.B) {
	for _, shape := range shapes {
		b.Run(strings.ReplaceAll(shape.name, " ", "-"), func(b *testing.B) {
			before := heap()
			spec := large(b, 10000, shape.grant)
			var s *policy.Snapshot
			for b.Loop() {
				s = compileSpec(b, spec)
			}
			b.StopTimer()
			// With the spec, parts of which the snapshot keeps.
			b.ReportMetric(float64(heap()-before), "B/retained")
			runtime.KeepAlive(s)
			runtime.KeepAlive(spec)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Whatever arrives, the evaluator answers, agrees with the oracle and says the
// same with a trace.
func FuzzDecide(f *testing.F) {
	p := oraclePolicy{ban: []string{"spiffe://td/evil/**"}, grants: []oracleGrant{
		{name: "a", from: []string{"spiffe://td/**"}, to: []string{"GET /public/**", "OPTIONS *"}},
		{name: "b", from: []string{"spiffe://td/a"}, to: []string{"GET /o/{x}", "POST /o/{x:int}/y"}, query: []string{"p", "r+"}, host: []string{"a.test"}},
		{name: "c", from: []string{"spiffe://td/a/**"}, to: []string{"POST /o/{x:uuid}", "GET /o/{x:ab}/"}, body: true, types: []string{"a/b"}},
		{name: "d", from: []string{"spiffe://td/a"}, to: []string{"GET /o/{x:ab}"}, shadow: true},
	}}
	s := compileSpec(f, p.spec(f))
	f.Add("spiffe://td/a", "GET", "/o/7", "p=1", "a.test", "", "")
	f.Add("spiffe://td/a/b", "POST", "/o/123e4567-e89b-12d3-a456-426614174000", "", "", "a/b", "")
	f.Add("spiffe://td/evil/x", "GET", "/public/%61", "a;b", "", "", "websocket")
	f.Add("", "OPTIONS", "*", "r&r", "", "a/b", "")
	f.Fuzz(func(t *testing.T, caller, method, path, query, host, contentType, upgrade string) {
		r := &policy.Request{Method: method, Path: path, Query: query, Host: host, ContentType: contentType, Body: contentType != "", Upgrade: upgrade}
		r.Caller, _ = spiffeid.FromString(caller)
		d := s.Decide(now, r, nil)
		if got, want := show(d), p.answer(now, r); got != want {
			t.Fatalf("%+v: %s, want %s", r, got, want)
		}
		e := policy.Explain(s, now, r)
		if show(e.Decision) != show(d) || e.Decision.Path != d.Path {
			t.Fatalf("%+v: explained as %s, decided as %s", r, show(e.Decision), show(d))
		}
		if d.Verdict == policy.Deny && d.Path != "" && (e.Nearest == nil || len(e.Missing) == 0) {
			t.Fatalf("%+v: %s, but nothing is missing", r, show(d))
		}
	})
}
