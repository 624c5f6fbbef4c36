package policy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

// Small alphabets: whatever can collide should.
var (
	someIDs      = []string{"spiffe://td/a", "spiffe://td/a/b", "spiffe://td/a/b/c", "spiffe://td/ab", "spiffe://td/b", "spiffe://tda/a", "spiffe://t/a"}
	somePatterns = append([]string{"spiffe://td/**", "spiffe://td/a/**", "spiffe://td/a/b/**", "spiffe://t/**"}, someIDs...)
	someMethods  = []string{"GET", "POST", "DELETE", "OPTIONS", "get", "G(T"}
	someSegments = []string{"a", "b", "ab", "7", "07", "*", "A", "a%3Fb", "%C3%A9", "123e4567-e89b-12d3-a456-426614174000"}
	someParams   = []string{"{x}", "{x:int}", "{x:uuid}", "{x:ab}"}
	someNoise    = []string{"..", ".", "%2e", "%61", "%2F", "%5c", "a;b", "%00", "%", "a%20", "%25%34%31", "%c3", "a#b", "é", "a b", "%3f"}
	someQuery    = []string{"p", "q=1", "p=1", "%70=2", "r", "P=1", "p+", "p%20=", "=", "", "a;b", "%", "p[]=1"}
	someHosts    = []string{"a.test", "b.test"}
	someTypes    = []string{"a/b", "text/html"}
	someHours    = []string{"11:59-12:00", "12:00-12:01", "12:00-24:00", "13:00-12:01", "23:00-01:00", "00:00-24:00", "12:01-00:00"}
	someDays     = []string{"Wed", "Tue", "TueWed", "SunMonTueWedThuFriSat", "Thu"}
	someZones    = []string{"UTC", "Europe/Madrid", "Asia/Tokyo", "Pacific/Auckland"}
	someNetworks = []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "fd00::/8", "::/0", "0.0.0.0/0"}
	someSources  = []string{"10.1.2.3", "10.2.0.1", "11.0.0.1", "fd00::1", "::ffff:10.1.2.3", "2001:db8::1"}
)

func drawGrant(t *rapid.T, i int) oracleGrant {
	g := oracleGrant{name: fmt.Sprintf("g%d", i)}
	g.from = rapid.SliceOfNDistinct(rapid.SampledFrom(somePatterns), 1, 3, rapid.ID[string]).Draw(t, "from")
	routes := rapid.Custom(drawRoute)
	g.to = rapid.SliceOfNDistinct(routes, 1, 3, rapid.ID[string]).Draw(t, "to")
	if rapid.IntRange(0, 4).Draw(t, "ends") == 0 {
		g.until = now.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "until")) * time.Second)
	}
	if rapid.IntRange(0, 3).Draw(t, "timed") == 0 {
		g.hours = rapid.SampledFrom(someHours).Draw(t, "hours")
		g.days = rapid.SampledFrom(someDays).Draw(t, "days")
		g.zone = rapid.SampledFrom(someZones).Draw(t, "zone")
	}
	if rapid.IntRange(0, 4).Draw(t, "networked") == 0 {
		g.cidr = rapid.SliceOfNDistinct(rapid.SampledFrom(someNetworks), 1, 2, rapid.ID[string]).Draw(t, "cidr")
	}
	if rapid.IntRange(0, 4).Draw(t, "hosted") == 0 {
		g.host = rapid.SliceOfNDistinct(rapid.SampledFrom(someHosts), 1, 2, rapid.ID[string]).Draw(t, "host")
	}
	if rapid.Bool().Draw(t, "asks") {
		g.query = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"p", "q", "r+", "p "}), 1, 3, rapid.ID[string]).Draw(t, "query")
	}
	if g.body = rapid.IntRange(0, 2).Draw(t, "bodied") == 0; g.body {
		g.types = rapid.SliceOfNDistinct(rapid.SampledFrom(someTypes), 0, 2, rapid.ID[string]).Draw(t, "types")
	}
	g.shadow = rapid.IntRange(0, 5).Draw(t, "shadow") == 0
	g.origin = rapid.IntRange(0, 2).Draw(t, "origin") == 0
	isGet := func(to string) bool { return strings.HasPrefix(to, "GET ") }
	g.ws = slices.ContainsFunc(g.to, isGet) && rapid.Bool().Draw(t, "upgrades")
	return g
}

func drawRoute(t *rapid.T) string {
	method := rapid.SampledFrom(someMethods[:5]).Draw(t, "method")
	if method == "OPTIONS" && rapid.IntRange(0, 3).Draw(t, "asterisk") == 0 {
		return "OPTIONS *"
	}
	segments := rapid.SliceOfN(rapid.SampledFrom(append(slices.Clone(someSegments[:7]), someParams...)), 0, 3).Draw(t, "template")
	end := rapid.SampledFrom([]string{"", "", "/", "/**"}).Draw(t, "end")
	seen := 0
	for i, s := range segments {
		if strings.HasPrefix(s, "{x") {
			segments[i] = strings.Replace(s, "x", fmt.Sprintf("x%d", seen), 1)
			seen++
		}
	}
	path := "/" + strings.Join(segments, "/") + end
	if len(segments) == 0 {
		path = end
		if end == "" {
			path = "/"
		}
	}
	return method + " " + path
}

func drawPolicy(t *rapid.T) oraclePolicy {
	p := oraclePolicy{ban: rapid.SliceOfN(rapid.SampledFrom(somePatterns[3:]), 0, 1).Draw(t, "ban")}
	for i := range rapid.IntRange(1, 8).Draw(t, "grants") {
		p.grants = append(p.grants, drawGrant(t, i))
	}
	return p
}

func drawRequest(t *rapid.T, p oraclePolicy) *policy.Request {
	r := &policy.Request{
		Method: rapid.SampledFrom(someMethods).Draw(t, "method"),
		Host:   rapid.SampledFrom(append([]string{"", "c.test"}, someHosts...)).Draw(t, "host"),
		Query:  strings.Join(rapid.SliceOfN(rapid.SampledFrom(someQuery), 0, 3).Draw(t, "query"), "&"),
		Body:   rapid.Bool().Draw(t, "body"),
	}
	if rapid.IntRange(0, 9).Draw(t, "sourceless") != 0 {
		r.Source = netip.MustParseAddr(rapid.SampledFrom(someSources).Draw(t, "source"))
	}
	if rapid.IntRange(0, 30).Draw(t, "anonymous") != 0 {
		r.Caller = spiffeid.RequireFromString(rapid.SampledFrom(someIDs).Draw(t, "caller"))
	}
	if r.Body {
		r.ContentType = rapid.SampledFrom([]string{"", "a/b", "A/B; x=y", "text/html", "x/y"}).Draw(t, "type")
	}
	if rapid.IntRange(0, 9).Draw(t, "upgraded") == 0 {
		r.Upgrade = rapid.SampledFrom([]string{"websocket", "websocket", "h2c"}).Draw(t, "protocol")
	}
	r.Origin = rapid.SampledFrom([]string{"", "", "https://a.test", "null"}).Draw(t, "page")
	r.Path = "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(someSegments), 0, 4).Draw(t, "path"), "/")
	switch rapid.IntRange(0, 9).Draw(t, "aim") {
	case 0:
		r.Path += rapid.SampledFrom([]string{"/", "//", "*", ""}).Draw(t, "end")
	case 1:
		r.Path += "/" + rapid.SampledFrom(someNoise).Draw(t, "noise")
	case 2:
		r.Path = rapid.SampledFrom([]string{"*", "", "x:a", "/%61", "/%41/a"}).Draw(t, "odd")
	case 3:
	default:
		aim(t, r, p)
	}
	return r
}

// aim makes it likely that the request is for one of the routes.
func aim(t *rapid.T, r *policy.Request, p oraclePolicy) {
	g := rapid.SampledFrom(p.grants).Draw(t, "grant")
	to := rapid.SampledFrom(g.to).Draw(t, "route")
	var path string
	r.Method, path, _ = strings.Cut(to, " ")
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if s == "**" || strings.HasPrefix(s, "{") {
			segments[i] = rapid.SampledFrom(someSegments).Draw(t, "value")
		}
	}
	r.Path = strings.Join(segments, "/")
	if rapid.IntRange(0, 2).Draw(t, "fits") > 0 {
		fit(t, r, g)
	}
}

// fit makes it likely that the request has what the grant asks for.
func fit(t *rapid.T, r *policy.Request, g oracleGrant) {
	from := rapid.SampledFrom(g.from).Draw(t, "fitting caller")
	r.Caller = spiffeid.RequireFromString(strings.Replace(from, "**", rapid.SampledFrom([]string{"a", "b", "x/y"}).Draw(t, "below"), 1))
	r.Query, r.Upgrade, r.Body = "", "", g.body
	if g.ws && rapid.Bool().Draw(t, "with upgrade") {
		r.Upgrade = "websocket"
	}
	if g.origin {
		r.Origin = rapid.SampledFrom([]string{"", "https://a.test"}).Draw(t, "fitting page")
	}
	if len(g.query) > 0 && rapid.Bool().Draw(t, "with query") {
		r.Query = strings.ReplaceAll(strings.TrimSuffix(g.query[0], "+"), " ", "+") + "=1"
	}
	if len(g.types) > 0 {
		r.ContentType = g.types[0]
	}
	if len(g.host) > 0 {
		r.Host = g.host[0]
	}
	if len(g.cidr) > 0 {
		r.Source = netip.MustParsePrefix(g.cidr[0]).Addr()
	}
}

// spec is the policy as the evaluator gets it; grant i stands in line i+1.
func (p oraclePolicy) spec(t testing.TB) *policy.Spec {
	ab, err := match.CompileType("ab", "[ab]+")
	check(t, err)
	types := map[string]match.Type{"ab": ab}
	spec := &policy.Spec{
		File: "random", Service: spiffeid.RequireFromString("spiffe://td/app"),
		App: &policy.App{Kind: policy.AppHTTP, Network: "tcp", Address: "127.0.0.1:80"},
	}
	for _, text := range p.ban {
		caller, err := match.ParseCaller(text)
		check(t, err)
		spec.Ban = append(spec.Ban, policy.Ban{ID: caller})
	}
	for i, g := range p.grants {
		grant := policy.Grant{Pos: policy.Pos{File: "random", Line: i + 1, Col: 1}, Name: g.name, Shadow: g.shadow}
		for _, text := range g.from {
			caller, err := match.ParseCaller(text)
			check(t, err)
			grant.From = append(grant.From, policy.Caller{Pos: grant.Pos, Pattern: caller})
		}
		for _, text := range g.to {
			if text == "tcp" {
				spec.App.Kind = policy.AppTCP
				grant.To = append(grant.To, policy.Route{Pos: grant.Pos, TCP: true})
				continue
			}
			method, template, _ := strings.Cut(text, " ")
			path, err := match.ParsePath(template, types)
			check(t, err)
			grant.To = append(grant.To, policy.Route{Pos: grant.Pos, Method: method, Path: path})
		}
		for _, name := range g.query {
			name, repeated := strings.CutSuffix(name, "+")
			grant.Query = append(grant.Query, policy.Input{Name: name, Repeated: repeated})
		}
		for _, host := range g.host {
			grant.Host = append(grant.Host, policy.Text{Text: host})
		}
		if !g.until.IsZero() {
			grant.Until = &policy.Until{Time: g.until}
		}
		if g.hours != "" || g.cidr != nil {
			grant.When = g.when(t)
		}
		if g.ws {
			grant.Upgrade = &policy.Text{Pos: grant.Pos, Text: "websocket"}
		}
		if g.origin {
			grant.Headers = []policy.Input{{Name: "origin"}}
		}
		if g.body {
			grant.Body = &policy.BodyRule{Types: g.types}
		}
		spec.Allow = append(spec.Allow, grant)
	}
	return spec
}

// when is the window as the parser reads it: what it makes of text is for its own
// tests.
func (g oracleGrant) when(t testing.TB) *policy.When {
	when := &policy.When{Zone: g.zone}
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.Contains(g.days, day.String()[:3]) {
			when.Days = when.Days.With(day)
		}
	}
	if g.hours != "" {
		minutes := func(clock string) int {
			var hour, minute int
			_, err := fmt.Sscanf(clock, "%d:%d", &hour, &minute)
			check(t, err)
			return 60*hour + minute
		}
		when.Hours = policy.Hours{From: minutes(g.hours[:5]), To: minutes(g.hours[6:])}
	}
	for _, network := range g.cidr {
		when.CIDR = append(when.CIDR, netip.MustParsePrefix(network))
	}
	return when
}

func check(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

// reachable compiles p without the grants that Compile says can never decide,
// and returns both; it is nil where there is another problem.
func reachable(t testing.TB, p oraclePolicy) (oraclePolicy, *policy.Snapshot) {
	for {
		s, err := policy.Compile(p.spec(t), nil)
		if err == nil {
			return p, s
		}
		var problems policy.Problems
		if !errors.As(err, &problems) {
			t.Fatal(err)
		}
		bad := map[int]bool{}
		for _, problem := range problems {
			if !strings.Contains(problem.What, "can never decide") {
				t.Fatal(problem)
			}
			bad[problem.Pos.Line-1] = true
		}
		var kept []oracleGrant
		for i, g := range p.grants {
			if !bad[i] {
				kept = append(kept, g)
			}
		}
		if p.grants = kept; len(kept) == 0 {
			return p, nil
		}
	}
}

func TestDecide_AgreesWithTheOracle(t *testing.T) {
	allowed := 0
	rapid.Check(t, func(rt *rapid.T) {
		p, s := reachable(t, drawPolicy(rt))
		if s == nil {
			rt.Skip("no grant is left")
		}
		for range 20 {
			r := drawRequest(rt, p)
			want := p.answer(now, r)
			if strings.HasPrefix(want, "allow") {
				allowed++
			}
			var trace policy.Trace
			if got := show(s.Decide(now, r, &trace)); got != want {
				rt.Fatalf("%+v\n%+v\n got %s\nwant %s\n%+v", p, r, got, want, trace.Steps)
			}
			if got := show(s.Decide(now, r, nil)); got != want {
				rt.Fatalf("%+v\n%+v\nuntraced: got %s\nwant %s", p, r, got, want)
			}
		}
	})
	if allowed < 200 {
		t.Errorf("only %d requests were allowed: the test aims badly", allowed)
	}
}

// Compile refuses as unreachable only what changes no decision.
func TestCompile_UnreachableGrantsChangeNothing(t *testing.T) {
	refused := 0
	rapid.Check(t, func(rt *rapid.T) {
		whole := drawPolicy(rt)
		whole.grants = append(whole.grants, narrower(rt, whole.grants))
		kept, s := reachable(t, whole)
		if s == nil || len(kept.grants) == len(whole.grants) {
			return
		}
		refused++
		for range 20 {
			r := drawRequest(rt, whole)
			at := now.Add(time.Duration(rapid.IntRange(-2, 2).Draw(rt, "hours off")) * time.Hour)
			if got, want := kept.answer(at, r), whole.answer(at, r); got != want {
				rt.Fatalf("%+v\nwithout what was refused: %+v\n%+v: %s, was %s", whole, kept, r, got, want)
			}
		}
	})
	if refused < 20 {
		t.Errorf("only %d policies had such grants: the test aims badly", refused)
	}
}

// narrower is like one of the grants, with less or as much that passes, or more.
func narrower(t *rapid.T, grants []oracleGrant) oracleGrant {
	g := rapid.SampledFrom(grants).Draw(t, "wider")
	other := drawGrant(t, len(grants))
	g.name, g.shadow = other.name, other.shadow
	switch rapid.IntRange(0, 8).Draw(t, "change") {
	case 0:
		g.to, g.ws = g.to[:1], g.ws && strings.HasPrefix(g.to[0], "GET ")
	case 1:
		g.from = g.from[:1]
	case 2:
		g.host, g.until = other.host, other.until
	case 3:
		g.query = other.query
	case 4:
		g.body, g.types = other.body, other.types
	case 6:
		g.hours, g.days, g.zone = other.hours, other.days, other.zone
	case 7:
		g.cidr = other.cidr
	case 5:
		g.ws, g.origin = g.ws && other.ws, other.origin
	}
	return g
}

// Removing a grant never opens anything, and so adding one never closes.
func TestDecide_RemovingAGrantNeverWidens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, whole := reachable(t, drawPolicy(rt))
		if whole == nil || len(p.grants) < 2 {
			return
		}
		less := p
		at := rapid.IntRange(0, len(p.grants)-1).Draw(rt, "removed")
		less.grants = slices.Delete(slices.Clone(p.grants), at, at+1)
		s, err := policy.Compile(less.spec(t), nil)
		if err != nil {
			rt.Fatalf("what is left does not compile: %v", err)
		}
		for range 20 {
			r := drawRequest(rt, p)
			if s.Decide(now, r, nil).Verdict == policy.Allow && whole.Decide(now, r, nil).Verdict != policy.Allow {
				rt.Fatalf("%+v\nwithout grant %d allows %+v", p, at, r)
			}
		}
	})
}

// A shadow grant changes nothing but what is told of it.
func TestDecide_ShadowGrantsGrantNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, with := reachable(t, drawPolicy(rt))
		if with == nil {
			return
		}
		without := p
		without.grants = slices.DeleteFunc(slices.Clone(p.grants), func(g oracleGrant) bool { return g.shadow })
		if len(without.grants) == 0 {
			return
		}
		s, err := policy.Compile(without.spec(t), nil)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		for range 20 {
			r := drawRequest(rt, p)
			d := with.Decide(now, r, nil)
			d.Shadow = nil
			if got, want := show(d), show(s.Decide(now, r, nil)); got != want {
				rt.Fatalf("%+v\n%+v: %s with, %s without shadow grants", p, r, got, want)
			}
		}
	})
}
