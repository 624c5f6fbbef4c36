package match

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// The names are those of the attack each line is an instance of.
var canonicalCases = []struct{ name, path, want string }{ // want "": refused
	{"root", "/", "/"},
	{"plain", "/orders/7", "/orders/7"},
	{"trailing slash is part of the path", "/orders/", "/orders/"},
	{"grpc", "/shop.v1.Orders/Get", "/shop.v1.Orders/Get"},
	{"sub-delims", "/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b"},
	{"dots inside", "/a..b/.well-known/...", "/a..b/.well-known/..."},
	{"P09 unreserved lower", "/%61dmin/x", "/admin/x"},
	{"P09 unreserved upper", "/%41dmin/x", "/Admin/x"},
	{"unreserved marks", "/%2D%5f%7E", "/-_~"},
	{"hex case", "/a%3fb%c3%a9", "/a%3Fb%C3%A9"},
	{"P13 question mark stays", "/admin%3Fx=1", "/admin%3Fx=1"},
	{"P16 space inside", "/a%20b", "/a%20b"},
	{"P35 reserved stay", "/public/a%3Bb%40c%3Ad%2Ce", "/public/a%3Bb%40c%3Ad%2Ce"},
	{"encoded hash stays", "/a%23b", "/a%23b"},
	{"percent alone", "/100%25", "/100%25"},
	{"percent before one digit", "/a%25b/c", "/a%25b/c"},
	{"percent before no digit", "/a%25zz", "/a%25zz"},
	{"two-byte rune", "/caf%C3%A9", "/caf%C3%A9"},
	{"three-byte rune", "/%E2%82%AC", "/%E2%82%AC"},
	{"four-byte rune", "/%F0%9F%98%80", "/%F0%9F%98%80"},
	{"replacement character itself", "/%EF%BF%BD", "/%EF%BF%BD"},

	{"empty", "", ""},
	{"P20 no slash", "x:admin", ""},
	{"P26 no slash", "admin/x", ""},
	{"asterisk", "*", ""},
	{"P01", "/public/../admin/x", ""},
	{"P02 a", "/public/%2e%2e/admin/x", ""},
	{"P02 b", "/public/%2E%2e/admin/x", ""},
	{"P02 c", "/public/.%2e/admin/x", ""},
	{"P02 d", "/public/%2e./admin/x", ""},
	{"P03 lower", "/public/..%2fadmin/x", ""},
	{"P03 upper", "/public/..%2Fadmin/x", ""},
	{"P05 start", "//admin/x", ""},
	{"P05 three", "///admin/x", ""},
	{"P05 and dots", "/public//../admin", ""},
	{"P05 middle", "/public//x", ""},
	{"P05 end", "/public//", ""},
	{"P07 end", "/admin/.", ""},
	{"P07 middle", "/admin/./x", ""},
	{"P07 start", "/./admin/x", ""},
	{"P07 encoded", "/public/%2E", ""},
	{"dots at end", "/public/..", ""},
	{"P11 raw hash", "/public/a#/admin", ""},
	{"raw question mark", "/public?/admin", ""},
	{"P13 and dots", "/public%3f/../admin", ""},
	{"P14 raw", `/public\..\admin`, ""},
	{"P14 encoded", "/public/..%5cadmin", ""},
	{"P14 encoded upper", "/admin%5Cx", ""},
	{"P15 NUL", "/admin%00", ""},
	{"P15 NUL segment", "/public/%00/../admin", ""},
	{"P15 NUL extension", "/public/a%00.png", ""},
	{"P16 CRLF", "/public/a%0d%0aX-Admin:%201", ""},
	{"P16 LF", "/a%0a", ""},
	{"P16 tab", "/a%09", ""},
	{"P16 DEL", "/a%7f", ""},
	{"P16 space at end", "/admin%20", ""},
	{"P16 space at a segment's end", "/public/a%20/b", ""},
	{"P16 space at a segment's start", "/public/%20a", ""},
	{"raw space", "/a b", ""},
	{"raw control", "/a\x01", ""},
	{"raw DEL", "/a\x7f", ""},
	{"raw CR", "/a\r", ""},
	{"C1 control", "/a%C2%85", ""},
	{"P17 alone", "/%", ""},
	{"P17 one digit", "/%2", ""},
	{"P17 no digits", "/%zz", ""},
	{"P17 %u", "/a%u002f", ""},
	{"P18 overlong slash", "/%c0%afadmin", ""},
	{"P18 overlong three", "/%e0%80%af", ""},
	{"P18 ff", "/%ff", ""},
	{"P18 surrogate", "/%ed%a0%80", ""},
	{"cut rune", "/%E2%82", ""},
	{"cut rune then text", "/%E2%82x", ""},
	{"continuation alone", "/%80", ""},
	{"beyond Unicode", "/%F4%90%80%80", ""},
	{"raw UTF-8", "/café", ""},
	{"semicolon", "/a;b", ""},
	{"matrix parameter", "/admin;jsessionid=1/x", ""},
	{"double encoding", "/%252e%252e/", ""},
	{"double encoding made by decoding", "/%25%34%31", ""},
	{"double encoding, half decoded", "/%25%341", ""},
	{"braces", "/a{b}", ""},
	{"angle", "/a<b>", ""},
	{"bar", "/a|b", ""},
}

func TestCanonical_OneFormOrNone(t *testing.T) {
	for _, c := range canonicalCases {
		got, ok := Canonical(c.path)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s: Canonical(%q) = %q, %v; want %q", c.name, c.path, got, ok, c.want)
		}
	}
}

func TestCanonical_IsBoundedInLength(t *testing.T) {
	if _, ok := Canonical("/" + strings.Repeat("a", MaxPath-1)); !ok {
		t.Error("8 KiB are refused")
	}
	if _, ok := Canonical("/" + strings.Repeat("a", MaxPath)); ok {
		t.Error("a byte more is accepted")
	}
}

func TestCanonical_OfCanonicalAllocatesNothing(t *testing.T) {
	for _, path := range []string{"/", "/orders/7", "/caf%C3%A9/a%20b", "/a//b", "/a/%2F", "/" + strings.Repeat("a/", 2000)} {
		if n := testing.AllocsPerRun(100, func() { Canonical(path) }); n != 0 {
			t.Errorf("%.20q: %v allocations", path, n)
		}
	}
}

// What is accepted is a fixed point, means the same as what was asked, and has
// nothing left in it that two servers read differently.
func FuzzCanonical(f *testing.F) {
	for _, c := range canonicalCases {
		f.Add(c.path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := Canonical(path)
		if !ok {
			if got != "" {
				t.Fatalf("refused, but returned %q", got)
			}
			return
		}
		if again, ok := Canonical(got); !ok || again != got {
			t.Fatalf("Canonical(%q) = %q, but Canonical of that is %q, %v", path, got, again, ok)
		}
		was, err := url.PathUnescape(path)
		if err != nil {
			t.Fatalf("%q was accepted: %v", path, err)
		}
		is, err := url.PathUnescape(got)
		if err != nil || was != is {
			t.Fatalf("%q means %q, %q means %q, %v", path, was, got, is, err)
		}
		if !utf8.ValidString(is) || strings.ContainsAny(is, "\\\x00\r\n\x7f") {
			t.Fatalf("%q decodes to %q", got, is)
		}
		if strings.Count(is, "/") != strings.Count(path, "/") {
			t.Fatalf("%q hid a slash", path)
		}
		for _, segment := range strings.Split(is, "/") {
			if segment == "." || segment == ".." || strings.TrimSpace(segment) != segment && strings.Trim(segment, " ") != segment {
				t.Fatalf("%q has the segment %q", path, segment)
			}
		}
		if strings.Contains(is, "//") {
			t.Fatalf("%q has an empty segment", path)
		}
		if twice, err := url.PathUnescape(is); err == nil && twice != is {
			t.Fatalf("%q can be decoded twice", path)
		}
	})
}
