package match

import (
	"strings"
	"testing"
)

func TestHost_HasOneSpelling(t *testing.T) {
	for _, c := range []struct{ text, want string }{ // want "": refused
		{"app.test", "app.test"},
		{"APP.TEST", "app.test"},
		{"app.test.", "app.test"},
		{"app.test:443", "app.test"},
		{"App.Test:443", "app.test"},
		{"App.Test.:443", "app.test"},
		{"app", "app"},
		{"my_service:8080", "my_service"},
		{"xn--caf-dma.test", "xn--caf-dma.test"},
		{"127.0.0.1:80", "127.0.0.1"},
		{"3com.example", "3com.example"},
		{"[::1]", "[::1]"},
		{"[::1]:8443", "[::1]"},
		{"[0:0:0:0:0:0:0:1]", "[::1]"},
		{"[2001:DB8::1]", "[2001:db8::1]"},
		{long(63) + ".test", long(63) + ".test"},

		{"", ""}, {".", ""}, {"..", ""}, {".app.test", ""}, {"app..test", ""}, {"app.test..", ""},
		{"user@app.test", ""}, {"u:p@app.test", ""}, {"app.test/x", ""}, {"app.test?x", ""}, {"app.test#x", ""},
		{"app test", ""}, {"app.test\t", ""}, {"app.test\x00", ""}, {"app.test\r\n", ""}, {"åpp.test", ""}, {"app%2etest", ""},
		{"a,b", ""}, {"app.test, other.test", ""}, {"*.test", ""}, {"*", ""}, {"https://app.test", ""},
		{"app.test:", ""}, {"app.test:0", ""}, {"app.test:080", ""}, {"app.test:65536", ""}, {"app.test:99999", ""}, {"app.test:8o", ""},
		{"app.test:+80", ""}, {"app.test:80:80", ""}, {":80", ""},
		{"-app.test", ""}, {"app-.test", ""}, {"xn--example-.test", ""}, {"xn--.test", ""},
		{long(300) + ".test", ""}, {long(64) + ".test", ""}, {strings.Repeat("abc.", 64) + "test", ""},
		{"127.1", ""}, {"0177.0.0.1", ""}, {"0x7f000001", ""}, {"0x7f.1", ""}, {"2130706433", ""}, {"1.2.3.4.5", ""}, {"256.1.1.1", ""}, {"app.0x", ""},
		{"[::1", ""}, {"[::1]x", ""}, {"[::1]:", ""}, {"[::1%25eth0]", ""}, {"[::1%eth0]", ""}, {"[127.0.0.1]", ""}, {"[]", ""}, {"::1", ""}, {"[app.test]", ""},
	} {
		got, ok := Host(c.text)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("Host(%.40q) = %q, %v; want %q", c.text, got, ok, c.want)
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, seed := range []string{"app.test:80", "[::1]:80", "127.1", "A.B.", "u@h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host, ok := Host(text)
		if !ok {
			return
		}
		if again, ok := Host(host); !ok || again != host {
			t.Fatalf("Host(%q) = %q, but Host of that is %q, %v", text, host, again, ok)
		}
		if strings.ContainsAny(host, "@/?#%, \t\r\n\x00*") || host != strings.ToLower(host) {
			t.Fatalf("Host(%q) = %q", text, host)
		}
	})
}

func TestMethod_IsAShortToken(t *testing.T) {
	for _, c := range []struct {
		text string
		want bool
	}{
		{"GET", true}, {"get", true}, {"M-SEARCH", true}, {"!#$%&'*+-.^_`|~", true}, {long(32), true},
		{"", false}, {long(33), false}, {"G T", false}, {"GET\x00", false}, {"GÉT", false}, {"GET/", false}, {"a:b", false}, {"\"GET\"", false},
	} {
		if got := Method(c.text); got != c.want {
			t.Errorf("Method(%q) = %v", c.text, got)
		}
		if err := ParseMethod(c.text); (err == nil) != c.want {
			t.Errorf("ParseMethod(%q): %v", c.text, err)
		}
	}
}

func TestMediaType_IsComparedWithoutItsParameters(t *testing.T) {
	for _, c := range []struct {
		field string
		want  bool
	}{
		{"application/json", true}, {"APPLICATION/Json", true}, {"application/json; charset=utf-8", true}, {" application/json\t;x", true},
		{"", false}, {";", false}, {"application/jsonx", false}, {"application/json, text/html", false}, {"text/html; application/json", false},
		{"application/jſon", false}, {"application", false}, {"application/*", false},
	} {
		if got := MediaTypeIs(c.field, "application/json"); got != c.want {
			t.Errorf("%q: %v", c.field, got)
		}
	}
}
