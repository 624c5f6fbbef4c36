package match

import (
	"regexp"
	"strings"
	"testing"
)

func TestType_MatchesWholeValuesOnly(t *testing.T) {
	sku, err := CompileType("sku", "[A-Z]{2}|[0-9]+")
	if err != nil {
		t.Fatal(err)
	}
	anything, err := CompileType("anything", "(?s).*")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]Type{"sku": sku, "anything": anything}
	for _, c := range []struct {
		name, value string
		want        bool
	}{
		{"", "7", true}, {"", "a.b_c~d-E", true}, {"", strings.Repeat("a", 128), true},
		{"", "", false}, {"", strings.Repeat("a", 129), false}, {"", "a%20b", false}, {"", "a@b", false}, {"", "*", false},
		{"uuid", "123e4567-e89b-12d3-a456-426614174000", true}, {"uuid", "123E4567-E89B-12D3-A456-426614174000", true},
		{"uuid", "123e4567e89b12d3a456426614174000", false}, {"uuid", "123e4567-e89b-12d3-a456-42661417400g", false},
		{"uuid", "123e4567-e89b-12d3-a456-4266141740000", false}, {"uuid", "{23e4567-e89b-12d3-a456-42661417400}", false},
		{"int", "0", true}, {"int", "7", true}, {"int", "-7", true}, {"int", "9223372036854775807", true}, {"int", "-9223372036854775808", true},
		{"int", "", false}, {"int", "-", false}, {"int", "-0", false}, {"int", "+7", false}, {"int", "007", false},
		{"int", "9223372036854775808", false}, {"int", "-9223372036854775809", false}, {"int", "99999999999999999999", false},
		{"int", "1e3", false}, {"int", "1_000", false}, {"int", "0x7", false}, {"int", "--7", false}, {"int", "٣", false},
		{"date", "2026-02-28", true}, {"date", "2024-02-29", true}, {"date", "2000-02-29", true}, {"date", "2026-12-31", true},
		{"date", "2026-02-29", false}, {"date", "1900-02-29", false}, {"date", "2026-13-01", false}, {"date", "2026-00-01", false},
		{"date", "2026-01-00", false}, {"date", "2026-01-32", false}, {"date", "2026-1-1", false}, {"date", "20260101", false},
		{"date", "2026/01/01", false}, {"date", "2026-01-0x", false}, {"date", "-026-01-01", false},
		{"slug", "a", true}, {"slug", "a-b-7", true}, {"slug", "7", true},
		{"slug", "A", false}, {"slug", "-a", false}, {"slug", "a-", false}, {"slug", "a--b", false}, {"slug", "-", false},
		{"slug", "a_b", false}, {"slug", strings.Repeat("a", 129), false},
		{"sku", "AB", true}, {"sku", "123", true}, {"sku", "", false}, {"sku", "ABC", false}, {"sku", "AB1", false}, {"sku", "xAB", false}, {"sku", "AB\n", false},
		{"anything", "x", true}, {"anything", "", false},
	} {
		typ := Type{}
		if c.name != "" {
			if typ, err = ParseType(c.name, named); err != nil {
				t.Fatal(err)
			}
		}
		if got := typ.Match(c.value); got != c.want {
			t.Errorf("%q is of type %q: %v", c.value, c.name, got)
		}
		if n := testing.AllocsPerRun(50, func() { typ.Match(c.value) }); n != 0 {
			t.Errorf("%q of type %q: %v allocations", c.value, c.name, n)
		}
	}
}

func TestC10_ExpressionsAreAnchoredAndBounded(t *testing.T) {
	for _, c := range []struct{ name, expression, want string }{
		{"x", `((a{20}){20}){20}`, "invalid repeat count"},
		{"x", `(a{1000}){1000}`, "type x: error parsing regexp"},
		{"x", `a{1000}b{1000}c{1000}d{1000}e{1000}f{1000}`, "too large when compiled"},
		{"x", strings.Repeat("a", 1025), "longer than 1024 bytes"},
		{"x", "\xff", "invalid UTF-8"},
		{"x", `a)|(b`, "unexpected )"},
		{"x", `(?=a)`, "invalid or unsupported Perl syntax"},
		{"x", `(a)\1`, "invalid escape sequence"},
		{"x", ``, "empty expression"},
		{"int", `a`, "type int is built in"},
		{"X", `a`, "is not a name"},
		{"", `a`, "is not a name"},
		{"a-b", `a`, "is not a name"},
	} {
		typ, err := CompileType(c.name, c.expression)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %.20q: %v, want %s", c.name, c.expression, err, c.want)
		}
		if typ != (Type{}) {
			t.Errorf("%q %.20q: refused, but a type came with it", c.name, c.expression)
		}
	}
	for _, expression := range []string{`a|b`, `^a`, `b$`, `(?m)^a$`, `(?i)a`, `.*a|b`} {
		typ, err := CompileType("x", expression)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"xb\n", "b\n", "a\nb", "\na", "bb c"} {
			if typ.Match(value) {
				t.Errorf("%q matches %q", expression, value)
			}
		}
	}
}

func TestParseType_UnknownNamesWhatIsKnown(t *testing.T) {
	_, err := ParseType("uid", map[string]Type{"sku": {}})
	const want = `there is no type "uid" (known here: sku, date, int, slug, uuid; or add it under types: with a regular expression)`
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func FuzzCompileType(f *testing.F) {
	for _, seed := range []string{"a", "a|b", "(a{1000}){1000}", "^a$", "(?m)$", "[^/]*", "a)|(b"} {
		f.Add(seed, "ab")
	}
	f.Fuzz(func(t *testing.T, expression, value string) {
		typ, err := CompileType("x", expression)
		if err != nil || !typ.Match(value) {
			return
		}
		if value == "" || !regexp.MustCompile(expression).MatchString(value) {
			t.Fatalf("%q matches %q", expression, value)
		}
	})
}
