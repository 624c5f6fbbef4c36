package policy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/everyhop/everyhop/policy"
)

func at(t testing.TB, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	check(t, err)
	return moment
}

// Madrid goes to summer time on 29 March 2026 at 02:00, and back on 25 October at
// 03:00; 25 November is a Wednesday.
func TestWhen_GoesByTheClockOnTheWall(t *testing.T) {
	for _, c := range []struct {
		when, at string
		open     bool
	}{
		{"{days: mon-fri, hours: 08:00-18:00, zone: Europe/Madrid}", "2026-11-25T06:59:59Z", false},
		{"{days: mon-fri, hours: 08:00-18:00, zone: Europe/Madrid}", "2026-11-25T07:00:00Z", true},
		{"{days: mon-fri, hours: 08:00-18:00, zone: Europe/Madrid}", "2026-11-25T16:59:59.999Z", true},
		{"{days: mon-fri, hours: 08:00-18:00, zone: Europe/Madrid}", "2026-11-25T17:00:00Z", false},
		{"{days: mon-fri, hours: 08:00-18:00, zone: Europe/Madrid}", "2026-07-01T06:00:00Z", true}, // summer
		{"{days: mon-fri, hours: 08:00-18:00, zone: Europe/Madrid}", "2026-11-28T12:00:00Z", false},
		{"{days: sat, zone: Asia/Tokyo}", "2026-11-27T14:59:59Z", false}, // Friday there, too
		{"{days: sat, zone: Asia/Tokyo}", "2026-11-27T15:00:00Z", true},
		{"{days: 'fri-mon', zone: UTC}", "2026-11-29T00:00:00Z", true},
		{"{days: 'fri-mon', zone: UTC}", "2026-12-01T00:00:00Z", false},
		{"{days: 'mon,wed', zone: UTC}", "2026-11-25T00:00:00Z", true},
		{"{days: 'mon,wed', zone: UTC}", "2026-11-24T23:59:59Z", false},
		{"{hours: 00:00-24:00, zone: UTC}", "2026-11-25T23:59:59Z", true},

		// Past midnight: the night of Friday ends on Saturday.
		{"{days: fri, hours: 22:00-06:00, zone: UTC}", "2026-11-27T21:59:59Z", false},
		{"{days: fri, hours: 22:00-06:00, zone: UTC}", "2026-11-27T22:00:00Z", true},
		{"{days: fri, hours: 22:00-06:00, zone: UTC}", "2026-11-28T05:59:59Z", true},
		{"{days: fri, hours: 22:00-06:00, zone: UTC}", "2026-11-28T06:00:00Z", false},
		{"{days: fri, hours: 22:00-06:00, zone: UTC}", "2026-11-27T05:00:00Z", false},
		{"{days: fri, hours: 22:00-06:00, zone: UTC}", "2026-11-28T23:00:00Z", false},
		{"{hours: 22:00-00:00, zone: UTC}", "2026-11-25T23:59:59Z", true},
		{"{hours: 22:00-00:00, zone: UTC}", "2026-11-25T00:00:00Z", false},

		// An hour that is left out, and one that comes twice.
		{"{hours: 01:00-02:30, zone: Europe/Madrid}", "2026-03-29T00:59:59Z", true},
		{"{hours: 01:00-02:30, zone: Europe/Madrid}", "2026-03-29T01:00:00Z", false}, // 03:00
		{"{hours: 02:00-03:00, zone: Europe/Madrid}", "2026-10-25T00:30:00Z", true},
		{"{hours: 02:00-03:00, zone: Europe/Madrid}", "2026-10-25T01:30:00Z", true},
		{"{hours: 02:00-03:00, zone: Europe/Madrid}", "2026-10-25T02:00:00Z", false},
	} {
		s := compile(t, header+"  - {name: g, from: spiffe://td.test/web, to: GET /a, when: "+c.when+"}\n")
		want, now, r := "outside_window g @ /a", at(t, c.at), ask("web", "GET /a")
		if c.open {
			want = "allow g @ /a"
		}
		if got := show(s.Decide(now, r, nil)); got != want {
			t.Errorf("%s at %s: %s", c.when, c.at, got)
		}
		if got := show(s.Decide(now, r, &policy.Trace{})); got != want {
			t.Errorf("%s at %s: traced: %s", c.when, c.at, got)
		}
		if n := testing.AllocsPerRun(20, func() { s.Decide(now, r, nil) }); n != 0 {
			t.Errorf("%s at %s: %v allocations", c.when, c.at, n)
		}
	}
}

func TestWhen_NamesNetworks(t *testing.T) {
	for _, c := range []struct {
		cidr, source string
		open         bool
	}{
		{"10.0.0.0/8", "10.1.2.3", true},
		{"10.0.0.0/8", "11.1.2.3", false},
		{"10.0.0.0/8", "::ffff:10.1.2.3", true}, // as a socket of both families has it
		{"[10.0.0.0/8, 'fd00::/8']", "fd00::1", true},
		{"'fe80::/10'", "fe80::1%eth0", true},
		{"'::/0'", "10.1.2.3", false},
		{"0.0.0.0/0", "fd00::1", false},
		{"0.0.0.0/0", "", false}, // who comes from nowhere known comes from no network
	} {
		s := compile(t, header+"  - {name: g, from: spiffe://td.test/web, to: GET /a, when: {cidr: "+c.cidr+"}}\n")
		want, r := "source_undeclared g @ /a", ask("web", "GET /a")
		if c.open {
			want = "allow g @ /a"
		}
		if c.source != "" {
			r.Source = netip.MustParseAddr(c.source)
		}
		if got := show(s.Decide(now, r, nil)); got != want {
			t.Errorf("%s from %q: %s", c.cidr, c.source, got)
		}
		if n := testing.AllocsPerRun(20, func() { s.Decide(now, r, nil) }); n != 0 {
			t.Errorf("%s from %q: %v allocations", c.cidr, c.source, n)
		}
	}
}

// A grant that is asked again at Until is never open longer than it says.
func TestUntil_ComesNoLaterThanTheEnd(t *testing.T) {
	for _, c := range []struct{ more, at, until string }{
		{"timeout: 1s", "2026-11-25T12:00:00Z", ""},
		{"until: 2026-12-01T00:00:00Z", "2026-11-25T12:00:00Z", "2026-12-01T00:00:00Z"},
		{"when: {cidr: 10.0.0.0/8}", "2026-11-25T12:00:00Z", ""},
		{"when: {hours: 08:00-18:00, zone: UTC}", "2026-11-25T12:00:00.5Z", "2026-11-25T18:00:00Z"},
		{"when: {hours: 08:00-18:00, zone: UTC}, until: 2026-11-25T13:00:00Z", "2026-11-25T12:00:00Z", "2026-11-25T13:00:00Z"},
		{"when: {hours: 08:00-18:00, zone: UTC}, until: 2026-11-25T19:00:00Z", "2026-11-25T12:00:00Z", "2026-11-25T18:00:00Z"},
		{"when: {hours: 22:00-06:00, zone: UTC}", "2026-11-25T23:00:01Z", "2026-11-26T00:00:00Z"}, // asked once more then
		{"when: {hours: 22:00-06:00, zone: UTC}", "2026-11-26T00:00:00Z", "2026-11-26T06:00:00Z"},
		{"when: {days: wed, zone: UTC}", "2026-11-25T12:00:00Z", "2026-11-26T00:00:00Z"},
		{"when: {hours: 01:00-02:30, zone: Europe/Madrid}", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"},
		{"when: {hours: 02:00-02:30, zone: Europe/Madrid}", "2026-10-25T00:10:00Z", "2026-10-25T00:30:00Z"},
		{"when: {hours: 02:00-03:00, zone: Europe/Madrid}", "2026-10-25T00:10:00Z", "2026-10-25T01:00:00Z"},
	} {
		s := compile(t, header+"  - {name: g, from: spiffe://td.test/web, to: GET /a, "+c.more+"}\n")
		got := s.Grants[0].Until(at(t, c.at))
		if c.until == "" && !got.IsZero() || c.until != "" && !got.Equal(at(t, c.until)) {
			t.Errorf("%s at %s: until %s", c.more, c.at, got)
		}
	}
}

func TestCompile_WindowsThatCover(t *testing.T) {
	for _, c := range []struct {
		first, second string
		unreachable   bool
	}{
		{"cidr: 10.0.0.0/8", "cidr: 10.1.0.0/16", true},
		{"cidr: 10.1.0.0/16", "cidr: 10.0.0.0/8", false},
		{"cidr: 10.0.0.0/8", "cidr: [10.1.0.0/16, 11.0.0.0/8]", false},
		{"cidr: 10.0.0.0/8", "hours: 08:00-09:00, zone: UTC", false},
		{"hours: 08:00-18:00, zone: UTC", "hours: 09:00-10:00, zone: UTC", true},
		{"hours: 08:00-18:00, zone: UTC", "hours: 09:00-10:00, days: mon, zone: UTC", true},
		{"hours: 08:00-18:00, zone: UTC", "hours: 09:00-10:00, zone: UTC, cidr: 10.0.0.0/8", true},
		{"hours: 08:00-18:00, zone: UTC", "hours: 09:00-18:01, zone: UTC", false},
		{"hours: 08:00-18:00, zone: UTC", "hours: 09:00-10:00, zone: Europe/London", false},
		{"hours: 08:00-18:00, zone: UTC", "cidr: 10.0.0.0/8", false},
		{"hours: 00:00-24:00, zone: UTC", "cidr: 10.0.0.0/8", true},
		{"hours: 00:00-24:00, zone: UTC", "days: mon, zone: Europe/Madrid", true},
		{"days: fri-sat, zone: UTC", "days: fri, hours: 22:00-06:00, zone: UTC", true},
		{"days: fri, zone: UTC", "days: fri, hours: 22:00-06:00, zone: UTC", false},
	} {
		text := header + "  - {name: first, from: spiffe://td.test/a, to: GET /a, when: {" + c.first + "}}\n" +
			"  - {name: second, from: spiffe://td.test/a, to: GET /a, when: {" + c.second + "}}\n"
		_, err := policy.Compile(parse(t, text), nil)
		if (err != nil) != c.unreachable || err != nil && !strings.Contains(err.Error(), "grant second can never decide") {
			t.Errorf("%s, then %s: %v", c.first, c.second, err)
		}
	}
}

// What the parser never returns must open nothing either.
func TestCompile_RefusesAWindowThatSaysNothing(t *testing.T) {
	for want, when := range map[string]policy.When{
		"neither a time nor a network": {},
		"has no zone":                  {Days: policy.Days(0).With(time.Monday)},
		"no time zone Moon/Base":       {Hours: policy.Hours{From: 1, To: 2}, Zone: "Moon/Base"},
		"is no network":                {CIDR: []netip.Prefix{{}}},
	} {
		spec := parse(t, header+"  - {from: spiffe://td.test/a, to: GET /a}\n")
		spec.Allow[0].When = &when
		if _, err := policy.Compile(spec, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestDays_AreNamedAsTheyAreWritten(t *testing.T) {
	for _, text := range []string{"mon", "sun", "mon-fri", "sat-sun", "mon-sun", "mon,wed,fri", "tue-wed,sun"} {
		s := parse(t, header+"  - {from: spiffe://td.test/a, to: GET /a, when: {days: '"+text+"', zone: UTC}}\n")
		if got := s.Allow[0].When.Days.String(); got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
}

func TestExplain_SaysWhenAndWhereFrom(t *testing.T) {
	s := compile(t, header+`  - {name: g, from: spiffe://td.test/a, to: GET /a, when: {days: mon-fri, hours: 08:00-18:00, zone: UTC, cidr: [10.0.0.0/8]}}
`)
	inside := ask("a", "GET /a")
	inside.Source = netip.MustParseAddr("10.0.0.7")
	for _, c := range []struct {
		at   string
		r    *policy.Request
		want string
	}{
		{"2026-11-25T12:00:00Z", inside, `
allow g @ /a
+ g: to: GET /a
+ g: from: names spiffe://td.test/a
+ g: when: it is open now, mon-fri 08:00-18:00 UTC
+ g: when: cidr: names 10.0.0.7
`}, {"2026-11-28T12:00:00Z", ask("a", "GET /a"), `
outside_window g @ /a
+ g: to: GET /a
+ g: from: names spiffe://td.test/a
- g: when: it is open mon-fri 08:00-18:00 UTC, not now
nearest g, GET /a
  when: it is open mon-fri 08:00-18:00 UTC, not now
  when: cidr: does not name an unknown address; it names 10.0.0.0/8
`},
	} {
		if got := "\n" + narrate(policy.Explain(s, at(t, c.at), c.r)); got != c.want {
			t.Errorf("%s:%s", c.at, got)
		}
	}
}

func TestRunTests_CanSayWhenAndWhereFrom(t *testing.T) {
	s := compile(t, header+`  - {from: spiffe://td.test/a, to: GET /a, when: {hours: 08:00-18:00, zone: UTC, cidr: [10.0.0.0/8]}}
tests:
  - {as: spiffe://td.test/a, do: GET /a, at: 2026-11-25T08:00:00Z, from_ip: 10.0.0.7, expect: allow}
  - {as: spiffe://td.test/a, do: GET /a, at: 2026-11-25T07:59:59Z, from_ip: 10.0.0.7, expect: outside_window}
  - {as: spiffe://td.test/a, do: GET /a, at: 2026-11-25T08:00:00Z, from_ip: "fd00::7", expect: source_undeclared}
  - {as: spiffe://td.test/a, do: GET /a, at: 2026-11-25T08:00:00Z, expect: source_undeclared}
`)
	for _, r := range policy.RunTests(s, now.AddDate(1, 0, 0)) {
		if !r.OK {
			t.Errorf("%+v", r)
		}
	}
}
