package h1

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/everyhop/everyhop/sidecar/wire"
)

const smuggled = "GET /admin/x HTTP/1.1\r\nHost: app.test\r\n\r\n"

func post(fields, body string) string {
	return "POST /public/a HTTP/1.1\r\n" + host + fields + "\r\n" + body
}

func get(fields string) string { return "GET /public/a HTTP/1.1\r\n" + host + fields + "\r\n" }

func line(text string) string { return text + "\r\n" + host + "\r\n" }

// Each of these heads is refused with its flaw, reaches no handler, and ends the
// connection, whatever follows it.
var badHeads = []struct {
	name, bytes string
	flaw        wire.Flaw
}{
	{"S01", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), wire.FlawCoding},
	{"S01 the other way round", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n"), wire.FlawCoding},
	{"S03", post("Connection: close\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), wire.FlawCoding},
	{"S04", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", ""), wire.FlawCoding},
	{"S04 twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", ""), wire.FlawCoding},
	{"S05 xchunked", post("Transfer-Encoding: xchunked\r\n", ""), wire.FlawCoding},
	{"S05 chunkedx", post("Transfer-Encoding: chunkedx\r\n", ""), wire.FlawCoding},
	{"S05 quoted", post("Transfer-Encoding: \"chunked\"\r\n", ""), wire.FlawCoding},
	{"S05 comma before", post("Transfer-Encoding: ,chunked\r\n", ""), wire.FlawCoding},
	{"S05 comma after", post("Transfer-Encoding: chunked,\r\n", ""), wire.FlawCoding},
	{"S05 empty", post("Transfer-Encoding:\r\n", ""), wire.FlawCoding},
	{"S06 chunked, identity", post("Transfer-Encoding: chunked, identity\r\n", ""), wire.FlawCoding},
	{"S06 gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", ""), wire.FlawCoding},
	{"S06 identity", post("Transfer-Encoding: identity\r\nContent-Length: 1\r\n", "a"), wire.FlawCoding},
	{"S07 VT", post("Transfer-Encoding:\x0bchunked\r\n", ""), wire.FlawField},
	{"S07 FF", post("Transfer-Encoding:\x0cchunked\r\n", ""), wire.FlawField},
	{"S07 NUL", post("Transfer-Encoding: chunked\x00\r\n", ""), wire.FlawField},
	{"S08", post("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", "hello"), wire.FlawField},
	{"S10", post("Transfer-Encoding: chunked \r\nContent-Length: 5\r\n", "hello"), wire.FlawCoding},
	{"S10 tab", post("Transfer-Encoding: \tchunked\r\nContent-Length: 5\r\n", "hello"), wire.FlawCoding},
	{"S12 coding", post("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "hello"), wire.FlawField},
	{"S12 length", post("Content_Length: 5\r\n", "hello"), wire.FlawField},
	{"S13", "POST /public/a HTTP/1.0\r\n" + host + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n29\r\n" + smuggled + "\r\n0\r\n\r\n", wire.FlawVersion},
	{"S15", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), wire.FlawLength},
	{"S15 two", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), wire.FlawLength},
	{"S17 5, 5", post("Content-Length: 5, 5\r\n", "hello"), wire.FlawLength},
	{"S17 5,6", post("Content-Length: 5,6\r\n", "hello"), wire.FlawLength},
	{"S17 5 5", post("Content-Length: 5 5\r\n", "hello"), wire.FlawLength},
	{"S18 plus", post("Content-Length: +5\r\n", "hello"), wire.FlawLength},
	{"S18 -0", post("Content-Length: -0\r\n", ""), wire.FlawLength},
	{"S18 -1", post("Content-Length: -1\r\n", ""), wire.FlawLength},
	{"S18 hex", post("Content-Length: 0x5\r\n", "hello"), wire.FlawLength},
	{"S18 grouped", post("Content-Length: 1_0\r\n", "hello"), wire.FlawLength},
	{"S18 decimal", post("Content-Length: 5.0\r\n", "hello"), wire.FlawLength},
	{"S18 arabic", post("Content-Length: ٥\r\n", "hello"), wire.FlawLength},
	{"S18 wide", post("Content-Length: ５\r\n", "hello"), wire.FlawLength},
	{"S19 0005", post("Content-Length: 0005\r\n", "hello"), wire.FlawLength},
	{"S19 00", post("Content-Length: 00\r\n", ""), wire.FlawLength},
	{"S20", post("Content-Length:\r\n", ""), wire.FlawLength},
	{"S20 blank", post("Content-Length: \r\n", ""), wire.FlawLength},
	{"S22 one more", post("Content-Length: 9223372036854775808\r\n", ""), wire.FlawLength},
	{"S22 20 digits", post("Content-Length: 18446744073709551621\r\n", "hello"), wire.FlawLength},
	{"S27 other", post("Expect: y100-continue\r\nContent-Length: 1\r\n", "a"), wire.FlawExpectation},
	{"S27 list", post("Expect: 100-continue, x\r\nContent-Length: 1\r\n", "a"), wire.FlawExpectation},
	{"S27 two", post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n", "a"), wire.FlawExpectation},
	{"S41 length", post("Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n", "0\r\n\r\n"), wire.FlawTrailer},
	{"S41 coding", post("Transfer-Encoding: chunked\r\nTrailer: x, transfer-encoding\r\n", "0\r\n\r\n"), wire.FlawTrailer},
	{"S43", "GET /public/a HTTP/1.1\nHost: app.test\n\n", wire.FlawRequestLine},
	{"S43 later", "GET /public/a HTTP/1.1\r\nHost: app.test\n\n", wire.FlawField},
	{"S43 at the end", "GET /public/a HTTP/1.1\r\nHost: app.test\r\n\n", wire.FlawField},
	{"S44", get("X: a\nX-Spiffe-Id: spiffe://td.test/admin\r\n"), wire.FlawField},
	{"S45", get("X: a\rX-Admin: 1\r\n"), wire.FlawField},
	{"S45 twice", get("X: a\r\r\n"), wire.FlawField},
	{"S46 value", get("X: a\x00b\r\n"), wire.FlawField},
	{"S46 name", get("X\x00: a\r\n"), wire.FlawField},
	{"S47", get("X-A: 1\r\n 2\r\n"), wire.FlawField},
	{"S47 tab", get("X-A: 1\r\n\t2\r\n"), wire.FlawField},
	{"S48", "\r\n\r\n" + get(""), wire.FlawRequestLine},
	{"S48 LF", "\n\n" + get(""), wire.FlawRequestLine},
	{"S50 first with space", "GET /public/a HTTP/1.1\r\n X: 1\r\n" + host + "\r\n", wire.FlawField},
	{"S50 no colon", get("X\r\n"), wire.FlawField},
	{"S50 no name", get(": x\r\n"), wire.FlawField},
	{"S50 space in name", get("X Y: 1\r\n"), wire.FlawField},
	{"S50 delimiter in name", get("X(Y): 1\r\n"), wire.FlawField},
	{"S50 obs-text in name", get("X\x80: 1\r\n"), wire.FlawField},
	{"S51 two spaces", line("GET  /public/a HTTP/1.1"), wire.FlawRequestLine},
	{"S51 two spaces later", line("GET /public/a  HTTP/1.1"), wire.FlawRequestLine},
	{"S51 tab", line("GET\t/public/a HTTP/1.1"), wire.FlawRequestLine},
	{"S51 space after", line("GET /public/a HTTP/1.1 "), wire.FlawRequestLine},
	{"S51 space before", line(" GET /public/a HTTP/1.1"), wire.FlawRequestLine},
	{"S51 no version", line("GET /public/a"), wire.FlawRequestLine},
	{"S51 1.1x", line("GET /public/a HTTP/1.1x"), wire.FlawRequestLine},
	{"S51 lower case", line("GET /public/a http/1.1"), wire.FlawRequestLine},
	{"S51 01.1", line("GET /public/a HTTP/01.1"), wire.FlawRequestLine},
	{"S51 1.10", line("GET /public/a HTTP/1.10"), wire.FlawRequestLine},
	{"S51 0.9", line("GET /public/a HTTP/0.9"), wire.FlawVersion},
	{"S51 1.0", line("GET /public/a HTTP/1.0"), wire.FlawVersion},
	{"S51 3.0", line("GET /public/a HTTP/3.0"), wire.FlawVersion},
	{"S52", line("GET /public/a HTTP/1.2"), wire.FlawVersion},
	{"S53", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", wire.FlawVersion},
	{"method of a byte that is none", line("G@T /public/a HTTP/1.1"), wire.FlawMethod},
	{"method of 33 bytes", line(repeat("A", 33) + " /public/a HTTP/1.1"), wire.FlawMethod},
	{"S58 none", "GET /public/a HTTP/1.1\r\n\r\n", wire.FlawHost},
	{"S58 two", get("Host: other.test\r\n"), wire.FlawHost},
	{"S58 twice the same", get("Host: app.test\r\n"), wire.FlawHost},
	{"S59 empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n", wire.FlawHost},
	{"S59 list", "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", wire.FlawHost},
	{"S59 port too large", "GET / HTTP/1.1\r\nHost: app.test:99999\r\n\r\n", wire.FlawHost},
	{"S59 port no number", "GET / HTTP/1.1\r\nHost: app.test:x\r\n\r\n", wire.FlawHost},
	{"S59 port empty", "GET / HTTP/1.1\r\nHost: app.test:\r\n\r\n", wire.FlawHost},
	{"H15 user", "GET / HTTP/1.1\r\nHost: user@app.test\r\n\r\n", wire.FlawHost},
	{"H15 path", "GET / HTTP/1.1\r\nHost: app.test/x\r\n\r\n", wire.FlawHost},
	{"H15 query", "GET / HTTP/1.1\r\nHost: app.test?x\r\n\r\n", wire.FlawHost},
	{"H15 open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", wire.FlawHost},
	{"H15 after bracket", "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", wire.FlawHost},
	{"H15 zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25lo]\r\n\r\n", wire.FlawHost},
	{"H15 NUL", "GET / HTTP/1.1\r\nHost: app.test\x00\r\n\r\n", wire.FlawField},
	{"H15 long label", "GET / HTTP/1.1\r\nHost: " + repeat("a", 300) + ".test\r\n\r\n", wire.FlawHost},
	{"H03 length", post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"), wire.FlawField},
	{"H03 coding", post("Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), wire.FlawField},
	{"H03 host", get("Connection: Host\r\n"), wire.FlawField},
	{"H20", get(repeat("X: 1\r\n", 100)), wire.FlawFieldSize},
	{"H20 ten thousand", get(repeat("X:1\r\n", 10000)), wire.FlawFieldSize},
	{"H21 value of 64 KiB", get("X: " + repeat("a", 64<<10) + "\r\n"), wire.FlawFieldSize},
	{"H21 value of 1 MiB", get("X: " + repeat("a", 1<<20) + "\r\n"), wire.FlawFieldSize},
	{"H21 name of 100 KiB", get(repeat("a", 100<<10) + ": 1\r\n"), wire.FlawFieldSize},
	{"H22", get("Cookie: " + repeat("some=cookie12; ", 5000) + "\r\n"), wire.FlawFieldSize},
	{"target of 16 KiB and one", line("GET /" + repeat("a", 16<<10) + " HTTP/1.1"), wire.FlawTargetLength},
	{"target of 1 MiB", line("GET /" + repeat("a", 1<<20) + " HTTP/1.1"), wire.FlawTargetLength},
	{"P11", line("GET /public/a#/admin HTTP/1.1"), wire.FlawTarget},
	{"P11 at once", line("GET /admin#x HTTP/1.1"), wire.FlawTarget},
	{"P17", line("GET /%zz HTTP/1.1"), wire.FlawTarget},
	{"P20", line("GET x:admin HTTP/1.1"), wire.FlawTarget},
	{"P20 slash", line("GET x:/admin HTTP/1.1"), wire.FlawTarget},
	{"P22", line("GET https://other.test/public/x HTTP/1.1"), wire.FlawHost},
	{"P23 scheme", line("GET ftp://app.test/public/x HTTP/1.1"), wire.FlawTarget},
	{"P23 user", line("GET https://u:p@app.test/public/x HTTP/1.1"), wire.FlawTarget},
	{"P23 no authority", line("GET https:///public/x HTTP/1.1"), wire.FlawTarget},
	{"P26", line("GET svc.Admin/Do HTTP/1.1"), wire.FlawTarget},
	{"target of obs-text", line("GET /caf\xe9 HTTP/1.1"), wire.FlawTarget},
	{"target of DEL", line("GET /a\x7f HTTP/1.1"), wire.FlawTarget},
	{"target of NUL", line("GET /a\x00 HTTP/1.1"), wire.FlawTarget},
	{"asterisk but no OPTIONS", line("GET * HTTP/1.1"), wire.FlawTarget},
	{"asterisk and more", line("OPTIONS *?x HTTP/1.1"), wire.FlawTarget},
	{"authority but no CONNECT", line("GET app.test:443 HTTP/1.1"), wire.FlawTarget},
	{"U18 path", line("CONNECT /x HTTP/1.1"), wire.FlawTarget},
	{"U18 no port", line("CONNECT app.test HTTP/1.1"), wire.FlawTarget},
}

func TestServer_RefusesHeads(t *testing.T) {
	for _, c := range badHeads {
		t.Run(c.name, func(t *testing.T) {
			rec := &recorder{}
			client := connect(t, rec.config())
			go io.WriteString(client, c.bytes+smuggled) // more than is read, perhaps
			r := bufio.NewReader(client)
			answer, _ := readAnswer(t, r, "GET")
			if answer.StatusCode != c.flaw.Status() || !answer.Close {
				t.Errorf("%d, close %v", answer.StatusCode, answer.Close)
			}
			closed(t, r)
			saw, flaws := rec.seen()
			if len(saw) != 0 || len(flaws) != 1 || flaws[0] != c.flaw {
				t.Errorf("flaws %v, saw %v", flaws, saw)
			}
		})
	}
}

// Each of these is one request, which is seen as it was sent; a second one behind
// it is seen too.
func TestServer_AcceptsOneRequestForOne(t *testing.T) {
	for _, c := range []struct {
		name, bytes string
		want        seen
	}{
		{"S11", post("Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), seen{body: "hello"}},
		{"S20 zero", post("Content-Length: 0\r\n", ""), seen{}},
		{"S25", "OPTIONS /public/a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n29\r\n" + smuggled[:0x29] + "\r\n0\r\n\r\n", seen{method: "OPTIONS", body: smuggled[:0x29]}},
		{"S32", post("Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n0;x\r\n\r\n"), seen{body: "hello"}},
		{"extensions of all kinds", post("Transfer-Encoding: chunked\r\n", "5;a;b=c;d=\"e\\\" ;f\"\r\nhello\r\n0\r\n\r\n"), seen{body: "hello"}},
		{"leading zeros, any case", post("Transfer-Encoding: chunked\r\n", "00A\r\n0123456789\r\n0b\r\n0123456789a\r\n000\r\n\r\n"), seen{body: "01234567890123456789a"}},
		{"length", post("Content-Length: 5\r\n", "hello"), seen{body: "hello"}},
		{"H24", get("X: caf\xe9\r\n"), seen{method: "GET", header: http.Header{"X": {"caf\xe9"}}}},
		{"blanks around values", get("X: \t a b\t c \t\r\n"), seen{method: "GET", header: http.Header{"X": {"a b\t c"}}}},
		{"empty values", get("X:\r\nY: \r\n"), seen{method: "GET", header: http.Header{"X": {""}, "Y": {""}}}},
		{"repeated fields", get("x: 1\r\nY: 2\r\nX: 3\r\n"), seen{method: "GET", header: http.Header{"X": {"1", "3"}, "Y": {"2"}}}},
		{"hundred fields", get(repeat("X: 1\r\n", 99)), seen{method: "GET"}},
		{"method of 32 bytes", line(repeat("A", 32) + " /public/a HTTP/1.1"), seen{method: repeat("A", 32)}},
		{"path with what is judged later", line("GET //a/../%2e/%2F\\?a=%zz&; HTTP/1.1"), seen{method: "GET", target: "//a/../%2e/%2F\\?a=%zz&;"}},
		{"absolute form", line("GET https://APP.test/public/x?y HTTP/1.1"), seen{method: "GET", target: "https://APP.test/public/x?y"}},
		{"P24", line("OPTIONS * HTTP/1.1"), seen{method: "OPTIONS", target: "*"}},
		{"CONNECT", line("CONNECT app.test:443 HTTP/1.1"), seen{method: "CONNECT", target: "app.test:443"}},
		{"trailer", post("Transfer-Encoding: chunked\r\n", "0\r\nx-sum: 1\r\n\r\n"), seen{trailer: http.Header{"X-Sum": {"1"}}}},
		{"S41 host", post("Transfer-Encoding: chunked\r\nTrailer: Host, X\r\n", "0\r\nx: 1\r\n\r\n"), seen{trailer: http.Header{"X": {"1"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := &recorder{}
			client := connect(t, rec.config())
			send(t, client, c.bytes, "GET /next HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")
			r := bufio.NewReader(client)
			want := c.want
			want.method = or(want.method, "POST")
			want.target = or(want.target, "/public/a")
			readAnswer(t, r, want.method)
			if _, body := readAnswer(t, r, "GET"); body != "saw /next" {
				t.Errorf("then %q", body)
			}
			closed(t, r)
			saw, flaws := rec.seen()
			if len(saw) != 2 || len(flaws) != 0 {
				t.Fatal(saw, flaws)
			}
			got := saw[0]
			if got.method != want.method || got.target != want.target || got.host != "app.test" || got.body != want.body || got.err != nil {
				t.Errorf("%+v", got)
			}
			for name, values := range want.header {
				if strings.Join(got.header[name], "|") != strings.Join(values, "|") {
					t.Errorf("%s: %q", name, got.header[name])
				}
			}
			if got.trailer.Get("X") != want.trailer.Get("X") || got.trailer.Get("X-Sum") != want.trailer.Get("X-Sum") || len(got.trailer) != len(want.trailer) {
				t.Errorf("trailer %v", got.trailer)
			}
		})
	}
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

const inChunksHead = "POST /public/a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n"

// Each of these bodies is broken: reading it is an error, never its end, and no
// request is found behind it.
func TestServer_BodyThatIsBrokenNeverEnds(t *testing.T) {
	for _, c := range []struct {
		name, body string
		flaw       wire.Flaw // none: the client went away
	}{
		{"S30 hex mark", "0x5\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S30 plus", "+5\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S30 space before", " 5\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S30 grouped", "5_0\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S30 minus", "-1\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S30 no hex", "5h\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S30 empty", "\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S31", "5 \r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S31 tab", "5\t\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S31 before an extension", "5 ;a\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S33 LF in extension", "5;a\n hello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S33 LF", "5\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S33 LF at the end", "0\n\n", wire.FlawChunk},
		{"S33 LF after the last", "0\r\n\n", wire.FlawTrailer},
		{"S34", "5;a\rb\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S34 twice", "5\r\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"extension without name", "5;\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"extension without value", "5;a=\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"extension with a quote open", "5;a=\"b\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S36 17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", wire.FlawChunk},
		{"S36 F", "FFFFFFFFFFFFFFFF\r\nhello", wire.FlawChunk},
		{"S36 8", "8000000000000000\r\nhello", wire.FlawChunk},
		{"S36 7F, then FIN", "7FFFFFFFFFFFFFFF\r\nhello", wire.FlawNone},
		{"S38 in a chunk", "5\r\nhel", wire.FlawNone},
		{"S38 after a chunk", "5\r\nhello\r\n", wire.FlawNone},
		{"S38 in the trailer", "0\r\nx: 1\r\n", wire.FlawNone},
		{"chunk longer than said", "5\r\nhello!\r\n0\r\n\r\n", wire.FlawChunk},
		{"chunk with no end", "5\r\nhello0\r\n\r\n", wire.FlawChunk},
		{"S39", repeat("1;"+repeat("a", 4090)+"\r\na\r\n", 10000) + "0\r\n\r\n", wire.FlawChunk},
		{"S39 in small extensions", repeat("1;"+repeat("a", 90)+"\r\na\r\n", 10000) + "0\r\n\r\n", wire.FlawChunk},
		{"S41 length", "0\r\nContent-Length: 5\r\n\r\n", wire.FlawTrailer},
		{"S41 coding", "0\r\nTransfer-Encoding: chunked\r\n\r\n", wire.FlawTrailer},
		{"S41 host", "0\r\nHost: other.test\r\n\r\n", wire.FlawTrailer},
		{"trailer folded", "0\r\nX: 1\r\n 2\r\n\r\n", wire.FlawTrailer},
		{"trailer with underscore", "0\r\nX_Y: 1\r\n\r\n", wire.FlawTrailer},
		{"trailers too many", "0\r\n" + repeat("X: 1\r\n", 65) + "\r\n", wire.FlawTrailer},
		{"trailer too long", "0\r\nX: " + repeat("a", 17<<10) + "\r\n\r\n", wire.FlawTrailer},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := &recorder{}
			client := connect(t, rec.config())
			go func() {
				io.WriteString(client, inChunksHead+c.body)
				if c.flaw != wire.FlawNone {
					io.WriteString(client, smuggled)
				}
				client.(interface{ CloseWrite() error }).CloseWrite()
			}()
			r := bufio.NewReader(client)
			if answer, _ := readAnswer(t, r, "POST"); answer.StatusCode != 400 {
				t.Error(answer.StatusCode)
			}
			closed(t, r)
			saw, _ := rec.seen()
			want := error(io.ErrUnexpectedEOF)
			if c.flaw != wire.FlawNone {
				want = c.flaw
			}
			if len(saw) != 1 || saw[0].err != want {
				t.Errorf("%d requests, %v", len(saw), saw[0].err)
			}
		})
	}
}

func TestServer_BodyShorterThanItsLengthNeverEnds(t *testing.T) {
	rec := &recorder{}
	client := connect(t, rec.config())
	send(t, client, post("Content-Length: 6\r\n", "hello"))
	client.(interface{ CloseWrite() error }).CloseWrite()
	r := bufio.NewReader(client)
	readAnswer(t, r, "POST")
	closed(t, r)
	if saw, _ := rec.seen(); len(saw) != 1 || saw[0].err != io.ErrUnexpectedEOF {
		t.Error(saw)
	}
}
