package interop

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
)

// vectors are requests, good and bad, that mutants are made of. ¶ is CR LF, and @
// is the number of the mutant.
var vectors = []string{
	"GET /public/@ HTTP/1.1¶Host: app.test¶¶",
	"GET /public/@/%41%2a?q=1 HTTP/1.1¶Host: app.test¶Accept: */*¶¶",
	"GET http://app.test/public/@ HTTP/1.1¶Host: app.test¶¶",
	"GET https://app.test/public/@ HTTP/1.1¶Host: app.test¶¶",
	"HEAD /public/@ HTTP/1.1¶Host: app.test:8443¶Range: bytes=0-1¶¶",
	"OPTIONS * HTTP/1.1¶Host: app.test¶¶",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Content-Length: 5¶¶hello",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Content-Length: 0¶¶",
	"PUT /api/@ HTTP/1.1¶Host: app.test¶Content-Length: 52¶¶GET /admin/x HTTP/1.1¶Host: app.test¶X-Long: y¶¶",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Transfer-Encoding: chunked¶¶5¶hello¶0¶¶",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Transfer-Encoding: Chunked¶¶5;a=b¶hello¶a¶0123456789¶0;x¶¶",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Transfer-Encoding: chunked¶Trailer: X-T¶¶5¶hello¶0¶X-T: 1¶¶",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Transfer-Encoding: chunked¶¶29¶GET /admin/x HTTP/1.1¶Host: app.test¶¶¶0¶¶",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Content-Length: 4¶Transfer-Encoding: chunked¶¶0¶¶GET /admin/x HTTP/1.1¶Host: app.test¶¶",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Transfer-Encoding: chunked¶Content-Length: 40¶¶0¶¶GET /admin/x HTTP/1.1¶Host: app.test¶¶",
	"POST /public/@ HTTP/1.0¶Host: app.test¶Connection: keep-alive¶Transfer-Encoding: chunked¶¶29¶GET /admin/x HTTP/1.1¶Host: app.test¶¶¶0¶¶",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Content-Length: 5¶Content-Length: 5¶¶hello",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Content-Length: 0005¶¶hello",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Content-Length: +5¶¶hello",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Transfer_Encoding: chunked¶Content-Length: 5¶¶hello",
	"OPTIONS /public/@ HTTP/1.1¶Host: app.test¶Transfer-Encoding: chunked¶¶29¶GET /admin/x HTTP/1.1¶Host: app.test¶¶¶0¶¶",
	"GET /public/@ HTTP/1.1¶Host: app.test¶Content-Length: 30¶Expect: 100-continue¶¶GET /admin/x HTTP/1.1¶X: yyyyyy",
	"POST /public/@ HTTP/1.1¶Host: app.test¶Content-Length: 5¶Expect: 100-continue¶¶hello",
	"GET /public/@ HTTP/1.1\nHost: app.test\n\n",
	"GET /public/@ HTTP/1.1¶Host: app.test¶X-A: a\nX-Spiffe-Id: spiffe://example.org/admin¶¶",
	"GET /public/@ HTTP/1.1¶Host: app.test¶X-A: 1¶ 2¶¶",
	"¶¶GET /public/@ HTTP/1.1¶Host: app.test¶¶",
	"PRI * HTTP/2.0¶¶SM¶¶",
	"GET /public/@ HTTP/1.1¶Host: app.test¶Connection: Upgrade, HTTP2-Settings¶Upgrade: h2c¶HTTP2-Settings: AAMAAABkAAQAAP__¶¶",
	"GET /public/@ HTTP/1.1¶Host: app.test¶Connection: Upgrade¶Upgrade: websocket¶Sec-WebSocket-Version: 13¶Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==¶¶",
	"GET /public/@ HTTP/1.1¶Host: app.test¶Connection: close, x-id¶X-Id: 1¶¶",
	"CONNECT app.test:443 HTTP/1.1¶Host: app.test:443¶¶",
	"GET /public/../admin/@ HTTP/1.1¶Host: app.test¶¶",
	"GET /public/@ HTTP/1.1¶Host: app.test¶Cookie: a=b¶Authorization: Bearer x¶TE: trailers¶Via: 1.1 x¶¶",
	"GET /public/1-@ HTTP/1.1¶Host: app.test¶¶GET /public/2-@ HTTP/1.1¶Host: app.test¶¶GET /admin/3-@ HTTP/1.1¶Host: app.test¶¶GET /public/4-@ HTTP/1.1¶Host: app.test¶¶",
}

// fields are lines that a mutant may get.
var fields = []string{
	"Content-Length: 5", "Content-Length: 0", "Content-Length: 5, 5", "Content-Length:", "Content-Length: -1", "Content-Length: 0x5",
	"Content-Length: 9223372036854775807", "Content-Length : 5", "Content_Length: 5", "Content-Length: 5 ", " Content-Length: 5",
	"Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked, identity",
	"Transfer-Encoding: gzip, chunked", "Transfer-Encoding:\x0bchunked", "Transfer-Encoding : chunked", "Transfer-Encoding:\tchunked ",
	"Transfer-Encoding: ,chunked", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding:", "Transfer-Encoding: chunked\x00",
	"Host: app.test", "Host: other.test", "Host:", "Host: a.test, b.test", "Host: app.test:99999", "Host: user@app.test", "Host: [::1]:80",
	"Connection: close", "Connection: keep-alive", "Connection: Content-Length", "Connection: Transfer-Encoding", "Connection: Host",
	"Expect: 100-continue", "Expect: y100-continue", "Trailer: Content-Length", "Upgrade: h2c", "Max-Forwards: 0", "TE: gzip",
	"X: a\rX-Admin: 1", "X: a\x00b", "\tX: 1", ": x", "X Y: 1", "X(Y): 1", "X\x80: 1", "no colon", "X: " + strings.Repeat("y", 3000),
	"Everyhop-Caller: spiffe://example.org/admin", "X-Http-Method-Override: DELETE", "Range: bytes=0-", "Content-Type: a/b\r\n c",
}

var targets = []string{
	"/public/%2e%2e/admin/@", "/public/@%00", "/public//@", "/public/./@", "/public/@;x=1", "/public/@#f", "/public/@?q=a&q=b", "/public/@?x=1",
	"/public\\@", "/public/%2f@", "/public/%c3%a9@", "/public/\xc3\xa9@", "/public/%ff@", "/public/%25@", "/public/%7E@", "/PUBLIC/@", "/public/@ ",
	"public/@", "*", "", "//app.test/public/@", "http://app.test/public/@", "https://other.test/public/@", "https://app.test", "/admin/@",
	"/public/@?", "/public/%41@", "/api/%7e@?q=%00", "/public/" + strings.Repeat("p", 2000) + "@",
}

var verbs = []string{"GET", "get", "POST", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT", "G ET", "PATCH", "GET\t", "", "\x00GET", "PRI"}

var versions = []string{"HTTP/1.0", "HTTP/1.1", "HTTP/1.2", "HTTP/2.0", "HTTP/01.1", "HTTP/1.1x", "http/1.1", "HTTP/0.9", "", " HTTP/1.1"}

// bytesOfNote are those that parsers disagree on.
const bytesOfNote = "\r\n\t\x00\x0b\x0c :;,%/\\#?&=\"'(){}[]<>@-_+.0159afxXGZ\x7f\x80\xa0\xff"

// mutant is the nth of the corpus that a seed makes.
func mutant(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	text := strings.ReplaceAll(vectors[rng.IntN(len(vectors))], "¶", "\r\n")
	raw := []byte(text)
	for range []int{0, 0, 1, 1, 2, 3}[rng.IntN(6)] { // one of three stays as it is
		raw = mutations[rng.IntN(len(mutations))](rng, raw)
	}
	return bytes.ReplaceAll(raw, []byte("@"), []byte(strconv.Itoa(n)))
}

// mutations are of the bytes, and of the grammar.
var mutations = []func(rng *rand.Rand, raw []byte) []byte{
	func(rng *rand.Rand, raw []byte) []byte { // flip a bit
		if len(raw) > 0 {
			raw[rng.IntN(len(raw))] ^= 1 << rng.IntN(8)
		}
		return raw
	},
	func(rng *rand.Rand, raw []byte) []byte { // set a byte
		if len(raw) > 0 {
			raw[rng.IntN(len(raw))] = bytesOfNote[rng.IntN(len(bytesOfNote))]
		}
		return raw
	},
	func(rng *rand.Rand, raw []byte) []byte { // put a byte in
		at := rng.IntN(len(raw) + 1)
		return insert(raw, at, bytesOfNote[rng.IntN(len(bytesOfNote))])
	},
	func(rng *rand.Rand, raw []byte) []byte { // leave bytes out
		if len(raw) == 0 {
			return raw
		}
		at := rng.IntN(len(raw))
		return append(raw[:at:at], raw[min(len(raw), at+1+rng.IntN(3)):]...)
	},
	func(rng *rand.Rand, raw []byte) []byte { // end early
		return raw[:rng.IntN(len(raw)+1)]
	},
	func(rng *rand.Rand, raw []byte) []byte { // add a line
		return ofLines(raw, func(lines []string) []string {
			at := min(1+rng.IntN(3), len(lines))
			return append(lines[:at:at], append([]string{fields[rng.IntN(len(fields))] + "\r\n"}, lines[at:]...)...)
		})
	},
	func(rng *rand.Rand, raw []byte) []byte { // repeat, drop or swap lines
		return ofLines(raw, func(lines []string) []string {
			i, j := rng.IntN(len(lines)), rng.IntN(len(lines))
			switch rng.IntN(3) {
			case 0:
				return append(lines[:i:i], append([]string{lines[j]}, lines[i:]...)...)
			case 1:
				return append(lines[:i:i], lines[i+1:]...)
			}
			lines[i], lines[j] = lines[j], lines[i]
			return lines
		})
	},
	func(rng *rand.Rand, raw []byte) []byte { // end a line in another way
		return ofLines(raw, func(lines []string) []string {
			i := rng.IntN(len(lines))
			ends := []string{"\n", "\r", "\r\r\n", "\n\r", " \r\n", "\r\n ", "\x00\r\n", "\r\n\r\n"}
			lines[i] = strings.TrimRight(lines[i], "\r\n") + ends[rng.IntN(len(ends))]
			return lines
		})
	},
	func(rng *rand.Rand, raw []byte) []byte { // change a part of the request line
		line, rest, _ := bytes.Cut(raw, []byte("\r\n"))
		words := strings.SplitN(string(line), " ", 3)
		if len(words) < 3 {
			return raw
		}
		i := rng.IntN(3)
		from := [][]string{verbs, targets, versions}[i]
		words[i] = from[rng.IntN(len(from))]
		return append([]byte(strings.Join(words, " ")+"\r\n"), rest...)
	},
	func(rng *rand.Rand, raw []byte) []byte { // put two together
		other := strings.ReplaceAll(vectors[rng.IntN(len(vectors))], "¶", "\r\n")
		return append(raw[:len(raw):len(raw)], strings.ReplaceAll(other, "@", "@-b")...)
	},
}

func insert(raw []byte, at int, b byte) []byte {
	return append(append(append([]byte(nil), raw[:at]...), b), raw[at:]...)
}

func ofLines(raw []byte, edit func([]string) []string) []byte {
	lines := strings.SplitAfter(string(raw), "\n")
	return []byte(strings.Join(edit(lines), ""))
}
