package inbound_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/everyhop/everyhop/policy"
)

// try is one request and what must come of it.
type try struct {
	name string
	request
	only   string // a protocol; both if empty
	reset  bool   // over HTTP/2 it is malformed, and not answered
	reason policy.Reason
	cut    bool   // the app may have got a part of it
	in     int64  // bytes of the body, where the request is raw
	app    string // the head that the app gets, without what every one has
}

const spoof = "spoofed" // no value with this in it may ever reach the app

var tries = []try{
	{name: "allowed", request: request{method: "GET", target: "/public/a"}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "allowed with body", request: request{method: "POST", target: "/api/x?b=2&a=1+2%20%2B", body: "hello"}, reason: policy.Allowed, app: "POST /api/x?b=2&a=1+2%20%2B"},
	{name: "P09 canonical path goes on", request: request{method: "GET", target: "/%70ublic/%7e%2d%3b%c3%a9"}, reason: policy.Allowed, app: "GET /public/~-%3B%C3%A9"},
	{name: "P35 escapes are kept", request: request{method: "GET", target: "/public/a%40c%3ad%2Ce"}, reason: policy.Allowed, app: "GET /public/a%40c%3Ad%2Ce"},
	{name: "P09 for admin", request: request{as: admin, method: "GET", target: "/%61dmin/x"}, reason: policy.Allowed, app: "GET /admin/x"},
	{name: "undeclared route", request: request{method: "GET", target: "/other"}, reason: policy.RouteUndeclared},
	{name: "undeclared method", request: request{method: "DELETE", target: "/api/x"}, reason: policy.RouteUndeclared},
	{name: "undeclared caller", request: request{method: "GET", target: "/admin/x"}, reason: policy.CallerUndeclared},
	{name: "an empty query", request: request{method: "GET", target: "/public/a?"}, reason: policy.Allowed, app: "GET /public/a?"},

	{name: "H01", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"X-Spiffe-Id: spoofed", "Connection: close, X-Spiffe-Id"}}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "H02", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"X-Forwarded-Client-Cert: spoofed", "X-Real-Ip: spoofed", "connection: x-Forwarded-client-cert ,  x-REAL-ip"}}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "H03 authorization", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: Authorization", "Authorization: x"}}, reason: policy.HeaderMalformed},
	{name: "H03 cookie", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: Cookie"}}, reason: policy.HeaderMalformed},
	{name: "H03 host", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: Host"}}, reason: policy.HeaderMalformed},
	{name: "H03 length", only: "http/1.1", request: request{method: "POST", target: "/api/a", body: "x", header: []string{"Connection: Content-Length"}}, reason: policy.HeaderMalformed},
	{name: "H03 type", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: Content-Type"}}, reason: policy.HeaderMalformed},
	{name: "H03 coding", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: Transfer-Encoding"}}, reason: policy.HeaderMalformed},
	{name: "H03 declared", only: "http/1.1", request: request{method: "GET", target: "/api/a", header: []string{"Connection: X-Request-Id", "X-Request-Id: 1"}}, reason: policy.HeaderMalformed},
	{name: "H05", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection:", "Connection: X-Spiffe-Id", "X-Spiffe-Id: spoofed"}}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "H07 identity", request: request{method: "GET", target: "/api/a", header: []string{"X-Spiffe-Id: spoofed", "Everyhop-Caller: spoofed", "Everyhop-User: spoofed", "X-Forwarded-Client-Cert: spoofed", "X-Jwt-Sub: spoofed", "X-User: spoofed"}}, reason: policy.Allowed, app: "GET /api/a"},
	{name: "H08 underscore", request: request{method: "GET", target: "/api/a", header: []string{"X_Spiffe_Id: spoofed"}}, reason: policy.HeaderMalformed},
	{name: "H08 mixed", request: request{method: "GET", target: "/api/a", header: []string{"x_spiffe-id: spoofed"}}, reason: policy.HeaderMalformed},
	{name: "S12", request: request{method: "POST", target: "/api/a", header: []string{"Content_Length: 5"}}, reason: policy.HeaderMalformed},
	{name: "dots for hyphens", request: request{method: "GET", target: "/api/a", header: []string{"Everyhop.Caller: spoofed", "x.forwarded.for: spoofed"}}, reason: policy.Allowed, app: "GET /api/a"},
	{name: "H09 many", request: request{method: "GET", target: "/api/a", header: strings.Split(strings.Repeat("X-Spiffe-Id: spoofed\n", 90)+"X-Spiffe-Id: spoofed,spoofed", "\n")}, reason: policy.Allowed, app: "GET /api/a"},
	{name: "H11 declared and own", request: request{method: "GET", target: "/api/a", header: []string{"X-Request-Id: 7", "Accept: a/b", "X-Other: spoofed", "Authorization: spoofed", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}, reason: policy.Allowed, app: "GET /api/a\nAccept: a/b\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nX-Request-Id: 7"},
	{name: "H13", request: request{method: "GET", target: "/public/a", header: []string{"X-Forwarded-For: spoofed", "Forwarded: for=spoofed", "True-Client-IP: spoofed", "CF-Connecting-IP: spoofed", "X-Forwarded-Host: spoofed", "X-Original-URL: /spoofed", "X-Http-Method-Override: spoofed"}}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "H14 case and port", request: request{method: "GET", target: "/public/a", host: "APP.TEST:443"}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "H15 path", only: "http/1.1", request: request{method: "GET", target: "/public/a", host: "app.test'x"}, reason: policy.HostMalformed},
	{name: "H15 bracket", request: request{method: "GET", target: "/public/a", host: "[::1"}, reason: policy.HostMalformed},
	{name: "H15 after bracket", request: request{method: "GET", target: "/public/a", host: "[::1]x"}, reason: policy.HostMalformed},
	{name: "H15 label", request: request{method: "GET", target: "/public/a", host: strings.Repeat("a", 300) + ".test"}, reason: policy.HostMalformed},
	{name: "H15 punycode", request: request{method: "GET", target: "/public/a", host: "xn--app-.test"}, reason: policy.HostMalformed},
	{name: "H16", only: "h2", request: request{method: "GET", target: "/public/a", header: []string{"host: other.test"}}, reason: policy.HostMismatch},
	{name: "H17 the same", only: "h2", request: request{method: "GET", target: "/public/a", header: []string{"host: app.test"}}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "H17 two", only: "h2", request: request{method: "GET", target: "/public/a", header: []string{"host: app.test", "host: app.test"}}, reset: true, reason: policy.HostMalformed},
	{name: "H18 path", only: "h2", request: request{method: "GET", target: "/public/a", host: "app.test/x"}, reset: true, reason: policy.HostMalformed},
	{name: "H18 space", only: "h2", request: request{method: "GET", target: "/public/a", host: "app test"}, reset: true, reason: policy.HostMalformed},
	{name: "H20 100 fields", request: request{method: "GET", target: "/public/a", header: fields(100)}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "H20 101 fields", request: request{method: "GET", target: "/public/a", header: fields(101)}, reason: policy.HeadersTooLarge},
	{name: "H22", request: request{method: "GET", target: "/api/a", header: []string{"Cookie: " + strings.Repeat("a=1; ", 5000) + "sid=1"}}, reason: policy.HeadersTooLarge},
	{name: "H24 obs-text", request: request{method: "GET", target: "/api/a", header: []string{"X-Request-Id: caf\xe9"}}, reason: policy.Allowed, app: "GET /api/a\nX-Request-Id: caf\xe9"},
	{name: "H26", only: "http/1.1", request: request{method: "GET", target: "/api/a", header: []string{"Proxy: spoofed", "Proxy-Authorization: spoofed", "Proxy-Connection: spoofed", "Keep-Alive: spoofed", "TE: gzip, trailers"}}, reason: policy.Allowed, app: "GET /api/a\nConnection: TE\nTe: trailers"},
	{name: "H28", request: request{method: "GET", target: "/api/a", header: []string{"Via: " + strings.Repeat("1.1 a, ", 20) + "1.1 b"}}, reason: policy.RequestLoop},
	{name: "H29 long Via", request: request{method: "GET", target: "/api/a", header: []string{"Via: " + strings.Repeat("x", 10<<10)}}, reason: policy.Allowed, app: "GET /api/a"},
	{name: "H30 type", request: request{method: "POST", target: "/api/a", header: []string{"Content-Type: a/b", "Content-Type: c/d"}}, reason: policy.HeaderMalformed},
	{name: "H30 authorization", request: request{method: "GET", target: "/api/a", header: []string{"Authorization: a", "Authorization: a"}}, reason: policy.HeaderMalformed},
	{name: "H30 encoding", request: request{method: "GET", target: "/api/a", header: []string{"Content-Encoding: a", "content-encoding: a"}}, reason: policy.HeaderMalformed},
	{name: "H30 origin", request: request{method: "GET", target: "/api/a", header: []string{"Origin: a", "Origin: b"}}, reason: policy.HeaderMalformed},
	{name: "H30 range", request: request{method: "GET", target: "/api/a", header: []string{"Range: a", "Range: b"}}, reason: policy.HeaderMalformed},

	{name: "Q12", request: request{method: "GET", target: "/api/a", header: []string{"Cookie: sid=1; evil=spoofed"}}, reason: policy.Allowed, app: "GET /api/a\nCookie: sid=1"},
	{name: "Q13", request: request{method: "GET", target: "/api/a", header: []string{"Cookie: sid=1", "Cookie: evil=spoofed"}}, reason: policy.Allowed, app: "GET /api/a\nCookie: sid=1"},
	{name: "Q14", request: request{method: "GET", target: "/api/a", header: []string{"Cookie: sid=1; sid=2"}}, reason: policy.HeaderMalformed},
	{name: "Q16", request: request{method: "GET", target: "/api/a", header: []string{"Cookie: SID=spoofed; =v; sid; sid=1,evil=spoofed"}}, reason: policy.Allowed, app: "GET /api/a"},
	{name: "cookie undeclared", request: request{method: "GET", target: "/public/a", header: []string{"Cookie: sid=spoofed"}}, reason: policy.Allowed, app: "GET /public/a"},

	{name: "L16 metrics", request: request{method: "GET", target: "/metrics", host: "localhost", header: []string{"User-Agent: kube-probe/1.30"}}, reason: policy.RouteUndeclared},
	{name: "L16 pprof", request: request{method: "GET", target: "/debug/pprof/", host: "localhost"}, reason: policy.RouteUndeclared},
	{name: "L16 shutdown", request: request{method: "POST", target: "/quitquitquit", host: "127.0.0.1"}, reason: policy.RouteUndeclared},
	{name: "L16 health", request: request{method: "GET", target: "/healthz", header: []string{"User-Agent: GoogleHC/1.0"}}, reason: policy.RouteUndeclared},

	{name: "P20", only: "http/1.1", request: request{method: "GET", target: "x:admin"}, reason: policy.TargetForm},
	{name: "P20 with slash", only: "http/1.1", request: request{method: "GET", target: "x:/admin"}, reason: policy.TargetForm},
	{name: "P21 public", only: "http/1.1", request: request{method: "GET", target: "https://app.test/public/x"}, reason: policy.Allowed, app: "GET /public/x"},
	{name: "P21 admin", only: "http/1.1", request: request{method: "GET", target: "https://app.test/admin/x"}, reason: policy.CallerUndeclared},
	{name: "P23 http", only: "http/1.1", request: request{method: "GET", target: "http://app.test/public/x"}, reason: policy.TargetForm},
	{name: "P23 ftp", only: "http/1.1", request: request{method: "GET", target: "ftp://app.test/public/x"}, reason: policy.TargetForm},
	{name: "P24 options", request: request{method: "OPTIONS", target: "*"}, reason: policy.RouteUndeclared},
	{name: "asterisk", only: "http/1.1", request: request{method: "GET", target: "*"}, reason: policy.TargetForm},
	{name: "P01", request: request{method: "GET", target: "/public/../admin/x"}, reason: policy.TargetAmbiguous},
	{name: "P05", request: request{method: "GET", target: "//admin/x"}, reason: policy.TargetAmbiguous},
	{name: "P11", request: request{method: "GET", target: "/public/a#/admin"}, reset: true, reason: policy.TargetForm},
	{name: "Q10", request: request{method: "GET", target: "/public/a?" + strings.Repeat("a", 20<<10)}, reason: policy.TargetTooLong},

	{name: "S13 HTTP/1.0", only: "http/1.1", request: request{raw: "GET /public/a HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n"}, reason: policy.VersionRefused},
	{name: "S52 HTTP/1.2", only: "http/1.1", request: request{raw: "GET /public/a HTTP/1.2\r\nHost: app.test\r\n\r\n"}, reason: policy.VersionRefused},
	{name: "S53 preface", only: "http/1.1", request: request{raw: "PRI * HTTP/2.0\r\n\r\n"}, reason: policy.VersionRefused},
	{name: "S59 empty host", only: "http/1.1", request: request{raw: "GET /public/a HTTP/1.1\r\nHost:\r\n\r\n"}, reason: policy.HostMalformed},
	{name: "S59 port", request: request{method: "GET", target: "/public/a", host: "app.test:99999"}, reason: policy.HostMalformed},
	{name: "S59 no port", request: request{method: "GET", target: "/public/a", host: "app.test:x"}, reason: policy.HostMalformed},
	{name: "S22", only: "http/1.1", request: request{raw: "POST /api/a HTTP/1.1\r\nHost: app.test\r\nContent-Length: 9223372036854775807\r\n\r\n"}, reason: policy.BodyTooLarge},
	{name: "body too large", request: request{method: "POST", target: "/api/a", body: strings.Repeat("x", 65)}, reason: policy.BodyTooLarge},
	{name: "body undeclared", request: request{method: "GET", target: "/public/a", body: "x"}, reason: policy.BodyUndeclared},

	{name: "T14", only: "h2", request: request{method: "GET", target: "/public/a", scheme: "http"}, reason: policy.SchemeMismatch},
	{name: "T17 space", only: "h2", request: request{method: "GET /admin", target: "/public/a"}, reset: true, reason: policy.MethodMalformed},
	{name: "T17 case", request: request{method: "get", target: "/public/a"}, reason: policy.RouteUndeclared},
	{name: "T18", only: "h2", request: request{method: "GET", target: "http://app.test/admin"}, reset: true, reason: policy.TargetForm},
	{name: "T20", only: "h2", request: request{method: "POST", target: "/api/a", header: []string{"content-length: 5"}}, reset: true, reason: policy.BodyMalformed},
	{name: "T21 letters", only: "h2", request: request{method: "POST", target: "/api/a", header: []string{"content-length: abc"}}, reset: true, reason: policy.BodyMalformed},
	{name: "T21 sign", only: "h2", request: request{method: "POST", target: "/api/a", header: []string{"content-length: +0"}}, reset: true, reason: policy.BodyMalformed},
	{name: "T21 two", only: "h2", request: request{method: "POST", target: "/api/a", header: []string{"content-length: 0", "content-length: 5"}}, reset: true, reason: policy.BodyMalformed},
	{name: "T22 spaces", only: "h2", request: request{method: "GET", target: "/api/a", header: []string{"x-request-id:  7"}}, reset: true, reason: policy.HeaderMalformed},
	{name: "T26", only: "h2", request: request{method: "POST", target: "/svc.Admin/Do", header: []string{"content-type: application/grpc", "te: trailers"}, body: "\x00\x00\x00\x00\x00"}, reason: policy.RouteUndeclared},
	{name: "T30", request: request{method: "POST", target: "/svc.Admin/Do", header: []string{"Content-Type: application/grpcx"}}, reason: policy.RouteUndeclared},

	{name: "U02", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: Upgrade", "Upgrade: h2c"}}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "U04", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: Upgrade", "Upgrade: TLS/1.0, foo, " + strings.Repeat("x", 4<<10)}}, reason: policy.Allowed, app: "GET /public/a"},
	{name: "U05", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: keep-alive, upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}}, reason: policy.UpgradeUndeclared},
	{name: "U06", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 7777", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}}, reason: policy.UpgradeVersion},
	{name: "U06 no key", only: "http/1.1", request: request{method: "GET", target: "/public/a", header: []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"}}, reason: policy.UpgradeMalformed},
	{name: "U21", only: "h2", request: request{method: "GET", target: "/public/a", header: []string{"upgrade: websocket"}}, reset: true, reason: policy.HeaderMalformed},
	{name: "U18 address", only: "http/1.1", request: request{method: "CONNECT", target: "169.254.169.254:80", host: "169.254.169.254:80"}, reason: policy.MethodRefused},
	{name: "U18 name", only: "http/1.1", request: request{method: "CONNECT", target: "app.test:443"}, reason: policy.MethodRefused},
	{name: "U18 path", only: "http/1.1", request: request{method: "CONNECT", target: "/x"}, reason: policy.MethodRefused},
	{name: "TRACE", request: request{method: "TRACE", target: "/public/a"}, reason: policy.MethodRefused},
}

func fields(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("X-%d: v", i)
	}
	return all
}

// The invariants I1 to I5 and I7 of each case.
func TestInbound_EachCaseOnBothProtocols(t *testing.T) {
	h := newHouse(t, nil)
	for _, c := range slices.Concat(tries, framings(), malformed) {
		for _, protocol := range []string{"http/1.1", "h2"} {
			if c.only != "" && c.only != protocol {
				continue
			}
			t.Run(c.name+"/"+protocol, func(t *testing.T) { h.try(t, c, protocol) })
		}
	}
	if text := h.logged.String(); strings.Contains(text, "panic") { // I7
		t.Error(text)
	}
}

func (h *house) try(t *testing.T, c try, protocol string) {
	outer := h.t
	h.t = t
	defer func() { h.t = outer }()
	as := orElse(c.as, web)
	client := h.dial(as, protocol)
	h.app.cut.Store(0)
	got := client.do(c.request)
	record := h.record()
	if record.Reason != c.reason.String() || record.Caller != "spiffe://td.test/"+as || record.Direction != "inbound" {
		t.Errorf("recorded %+v", record)
	}
	grpc := strings.Contains(strings.Join(c.header, ""), "application/grpc") && !strings.Contains(strings.Join(c.header, ""), "grpcx")
	if c.reset && protocol == "h2" {
		if !got.reset || got.status != 0 || record.Status != c.reason.Status() {
			t.Errorf("got %+v, recorded %+v", got, record)
		}
	} else if c.reason != policy.ClientGone {
		h.checkAnswer(t, c, got, record, grpc)
	}
	h.checkApp(t, c, as, record.ID)

	if shut := slices.Contains([]int{400, 405, 408, 413, 414, 417, 431, 501, 505}, c.reason.Status()); protocol == "http/1.1" && got.open == shut && c.reason != policy.Allowed && !c.fin {
		t.Errorf("the connection is open: %v", got.open)
	}
	if got.open && protocol == "http/1.1" && c.reason != policy.Allowed || protocol == "h2" { // I5
		canary := client.do(request{method: "GET", target: "/public/canary"})
		if r := h.record(); canary.status != 200 || !strings.HasPrefix(canary.body, "answer ") || r.Path != "/public/canary" {
			t.Errorf("the canary got %+v, %+v", canary, r)
		}
		if seen := h.app.seen(); len(seen) != 1 {
			t.Errorf("the canary was sent %d times", len(seen))
		}
	}
	if protocol == "http/1.1" && !got.open { // nothing more is read of what may be anything
		if rest, err := io.ReadAll(client.in); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("then %q, %v", rest, err)
		}
	}
	if len(h.records) != 0 { // I4
		t.Errorf("recorded twice: %+v", <-h.records)
	}
}

func (h *house) checkAnswer(t *testing.T, c try, got answer, r record, grpc bool) {
	t.Helper()
	status, kind := c.reason.Status(), "application/problem+json"
	if grpc {
		status, kind = 200, "application/grpc"
	}
	if got.status != status || r.Status != status {
		t.Errorf("got %d, recorded %d, want %d", got.status, r.Status, status)
	}
	if c.reason == policy.Allowed {
		if got.header.Get("Server") != "" || !strings.HasPrefix(got.body, "answer ") || r.BytesOut != int64(len(got.body)) || r.BytesIn != int64(len(c.body))+c.in {
			t.Errorf("got %+v, recorded %+v", got, r)
		}
		return
	}
	if got.header.Get("Content-Type") != kind || got.header.Get("Everyhop-Decision") != r.ID || r.ID == "" {
		t.Errorf("got %+v, recorded %+v", got, r)
	}
	if grpc && (got.header.Get("Grpc-Status") != fmt.Sprint(c.reason.GRPCStatus()) || got.body != "") {
		t.Errorf("got %+v", got)
	}
	if (status == http.StatusMethodNotAllowed) != (got.header.Get("Allow") != "") {
		t.Errorf("Allow: %q", got.header.Get("Allow"))
	}
	if !grpc && (strings.Contains(got.body, c.reason.String()) || !strings.Contains(got.body, r.ID)) {
		t.Errorf("told %q", got.body)
	}
}

// checkApp: I1, I2, I3.
func (h *house) checkApp(t *testing.T, c try, as, decision string) {
	t.Helper()
	seen := h.app.seen()
	if c.cut && len(seen) == 1 {
		for h.app.cut.Load() == 0 { // it learns of that when its connection ends
			runtime.Gosched()
		}
		return
	}
	if c.reason != policy.Allowed {
		if len(seen) != 0 {
			t.Errorf("the app got %q", seen)
		}
		return
	}
	if len(seen) != 1 {
		t.Fatalf("the app got %d requests: %q", len(seen), seen)
	}
	if strings.Contains(seen[0], spoof) {
		t.Errorf("the app got %q", seen[0])
	}
	line, rest, _ := strings.Cut(c.app, "\n")
	want := line + " HTTP/1.1\r\n"
	head := map[string]bool{}
	first, others, _ := strings.Cut(seen[0], "\r\n")
	for _, field := range strings.Split(strings.TrimSuffix(others, "\r\n\r\n"), "\r\n") {
		head[field] = true
	}
	if first+"\r\n" != want {
		t.Errorf("the app got %q, want %q", first, want)
	}
	expected := []string{"Host: " + orElse(c.host, "app.test"), "Everyhop-Caller: spiffe://td.test/" + as, "Everyhop-Decision: " + decision}
	if rest != "" {
		expected = append(expected, strings.Split(rest, "\n")...)
	}
	if c.body != "" {
		expected = append(expected, fmt.Sprint("Content-Length: ", len(c.body)))
	}
	for _, field := range expected {
		if !head[field] {
			t.Errorf("the app did not get %q: %q", field, seen[0])
		}
		delete(head, field)
	}
	for field := range head {
		name, value, _ := strings.Cut(field, ": ")
		switch {
		case name == "Via" && strings.Contains(value, "everyhop ("):
		case name == "X-Forwarded-Client-Cert" && strings.HasPrefix(value, "By=spiffe://td.test/"+service+";Hash=") && strings.HasSuffix(value, ";URI=spiffe://td.test/"+as):
		case name == "User-Agent" && c.reason == policy.Allowed && strings.Contains(strings.Join(c.header, "\n"), value):
		case name == "Sec-Websocket-Version":
		case name == "Content-Length" && value == "0":
		default:
			t.Errorf("the app also got %q", field)
		}
	}
}

func TestInbound_NobodyWithoutAnSVIDIsHeard(t *testing.T) {
	h := newHouse(t, nil)
	for name, config := range map[string]*tls.Config{
		"no certificate":  {InsecureSkipVerify: true},
		"TLS 1.2":         {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{h.mint(web)}},
		"not a SPIFFE ID": {InsecureSkipVerify: true, Certificates: []tls.Certificate{h.mint(web, func(c *x509.Certificate) { c.URIs = nil })}},
	} {
		c, err := tls.Dial("tcp", h.address, config)
		if err != nil {
			continue
		}
		fmt.Fprint(c, "GET /public/a HTTP/1.1\r\nHost: app.test\r\n\r\n")
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("%s was answered", name)
		}
		c.Close()
	}
	if seen := h.app.seen(); len(seen) != 0 || len(h.records) != 0 {
		t.Errorf("the app got %q, %d recorded", seen, len(h.records))
	}
}

func (h *house) mint(name string, edits ...func(*x509.Certificate)) tls.Certificate {
	h.t.Helper()
	minted, err := h.domain.Mint(name, edits...)
	must(h.t, err)
	return minted.TLS()
}
