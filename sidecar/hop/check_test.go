package hop

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/audit"
	"github.com/everyhop/everyhop/sidecar/forward"
)

func request(major int, method, target string, header ...string) *http.Request {
	r := &http.Request{Method: method, RequestURI: target, ProtoMajor: major, ProtoMinor: major % 2, Host: "app.test", URL: &url.URL{}, Header: http.Header{}}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func TestCheck_FactsAreWhatWasReceived(t *testing.T) {
	r := request(1, "POST", "/a%2fb?x=%31", "Content-Type: a/b; c", "Connection: upgrade", "Upgrade: x, WebSocket")
	r.Host, r.ContentLength = "APP.test.:8443", -1
	got, flaw, ok := Check(r, "https")
	want := policy.Request{Method: "POST", Path: "/a%2fb", Query: "x=%31", Host: "app.test", ContentType: "a/b; c", Body: true, Upgrade: "websocket"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(spiffeid.ID{}, spiffeid.TrustDomain{})); diff != "" || flaw != policy.Allowed || !ok {
		t.Error(diff, flaw, ok)
	}
}

// The forms of a target: RFC 9112 section 3.2, P20 to P26.
func TestCheck_TargetForms(t *testing.T) {
	for _, c := range []struct {
		major          int
		method, target string
		path           string
		flaw           policy.Reason
	}{
		{1, "GET", "/a", "/a", policy.Allowed},
		{2, "GET", "/a", "/a", policy.Allowed},
		{1, "OPTIONS", "*", "*", policy.Allowed},
		{2, "OPTIONS", "*", "*", policy.Allowed},
		{1, "GET", "*", "", policy.TargetForm},
		{1, "OPTIONS", "*?x", "", policy.TargetForm},
		{2, "GET", "*", "", policy.TargetForm},
		{1, "GET", "https://app.test/a", "/a", policy.Allowed},
		{1, "GET", "HTTPS://APP.test/a?b", "/a", policy.Allowed},
		{1, "GET", "https://app.test", "/", policy.Allowed},
		{1, "GET", "https://app.test?b", "/", policy.Allowed},
		{1, "GET", "https://app.test#b", "/#b", policy.Allowed}, // the path's judge refuses it
		{2, "GET", "https://app.test/a", "", policy.TargetForm},
		{1, "GET", "http://app.test/a", "", policy.TargetForm},
		{1, "GET", "https://other.test/a", "", policy.TargetForm},
		{1, "GET", "https://u:p@app.test/a", "", policy.TargetForm},
		{1, "GET", "https:///a", "", policy.TargetForm},
		{1, "GET", "https:/a", "", policy.TargetForm},
		{1, "GET", "x:admin", "", policy.TargetForm},
		{2, "GET", "x:admin", "", policy.TargetForm},
		{1, "GET", "a", "", policy.TargetForm},
		{1, "GET", "", "", policy.TargetForm},
		{2, "GET", "", "", policy.TargetForm},
		{1, "GET", "?a", "", policy.TargetForm},
		{1, "GET", "//a://b", "//a://b", policy.Allowed}, // a path, whatever it says
		{1, "GET", "/" + strings.Repeat("a", maxTarget), "", policy.TargetTooLong},
	} {
		got, flaw, ok := Check(request(c.major, c.method, c.target), "https")
		if got.Path != c.path || flaw != c.flaw || ok != (c.flaw == policy.Allowed) {
			t.Errorf("%d %s %.40q: %q, %v, %v", c.major, c.method, c.target, got.Path, flaw, ok)
		}
	}
}

func TestCheck_UpgradeIsOnlyWhatAGrantCouldOpen(t *testing.T) {
	for _, c := range []struct {
		major               int
		connection, upgrade string
		want                string
	}{
		{1, "Upgrade", "websocket", "websocket"},
		{1, "keep-alive, uPGRADE", "h2c, WEBsocket", "websocket"},
		{1, "keep-alive", "websocket", ""},
		{1, "Upgrade", "h2c", ""},
		{1, "Upgrade", "websockets", ""},
		{1, "Upgrade", "", ""},
		{2, "Upgrade", "websocket", ""},
	} {
		got, _, _ := Check(request(c.major, "GET", "/", "Connection: "+c.connection, "Upgrade: "+c.upgrade), "https")
		if got.Upgrade != c.want {
			t.Errorf("%+v: %q", c, got.Upgrade)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(1, "GET", "https://app.test/a?b", "app.test", "Connection", "close, X-Spiffe-Id")
	f.Add(2, "OPTIONS", "*", "app.test:1", "content-length", "5")
	f.Add(1, "GET", "x:admin", "[::1]", "Host", "other.test")
	f.Fuzz(func(t *testing.T, major int, method, target, host, name, value string) {
		r := request(1+major&1, method, target)
		r.Host = host
		r.Header[http.CanonicalHeaderKey(name)] = []string{value}
		facts, flaw, ok := Check(r, "https")
		switch {
		case ok != (flaw == policy.Allowed):
			t.Errorf("%v with %v", ok, flaw)
		case !ok && facts != policy.Request{}:
			t.Errorf("facts of a flawed request: %+v", facts)
		case ok && (facts.Host == "" || facts.Path != "*" && !strings.HasPrefix(facts.Path, "/") || !strings.Contains(target, facts.Query)):
			t.Errorf("%q at %q became %+v", target, host, facts)
		case ok && strings.Contains(name, "_"):
			t.Errorf("%q has a twin", name)
		}
	})
}

func TestReasonOf_EveryFaultHasItsOwn(t *testing.T) {
	seen := map[policy.Reason]forward.Fault{}
	for f := forward.None; f <= forward.Broken; f++ {
		reason := reasonOf(f)
		if twin, taken := seen[reason]; taken {
			t.Errorf("%v and %v are both %v", twin, f, reason)
		}
		if seen[reason] = f; f.String() == "unknown" {
			t.Errorf("fault %d has no name", f)
		}
	}
	if reasonOf(200) != policy.UpstreamFault {
		t.Error("an unknown fault is nobody's")
	}
}

func TestMark_TellsServicesAndDirectionsApart(t *testing.T) {
	web, orders := spiffeid.RequireFromString("spiffe://td.test/web"), spiffeid.RequireFromString("spiffe://td.test/orders")
	marks := map[string]bool{}
	for _, id := range []spiffeid.ID{web, orders} {
		for _, direction := range []string{audit.Inbound, audit.Outbound} {
			mark := Mark(direction, id)
			marks[mark] = true
			if strings.Contains(mark, "web") || strings.Contains(mark, "orders") || mark != Mark(direction, id) {
				t.Error(mark)
			}
		}
	}
	if len(marks) != 4 {
		t.Errorf("%v", marks)
	}
}

func TestTraceID_IsOnlyThatOfATraceparent(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	for text, want := range map[string]string{
		"00-" + id + "-b7ad6b7169203331-01":      id,
		"01-" + id + "-b7ad6b7169203331-01-more": id,
		"":                                       "",
		"00-" + id:                               "",
		"00-" + strings.ToUpper(id) + "-b7ad6b7169203331-01": "",
		"00-" + id[1:] + "-b7ad6b7169203331-01":              "",
		"00-" + id[1:] + "\"-b7ad6b7169203331-01":            "",
		strings.Repeat("-", 100):                             "",
	} {
		if got := traceID(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
