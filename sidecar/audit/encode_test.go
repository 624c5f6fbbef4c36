package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/identity"
	"github.com/everyhop/everyhop/policy"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 123456789, time.UTC)

func fullRecord() *Record {
	return &Record{
		Time:       noon,
		ID:         "000102030405060708090a0b0c0d0e0f",
		Direction:  Inbound,
		Peer:       identity.Peer{ID: spiffeid.RequireFromString("spiffe://example.org/web"), Serial: "5f1c"},
		Method:     "GET",
		Route:      "/orders/{id}",
		Path:       "/orders/7",
		Rule:       &policy.Rule{Name: "read-order", Pos: policy.Pos{File: "policy.yaml", Line: 5, Col: 5}},
		Shadow:     &policy.Rule{Name: "read-any"},
		Verdict:    policy.Allow,
		Reason:     policy.Allowed,
		Fault:      "connection_refused",
		Status:     200,
		BytesIn:    12,
		BytesOut:   340,
		Duration:   1234 * time.Microsecond,
		Digest:     "ab12",
		Generation: 3,
		Trace:      "4bf92f3577b34da6a3ce929d0e0e4736",

		DroppedHeaders: 2,
	}
}

func TestEncode_OneLineOfEveryField(t *testing.T) {
	const want = `{"time":"2026-05-04T12:00:00.123456Z","seq":7,"id":"000102030405060708090a0b0c0d0e0f",` +
		`"direction":"inbound","caller":"spiffe://example.org/web","caller_serial":"5f1c","method":"GET",` +
		`"route":"/orders/{id}","grant":"read-order","grant_at":"policy.yaml:5:5","shadow":"read-any",` +
		`"verdict":"allow","reason":"allowed","fault":"connection_refused","status":200,"bytes_in":12,"bytes_out":340,` +
		`"duration_seconds":0.001234,"dropped_headers":2,"policy":"ab12","generation":3,` +
		`"trace":"4bf92f3577b34da6a3ce929d0e0e4736"}` + "\n"
	if got := string(appendRecord(nil, fullRecord(), 7, false)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEncode_OutboundNamesTheCallAndItsPeer(t *testing.T) {
	r := fullRecord()
	r.Direction, r.Call = Outbound, "payments"
	got := string(appendRecord(nil, r, 1, false))
	for _, want := range []string{`"call":"payments"`, `"peer":"spiffe://example.org/web"`, `"peer_serial":"5f1c"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if strings.Contains(got, `"caller"`) {
		t.Errorf("an outbound record has a caller: %s", got)
	}
}

func TestEncode_RawPathOnlyWhereAskedFor(t *testing.T) {
	if got := string(appendRecord(nil, fullRecord(), 1, false)); strings.Contains(got, "/orders/7") {
		t.Errorf("the raw path is in %s", got)
	}
	if got := string(appendRecord(nil, fullRecord(), 1, true)); !strings.Contains(got, `"path":"/orders/7"`) {
		t.Errorf("the raw path is not in %s", got)
	}
}

// L01, L02.
func TestEncode_NoFieldEndsTheLineOrReachesATerminal(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a\r\nb", `a\u000d\u000ab`},
		{`","admin":true,"x":"`, `\",\"admin\":true,\"x\":\"`},
		{"tab\there", `tab\u0009here`},
		{"nul\x00", `nul\u0000`},
		{"\x1b[2J", `\u001b[2J`},
		{"\x7f\u0085", `\u007f\u0085`},
		{"a\u202eb", `a\u202eb`},
		{"a\u2028b\u2029", `a\u2028b\u2029`},
		{"\ufeffbom", `\ufeffbom`},
		{"bad\xff\xc3(", `bad\ufffd\ufffd(`},
		{"\xed\xa0\x80", `\ufffd\ufffd\ufffd`}, // a lone surrogate
		{"\U000e0001tag", `\udb40\udc01tag`},
		{`back\slash`, `back\\slash`},
		{"año 日本", "año 日本"},
	} {
		if got := string(appendEscaped(nil, c.text, 1024)); got != c.want {
			t.Errorf("%q: got %s, want %s", c.text, got, c.want)
		}
	}
}

// L03: a megabyte in every field, each byte of it the kind that grows most.
func TestEncode_NoLineIsLongerThanSixteenKiB(t *testing.T) {
	for _, long := range []string{strings.Repeat("a", 1<<20), strings.Repeat("\x00", 1<<20), strings.Repeat("日", 1<<20), strings.Repeat("\U000e0001", 1<<20)} {
		r := fullRecord()
		r.ID, r.Direction, r.Method, r.Route, r.Path, r.Digest, r.Trace, r.Call = long, long, long, long, long, long, long, long
		r.Rule = &policy.Rule{Name: long, Pos: policy.Pos{File: long, Line: 1 << 40, Col: 1 << 40}}
		r.Shadow, r.Peer.Serial = r.Rule, long
		for _, direction := range []string{long, Outbound} {
			r.Direction = direction
			line := appendRecord(nil, r, 1<<63, true)
			if len(line) > maxLine {
				t.Errorf("%d bytes", len(line))
			}
			if !json.Valid(line) || !strings.Contains(string(line), mark) {
				t.Errorf("not valid, or not marked: %.200s", line)
			}
		}
	}
}

func TestEncode_AllocatesNothing(t *testing.T) {
	b, r := make([]byte, 0, maxLine), fullRecord()
	if n := testing.AllocsPerRun(100, func() { b = appendRecord(b[:0], r, 1, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("GET", "/a", "/a?b", "x")
	f.Add("\x1b[2J", "\",\"a\":\"", "\xff\u2028", strings.Repeat("\\", 5000))
	f.Fuzz(func(t *testing.T, method, route, path, grant string) {
		r := fullRecord()
		r.Method, r.Route, r.Path, r.Rule = method, route, path, &policy.Rule{Name: grant}
		line := appendRecord(nil, r, 1, true)
		if len(line) > maxLine || line[len(line)-1] != '\n' {
			t.Fatalf("%d bytes, ends %q", len(line), line[len(line)-1:])
		}
		for _, c := range string(line[:len(line)-1]) {
			if c == utf8.RuneError || !unicode.IsPrint(c) {
				t.Fatalf("%U is in the line", c)
			}
		}
		var read struct{ Method, Route, Path, Grant string }
		if err := json.Unmarshal(line, &read); err != nil {
			t.Fatal(err)
		}
		for _, c := range [][2]string{{method, read.Method}, {route, read.Route}, {path, read.Path}, {grant, read.Grant}} {
			if whole := strings.ToValidUTF8(c[0], ""); c[0] == whole && c[1] != whole && !strings.HasSuffix(c[1], mark) {
				t.Errorf("wrote %q, read %q", c[0], c[1])
			}
		}
	})
}

func TestEscape_CutsWhereTheTextNoLongerFits(t *testing.T) {
	const limit = 20
	room := limit - len(mark)
	for n, want := range map[int]string{
		room - 1: strings.Repeat("a", room-1),
		room:     strings.Repeat("a", room),
		room + 1: strings.Repeat("a", room) + mark,
		limit:    strings.Repeat("a", room) + mark,
	} {
		if got := string(appendEscaped([]byte("x"), strings.Repeat("a", n), limit)); got != "x"+want {
			t.Errorf("%d: %q", n, got)
		}
	}
	if got := string(appendEscaped(nil, strings.Repeat("a", room-1)+"\x1bb", limit)); got != strings.Repeat("a", room-1)+mark {
		t.Errorf("%q", got)
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	r := &Record{
		Time: time.Unix(1700000000, 123456789), ID: "0123456789abcdef0123456789abcdef", Direction: "inbound", Method: "GET",
		Route: "/orders/{id}", Path: "/orders/7", Verdict: policy.Allow, Reason: policy.Allowed, Status: 200, BytesOut: 120,
		Duration: 812 * time.Microsecond, Digest: "sha256:0123456789abcdef", Generation: 3,
	}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = appendRecord(buf[:0], r, 1, true)
	}
}

func TestAppendTime_IsWhatTheLayoutSays(t *testing.T) {
	for _, at := range []time.Time{
		{}, time.Unix(0, 0), time.Unix(1, 999), time.Unix(1, 1000), time.Unix(1<<31, 999_999_999),
		time.Date(2024, 2, 29, 23, 59, 59, 1_000_000, time.FixedZone("", 3600)), time.Date(9999, 12, 31, 23, 59, 59, 99_000, time.UTC),
	} {
		if got, want := string(appendTime(nil, at)), at.UTC().Format("2006-01-02T15:04:05.000000Z"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestAppendSeconds_HasSixDigits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.000000", 0: "0.000000", 499: "0.000000", 500: "0.000001", 1500 * time.Microsecond: "0.001500",
		time.Second: "1.000000", time.Hour + 1001*time.Microsecond: "3600.001001",
	} {
		if got := string(appendSeconds(nil, "d", d)); got != `,"d":`+want {
			t.Errorf("%v: %s", d, got)
		}
	}
}
