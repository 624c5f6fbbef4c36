package inbound_test

import (
	"strings"

	"github.com/everyhop/everyhop/policy"
)

// framings are the cases of HTTP/1.1's own: S01 to S59, byte for byte.
func framings() []try {
	var all []try
	add := func(name string, reason policy.Reason, raws ...string) {
		for _, raw := range raws {
			all = append(all, try{name: name + " " + printable(raw), only: "http/1.1", request: request{raw: raw}, reason: reason})
		}
	}
	// head is a request of these fields; body one whose body is allowed.
	const h = "Host: app.test\r\n"
	head := func(fields string) string { return "GET /public/a HTTP/1.1\r\n" + h + fields + "\r\n" }
	body := func(fields, body string) string { return "POST /api/a HTTP/1.1\r\n" + h + fields + "\r\n" + body }
	heads := func(lines ...string) (raws []string) {
		for _, line := range lines {
			raws = append(raws, head(line))
		}
		return raws
	}
	bodies := func(lines ...string) (raws []string) {
		for _, line := range lines {
			raws = append(raws, body(line, "hello"))
		}
		return raws
	}
	const te = "Transfer-Encoding: chunked\r\n"
	const smuggled = "GET /public/smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"

	add("S01", policy.BodyMalformed, body("Content-Length: 4\r\n"+te, "0\r\n\r\n"+smuggled), body(te+"Content-Length: 4\r\n", "0\r\n\r\n"+smuggled))
	add("S03", policy.BodyMalformed, body("Content-Length: 4\r\n"+te+"Connection: close\r\n", "0\r\n\r\n"+smuggled))
	add("S04", policy.CodingRefused, bodies(te+"Transfer-Encoding: identity\r\n", te+te)...)
	add("S05", policy.CodingRefused, bodies("Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: chunkedx\r\n", "Transfer-Encoding: \"chunked\"\r\n",
		"Transfer-Encoding: ,chunked\r\n", "Transfer-Encoding: chunked,\r\n", "Transfer-Encoding:\r\n")...)
	add("S06", policy.CodingRefused, bodies("Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: identity\r\n")...)
	add("S06", policy.BodyMalformed, bodies("Transfer-Encoding: identity\r\nContent-Length: 5\r\n")...)
	add("S07", policy.HeaderMalformed, bodies("Transfer-Encoding:\x0bchunked\r\n", "Transfer-Encoding:\x0cchunked\r\n", "Transfer-Encoding: chunked\x00\r\n")...)
	add("S08", policy.HeaderMalformed, bodies("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n")...)
	add("S10", policy.BodyMalformed, bodies("Transfer-Encoding: chunked \r\nContent-Length: 5\r\n", "Transfer-Encoding: \tchunked\r\nContent-Length: 5\r\n")...)
	add("S12", policy.HeaderMalformed, bodies("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "Content_Length: 5\r\n")...)
	add("S13", policy.VersionRefused, "POST /api/a HTTP/1.0\r\n"+h+"Connection: keep-alive\r\n"+te+"\r\n31\r\n"+smuggled+"\r\n0\r\n\r\n")
	add("S15", policy.BodyMalformed, bodies("Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n")...)
	add("S17", policy.BodyMalformed, bodies("Content-Length: 5, 5\r\n", "Content-Length: 5,6\r\n", "Content-Length: 5 5\r\n")...)
	add("S18", policy.BodyMalformed, bodies("Content-Length: +5\r\n", "Content-Length: -0\r\n", "Content-Length: -1\r\n", "Content-Length: 0x5\r\n",
		"Content-Length: 1_0\r\n", "Content-Length: 5.0\r\n", "Content-Length: ٥\r\n", "Content-Length: ５\r\n")...)
	add("S19", policy.BodyMalformed, bodies("Content-Length: 0005\r\n", "Content-Length: 00\r\n")...)
	add("S20", policy.BodyMalformed, bodies("Content-Length:\r\n", "Content-Length: \r\n")...)
	add("S22", policy.BodyTooLarge, body("Content-Length: 9223372036854775807\r\n", ""))
	add("S22", policy.BodyMalformed, body("Content-Length: 9223372036854775808\r\n", ""), body("Content-Length: 99999999999999999999\r\n", ""))
	add("S25", policy.BodyUndeclared, "OPTIONS /api/a HTTP/1.1\r\n"+h+te+"\r\n31\r\n"+smuggled+"\r\n0\r\n\r\n")
	add("S27", policy.ExpectationRefused, bodies("Content-Length: 5\r\nExpect: y100-continue\r\n", "Content-Length: 5\r\nExpect: 100-continue, x\r\n",
		"Content-Length: 5\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n")...)
	add("S41", policy.BodyMalformed, body(te+"Trailer: Content-Length\r\n", "0\r\n\r\n"), body(te+"Trailer: Transfer-Encoding\r\n", "0\r\n\r\n"))
	add("S43", policy.RequestMalformed, strings.ReplaceAll(head(""), "\r\n", "\n"))
	add("S43", policy.HeaderMalformed, "GET /public/a HTTP/1.1\r\nHost: app.test\n\r\n", "GET /public/a HTTP/1.1\r\nHost: app.test\r\n\n")
	add("S44", policy.HeaderMalformed, heads("X: a\nX-Spiffe-Id: spoofed\r\n")...)
	add("S45", policy.HeaderMalformed, heads("X: a\rX-Admin: 1\r\n", "X: a\r\r\n")...)
	add("S46", policy.HeaderMalformed, heads("X: a\x00b\r\n", "X\x00: a\r\n")...)
	add("S47", policy.HeaderMalformed, heads("X-A: 1\r\n 2\r\n", "X-A: 1\r\n\t2\r\n")...)
	add("S48", policy.RequestMalformed, "\r\n\r\n"+head(""), "\n\n"+head(""))
	add("S50", policy.HeaderMalformed, "GET /public/a HTTP/1.1\r\n Host: app.test\r\n\r\n")
	add("S50", policy.HeaderMalformed, heads("X\r\n", ": x\r\n", "X Y: 1\r\n", "X(Y): 1\r\n", "X\x80: 1\r\n")...)
	add("S51", policy.RequestMalformed, "GET  /public/a HTTP/1.1\r\n"+h+"\r\n", "GET /public/a  HTTP/1.1\r\n"+h+"\r\n", "GET\t/public/a\tHTTP/1.1\r\n"+h+"\r\n",
		"GET /public/a HTTP/1.1 \r\n"+h+"\r\n", "GET /public/a\r\n"+h+"\r\n", "GET /public/a HTTP/1.1x\r\n"+h+"\r\n", "GET /public/a http/1.1\r\n"+h+"\r\n",
		"GET /public/a HTTP/01.1\r\n"+h+"\r\n", "GET /public/a HTTP/1.10\r\n"+h+"\r\n")
	add("S51", policy.VersionRefused, "GET /public/a HTTP/0.9\r\n"+h+"\r\n", "GET /public/a HTTP/3.0\r\n"+h+"\r\n", "GET /public/a HTTP/2.0\r\n"+h+"\r\n")
	add("S58", policy.HostMalformed, "GET /public/a HTTP/1.1\r\n\r\n", head("Host: other.test\r\n"), head("Host: app.test\r\n"))
	add("S59", policy.HostMalformed, "GET /public/a HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", "GET /public/a HTTP/1.1\r\nHost: app.test:\r\n\r\n")
	add("P22", policy.HostMismatch, "GET https://other.test/public/a HTTP/1.1\r\n"+h+"\r\n", "GET https://app.test:443/public/a HTTP/1.1\r\n"+h+"\r\n")
	add("P25", policy.TargetForm, "GET https://u:p@app.test/public/a HTTP/1.1\r\n"+h+"\r\n", "GET /public/\x80 HTTP/1.1\r\n"+h+"\r\n")
	add("method", policy.MethodMalformed, "G@T /public/a HTTP/1.1\r\n"+h+"\r\n", strings.Repeat("A", 33)+" /public/a HTTP/1.1\r\n"+h+"\r\n")
	add("H21", policy.HeadersTooLarge, head("X: "+strings.Repeat("x", 70<<10)+"\r\n"))
	return append(all, chunked(body)...)
}

// chunked are the cases of chunked bodies. What the app has got of one whose
// chunks are broken, it sees to be cut: never an end.
func chunked(body func(fields, body string) string) []try {
	var all []try
	const te = "Transfer-Encoding: chunked\r\n"
	for _, c := range []struct{ name, chunks string }{
		{"S30", "0x5\r\nhello\r\n0\r\n\r\n"}, {"S30", "+5\r\nhello\r\n0\r\n\r\n"}, {"S30", " 5\r\nhello\r\n0\r\n\r\n"}, {"S30", "5_0\r\nhello\r\n0\r\n\r\n"},
		{"S30", "-1\r\nhello\r\n0\r\n\r\n"}, {"S30", "5h\r\nhello\r\n0\r\n\r\n"}, {"S30", "\r\nhello\r\n0\r\n\r\n"}, {"S30", "5\r\nhelloX\r\n0\r\n\r\n"},
		{"S31", "5 \r\nhello\r\n0\r\n\r\n"}, {"S31", "5\t\r\nhello\r\n0\r\n\r\n"},
		{"S33", "5;a\nhello\r\n0\r\n\r\n"}, {"S33", "5\nhello\r\n0\r\n\r\n"}, {"S33", "5\r\nhello\r\n0\n\n"}, {"S33", "5\r\nhello\n0\r\n\r\n"},
		{"S34", "5;a\rb\r\nhello\r\n0\r\n\r\n"}, {"S34", "5\r\r\nhello\r\n0\r\n\r\n"},
		{"S36", strings.Repeat("1", 17) + "\r\nhello"}, {"S36", "FFFFFFFFFFFFFFFF\r\nhello"}, {"S36", "8000000000000000\r\nhello"},
		{"S41", "5\r\nhello\r\n0\r\nHost: spoofed\r\n\r\n"}, {"S41", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"},
	} {
		all = append(all, try{name: c.name + " " + printable(c.chunks), only: "http/1.1", cut: true, request: request{raw: body(te, c.chunks)}, reason: policy.BodyMalformed})
	}
	all = append(all, try{name: "S36 largest", only: "http/1.1", cut: true, request: request{raw: body(te, "7FFFFFFFFFFFFFFF\r\n"+strings.Repeat("x", 65))}, reason: policy.BodyTooLarge})
	for _, c := range []string{"5\r\nhel", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n"} {
		all = append(all, try{name: "S38 " + printable(c), only: "http/1.1", cut: true, request: request{raw: body(te, c), fin: true}, reason: policy.ClientGone})
	}
	all = append(all, try{name: "S38 length", only: "http/1.1", cut: true, request: request{raw: body("Content-Length: 5\r\n", "hel"), fin: true}, reason: policy.ClientGone})
	const framed = "POST /api/a\nTransfer-Encoding: chunked"
	for _, c := range []struct{ name, fields, chunks string }{
		{"S11", "Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"},
		{"S32", te, "5;a=b\r\nhello\r\n0;x\r\n\r\n"},
		{"S41 host", te + "Trailer: Host\r\n", "5\r\nhello\r\n0\r\n\r\n"},
		{"H12 trailer", te + "Trailer: X-Spiffe-Id\r\n", "5\r\nhello\r\n0\r\nX-Spiffe-Id: spoofed\r\n\r\n"},
	} {
		all = append(all, try{name: c.name, only: "http/1.1", request: request{raw: body(c.fields, c.chunks)}, reason: policy.Allowed, app: framed, in: 5})
	}
	return all
}

func printable(text string) string {
	text = strings.NewReplacer("\r", "r", "\n", "n", " ", "_", "/", "|").Replace(text)
	return text[max(0, min(len(text)-40, 40)):min(len(text), 90)]
}

const plain = ":method: GET\n:scheme: https\n:authority: app.test\n:path: /public/a"

// malformed are the cases of HTTP/2's own: what RFC 9113 calls malformed is reset,
// and recorded all the same.
var malformed = []try{
	{name: "T15 ftp", only: "h2", reset: true, request: request{method: "GET", target: "/public/a", scheme: "ftp"}, reason: policy.RequestMalformed},
	{name: "T15 no scheme", only: "h2", reset: true, request: request{block: ":method: GET\n:authority: app.test\n:path: /public/a"}, reason: policy.RequestMalformed},
	{name: "T15 no path", only: "h2", reset: true, request: request{block: ":method: GET\n:scheme: https\n:authority: app.test"}, reason: policy.RequestMalformed},
	{name: "T15 no method", only: "h2", reset: true, request: request{block: ":scheme: https\n:authority: app.test\n:path: /public/a"}, reason: policy.MethodMalformed},
	{name: "T15 twice", only: "h2", reset: true, request: request{block: plain + "\n:path: /admin/x"}, reason: policy.RequestMalformed},
	{name: "T15 late", only: "h2", reset: true, request: request{block: ":method: GET\n:scheme: https\n:authority: app.test\naccept: a\n:path: /public/a"}, reason: policy.RequestMalformed},
	{name: "T15 unknown", only: "h2", reset: true, request: request{block: plain + "\n:x: y"}, reason: policy.RequestMalformed},
	{name: "T15 of an answer", only: "h2", reset: true, request: request{block: plain + "\n:status: 200"}, reason: policy.RequestMalformed},
	{name: "T16 case", only: "h2", reset: true, request: request{block: plain + "\nX-A: b"}, reason: policy.HeaderMalformed},
	{name: "T16 connection", only: "h2", reset: true, request: request{block: plain + "\nconnection: close"}, reason: policy.HeaderMalformed},
	{name: "T16 upgrade", only: "h2", reset: true, request: request{block: plain + "\nupgrade: h2c"}, reason: policy.HeaderMalformed},
	{name: "T16 keep-alive", only: "h2", reset: true, request: request{block: plain + "\nkeep-alive: 1"}, reason: policy.HeaderMalformed},
	{name: "T16 coding", only: "h2", reset: true, request: request{block: plain + "\ntransfer-encoding: chunked"}, reason: policy.HeaderMalformed},
	{name: "T16 te", only: "h2", reset: true, request: request{block: plain + "\nte: gzip"}, reason: policy.HeaderMalformed},
	{name: "T17 empty", only: "h2", reset: true, request: request{target: "/public/a"}, reason: policy.MethodMalformed},
	{name: "T18 opaque", only: "h2", reset: true, request: request{method: "GET", target: "x:admin"}, reason: policy.TargetForm},
	{name: "T18 space", only: "h2", reset: true, request: request{method: "GET", target: "/a b"}, reason: policy.TargetForm},
	{name: "T18 slashes", only: "h2", request: request{method: "GET", target: "//x"}, reason: policy.TargetAmbiguous},
	{name: "T18 empty", only: "h2", reset: true, request: request{method: "GET", target: ""}, reason: policy.TargetForm},
	{name: "T22 CR", only: "h2", reset: true, request: request{block: plain + "\nx-a: b\rc"}, reason: policy.HeaderMalformed},
	{name: "T22 NUL", only: "h2", reset: true, request: request{block: plain + "\nx-a: b\x00c"}, reason: policy.HeaderMalformed},
	{name: "T22 trailing", only: "h2", reset: true, request: request{block: plain + "\nx-a: b "}, reason: policy.HeaderMalformed},
	{name: "T22 name", only: "h2", reset: true, request: request{block: plain + "\nx a: b"}, reason: policy.HeaderMalformed},
	{name: "T23 pseudo", only: "h2", reset: true, cut: true, request: request{block: ":method: POST\n:scheme: https\n:authority: app.test\n:path: /api/a", body: "x", trailer: ":path: /admin/x"}, reason: policy.BodyMalformed},
	{name: "T29 slash", only: "h2", request: request{method: "POST", target: "/svc.Orders/Get/", header: []string{"content-type: application/grpc"}, body: "x"}, reason: policy.RouteUndeclared},
	{name: "T29 case", only: "h2", request: request{method: "POST", target: "/svc.orders/Get", header: []string{"content-type: application/grpc"}, body: "x"}, reason: policy.RouteUndeclared},
	{name: "T29 query", only: "h2", request: request{method: "POST", target: "/svc.Orders/Get?x", header: []string{"content-type: application/grpc"}, body: "x"}, reason: policy.QueryUndeclared},
	{name: "U19 connect", only: "h2", request: request{block: ":method: CONNECT\n:authority: app.test:443"}, reason: policy.MethodRefused},
}
