package hop

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

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
	r := request(1, "POST", "/a%2fb?x=%31", "Content-Type: a/b; c", "Connection: upgrade", "Upgrade: x, h2c")
	r.Host, r.ContentLength = "APP.test.:8443", -1
	got, flaw, ok := Check(r, "https")
	want := policy.Request{Method: "POST", Path: "/a%2fb", Query: "x=%31", Host: "app.test", ContentType: "a/b; c", Body: true}
	if got != want || flaw != policy.Allowed || !ok {
		t.Errorf("%+v, want %+v: %v, %v", got, want, flaw, ok)
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

// U01 to U06, U19, U21, U28: only WebSocket, and that only by a handshake that
// nobody could take for something else.
func TestCheck_UpgradeIsOnlyWhatAGrantCouldOpen(t *testing.T) {
	const key, version = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"
	websocket := func(more ...string) []string {
		return append([]string{"Connection: Upgrade", "Upgrade: websocket"}, more...)
	}
	for name, c := range map[string]struct {
		major   int
		method  string
		header  []string
		length  int64
		upgrade string
		flaw    policy.Reason
	}{
		"handshake":         {1, "GET", websocket(key, version), 0, "websocket", policy.Allowed},
		"case and lists":    {1, "GET", []string{"Connection: keep-alive, uPGRADE", "Upgrade: h2c, WEBsocket", key, version}, 0, "websocket", policy.Allowed},
		"no option":         {1, "GET", []string{"Connection: keep-alive", "Upgrade: websocket", key, version}, 0, "", policy.Allowed},
		"U02 option only":   {1, "GET", []string{"Connection: Upgrade"}, 0, "", policy.Allowed},
		"U01 h2c":           {1, "GET", []string{"Connection: Upgrade", "Upgrade: h2c"}, 0, "", policy.Allowed},
		"U04 TLS":           {1, "GET", []string{"Connection: Upgrade", "Upgrade: TLS/1.0"}, 0, "", policy.Allowed},
		"U04 connect-udp":   {1, "GET", []string{"Connection: Upgrade", "Upgrade: connect-udp"}, 0, "", policy.Allowed},
		"U04 long":          {1, "GET", []string{"Connection: Upgrade", "Upgrade: " + strings.Repeat("a", 4096)}, 0, "", policy.Allowed},
		"near":              {1, "GET", []string{"Connection: Upgrade", "Upgrade: websockets"}, 0, "", policy.Allowed},
		"U06 version":       {1, "GET", websocket(key, "Sec-WebSocket-Version: 7777"), 0, "", policy.UpgradeVersion},
		"two versions":      {1, "GET", websocket(key, version, version), 0, "", policy.UpgradeMalformed},
		"no version":        {1, "GET", websocket(key), 0, "", policy.UpgradeMalformed},
		"no key":            {1, "GET", websocket(version), 0, "", policy.UpgradeMalformed},
		"two keys":          {1, "GET", websocket(key, key, version), 0, "", policy.UpgradeMalformed},
		"short key":         {1, "GET", websocket("Sec-WebSocket-Key: AAAA", version), 0, "", policy.UpgradeMalformed},
		"loose key":         {1, "GET", websocket("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==", version), 0, "", policy.UpgradeMalformed},
		"POST":              {1, "POST", websocket(key, version), 0, "", policy.UpgradeMalformed},
		"body":              {1, "GET", websocket(key, version), 5, "", policy.UpgradeMalformed},
		"chunks":            {1, "GET", websocket(key, version), -1, "", policy.UpgradeMalformed},
		"going":             {1, "GET", append(websocket(key, version), "Connection: close"), 0, "", policy.UpgradeMalformed},
		"extended CONNECT":  {2, "CONNECT", []string{":protocol: websocket", version}, -1, "websocket", policy.Allowed},
		"its version":       {2, "CONNECT", []string{":protocol: websocket", "Sec-WebSocket-Version: 8"}, -1, "", policy.UpgradeVersion},
		"its length":        {2, "CONNECT", []string{":protocol: websocket", version, "Content-Length: 0"}, 0, "", policy.UpgradeMalformed},
		"U19 CONNECT":       {2, "CONNECT", nil, -1, "", policy.MethodRefused},
		"U19 connect-udp":   {2, "CONNECT", []string{":protocol: connect-udp"}, -1, "", policy.MethodRefused},
		"U18 CONNECT":       {1, "CONNECT", nil, 0, "", policy.MethodRefused},
		"U18 with protocol": {1, "CONNECT", []string{":protocol: websocket", version}, 0, "", policy.MethodRefused},
	} {
		r := request(c.major, c.method, "/", c.header...)
		r.ContentLength = c.length
		got, flaw, _ := Check(r, "https")
		if got.Upgrade != c.upgrade || flaw != c.flaw {
			t.Errorf("%s: %q, %v", name, got.Upgrade, flaw)
		}
		if c.upgrade != "" && (got.Method != "GET" || got.Body) {
			t.Errorf("%s: it is judged as %s, body %v", name, got.Method, got.Body)
		}
	}
	r := request(1, "GET", "/", websocket(key, version, "Origin: https://shop.test")...)
	if got, _, _ := Check(r, "https"); got.Origin != "https://shop.test" {
		t.Errorf("%+v", got)
	}
}

// G-07, and RFC 9110 section 7.6.2.
func TestCheck_NumbersThatAreNoneAreMalformed(t *testing.T) {
	for _, r := range []*http.Request{
		request(2, "POST", "/", "Content-Type: application/grpc", "Grpc-Timeout: soon"),
		request(2, "POST", "/", "Content-Type: application/grpc+proto", "Grpc-Timeout: 123456789S"),
		request(1, "OPTIONS", "/", "Max-Forwards: -1"),
		request(1, "OPTIONS", "/", "Max-Forwards: 1", "Max-Forwards: 2"),
	} {
		if _, flaw, ok := Check(r, "https"); flaw != policy.HeaderMalformed || ok {
			t.Errorf("%v: %v", r.Header, flaw)
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
