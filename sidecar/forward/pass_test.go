package forward

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSelect_PassesWhatIsDeclaredAndTheProtocolsOwn(t *testing.T) {
	in := http.Header{}
	for _, line := range []string{
		"Accept: a", "Accept-Language: b", "Content-Type: c", "Range: d", "If-None-Match: e", "Grpc-Timeout: f",
		"Traceparent: g", "Tracestate: h", "User-Agent: i", "Sec-Websocket-Key: j", "X-Tenant: k",
		"Authorization: no", "X-Other: no", "Acceptance: no", "Baggage: no", "X-Http-Method-Override: no",
		"Connection: close", "Keep-Alive: no", "Proxy: no", "Proxy-Authorization: no", "Proxy-Connection: no",
		"Te: gzip, trailers", "Upgrade: no", "Expect: no", "Content-Length: 1", "Transfer-Encoding: no", "Trailer: no",
		"X-Spiffe-Id: no", "Everyhop-Caller: no", "Forwarded: no", "Cookie: no=1",
	} {
		name, value, _ := strings.Cut(line, ": ")
		in.Add(name, value)
	}
	got, dropped, err := (&Pass{Headers: []string{"x-tenant", "x-spiffe-id", "everyhop-caller"}}).Select(in)
	want := http.Header{
		"Accept": {"a"}, "Accept-Language": {"b"}, "Content-Type": {"c"}, "Range": {"d"}, "If-None-Match": {"e"},
		"Grpc-Timeout": {"f"}, "Traceparent": {"g"}, "Tracestate": {"h"}, "User-Agent": {"i"}, "Sec-Websocket-Key": {"j"},
		"X-Tenant": {"k"}, "Te": {"trailers"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err != nil || dropped != 9 {
		t.Errorf("%d dropped, %v", dropped, err)
	}
}

// O07, H26.
func TestSelect_OnTheWayOutAllPassesButHopAndIdentity(t *testing.T) {
	in := http.Header{"X-Any": {"1"}, "Authorization": {"2"}, "Cookie": {"3"}, "Proxy": {"no"}, "Te": {"gzip"},
		"X-Forwarded-Client-Cert": {"no"}, "Everyhop-User": {"no"}, "Connection": {"X-Hop"}, "X-Hop": {"no"}}
	got, dropped, err := (&Pass{All: true}).Select(in)
	want := http.Header{"X-Any": {"1"}, "Authorization": {"2"}, "Cookie": {"3"}}
	if diff := cmp.Diff(want, got); diff != "" || dropped != 2 || err != nil {
		t.Error(diff, dropped, err)
	}
}

func TestSelect_CookiesAreStrictPairsOfDeclaredNames(t *testing.T) {
	for _, c := range []struct {
		in, want string
		dropped  int
		err      error
	}{
		{"sid=1; evil=2", "sid=1", 1, nil},                         // Q12
		{"sid=1\nevil=2", "sid=1", 1, nil},                         // Q13: two fields
		{"a=1\nsid=2; b=3", "sid=2", 2, nil},                       // Q13
		{"sid=1; sid=2", "", 0, ErrCookieRepeated},                 // Q14
		{"sid=1\nsid=1", "", 0, ErrCookieRepeated},                 // Q14
		{"sid = 1", "", 1, nil},                                    // Q16, as the next
		{";;sid=1", "sid=1", 2, nil},                               //
		{"sid", "", 1, nil},                                        //
		{"=v; sid=1", "sid=1", 1, nil},                             //
		{"sid=1,evil=2", "", 1, nil},                               //
		{"SID=1", "", 1, nil},                                      //
		{`sid="a b"`, "", 1, nil},                                  //
		{`sid="ab"`, `sid="ab"`, 0, nil},                           //
		{"sid=", "sid=", 0, nil},                                   //
		{"sid=a=b", "sid=a=b", 0, nil},                             //
		{"sid=\x00", "", 1, nil},                                   // Q18, as the next
		{"sid=\x7f", "", 1, nil},                                   //
		{"sid=caf\xe9", "", 1, nil},                                //
		{`sid=\`, "", 1, nil},                                      //
		{strings.Repeat("a=1;", 5000), "", 0, ErrCookieCount},      // H22
		{strings.Repeat("a=1;", 255) + "sid=1", "sid=1", 255, nil}, // Q17: none is hidden
		{"theme=x; sid=1; lang=y", "theme=x; sid=1", 1, nil},       //
	} {
		p := Pass{Cookies: []string{"sid", "theme"}}
		got, dropped, err := p.Select(http.Header{"Cookie": strings.Split(c.in, "\n")})
		if got.Get("Cookie") != c.want || dropped != c.dropped || !errors.Is(err, c.err) {
			t.Errorf("%.40q: %q, %d, %v", c.in, got.Get("Cookie"), dropped, err)
		}
	}
}

func FuzzSelectCookies(f *testing.F) {
	for _, seed := range []string{"sid=1; evil=2", `sid="a"`, ";;sid=1", "sid=1,x=2", "sid=\x00"} {
		f.Add(seed)
	}
	p := Pass{Cookies: []string{"sid"}}
	f.Fuzz(func(t *testing.T, field string) {
		got, _, err := p.Select(http.Header{"Cookie": {field}})
		if err != nil || got.Get("Cookie") == "" {
			return
		}
		// What passes is what the standard library reads as that one cookie.
		cookies, err := http.ParseCookie(got.Get("Cookie"))
		if err != nil || len(cookies) != 1 || cookies[0].Name != "sid" || !strings.Contains(field, got.Get("Cookie")) {
			t.Errorf("%q became %q: %v, %v", field, got.Get("Cookie"), cookies, err)
		}
	})
}

// H28, H29.
func TestLooped_SeesOwnMarkAndTooManyHops(t *testing.T) {
	for _, c := range []struct {
		via  []string
		want bool
	}{
		{nil, false},
		{[]string{"1.1 everyhop (mine)"}, true},
		{[]string{"2 proxy, 2 everyhop (mine) , 1.1 other"}, true},
		{[]string{"1.1 a", "2 everyhop (mine)"}, true},
		{[]string{"1.1 everyhop (other)"}, false},
		{[]string{"1.1 everyhop"}, false},
		{[]string{"1.1 everyhop (mine) trailing"}, false},
		{[]string{strings.Repeat("1.1 a,", 19) + "1.1 a"}, false},
		{[]string{strings.Repeat("1.1 a,", 20) + "1.1 a"}, true},
	} {
		if got := Looped(http.Header{"Via": c.via}, "mine"); got != c.want {
			t.Errorf("%.60q: %v", c.via, got)
		}
	}
}

func TestAddVia_NamesThisHopAndBoundsTheRest(t *testing.T) {
	for _, c := range []struct{ before, want string }{
		{"", "2 everyhop (mine)"},
		{"1.1 proxy", "1.1 proxy, 2 everyhop (mine)"},
		{strings.Repeat("x", 10<<10), "2 everyhop (mine)"}, // H29
	} {
		header := http.Header{}
		if c.before != "" {
			header.Set("Via", c.before)
		}
		addVia(header, 2, "mine")
		if got := header.Get("Via"); got != c.want {
			t.Errorf("%.20q: %q", c.before, got)
		}
	}
}
