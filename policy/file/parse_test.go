package file

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/everyhop/everyhop/policy"
)

const (
	head = "service: spiffe://example.org/orders\napp: http://127.0.0.1:8080\n"
	good = head + "allow:\n  - from: spiffe://example.org/web\n    to: GET /orders\n"
)

func TestParse_RefusesBytesThatReadersDisagreeOn(t *testing.T) {
	utf16 := func(order ...byte) string {
		for _, c := range []byte(good) {
			order = append(order, c, 0)
		}
		return string(order)
	}
	for _, c := range []struct{ name, text, want string }{
		{"byte order mark", "\ufeff" + good, "p:1:1: the file begins with a byte order mark"},
		{"UTF-16", utf16(0xff, 0xfe), "p:1:1: the file is UTF-16"},
		{"UTF-16, high byte first", utf16(0xfe, 0xff), "p:1:1: the file is UTF-16"},
		{"UTF-16 without a mark", utf16(), "p:1:2: the character U+0000 cannot be seen"},
		{"NUL", good + "# a\x00b\n", "p:6:4: the character U+0000 cannot be seen"},
		{"escape", good + "# \x1b[2J\n", "p:6:3: the character U+001B cannot be seen"},
		{"not UTF-8", good + "# é\xff\n", "p:6:4: the byte 0xFF is not UTF-8"},
		{"Latin 1", good + "# caf\xe9\n", "p:6:6: the byte 0xE9 is not UTF-8"},
		{"surrogate", good + "# \xed\xa0\x80\n", "p:6:3: the byte 0xED is not UTF-8"},
		{"next line", good + "# \u0085ban: [x]\n", "p:6:3: the character U+0085 cannot be seen"},
		{"carriage return", head + "# x\rallow: []\n", "p:3:4: the character U+000D cannot be seen"},
		{"right to left", good + "# \u202e\n", "p:6:3: the character U+202E cannot be seen"},
		{"no-break space", head + "allow:\u00a0[]\n", "p:3:7: the character U+00A0 cannot be seen"},
		{"tab", head + "allow:\n  \t- x\n\t- x\n", "p:4:3: a tab indents this line (YAML is indented by spaces)\np:5:1: a tab"},
		{"directive", "%TAG ! tag:x,2026:\n---\n" + good, "p:1:1: a directive changes"},
	} {
		_, err := Parse("p", []byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestParse_LineEndsMeanTheSame(t *testing.T) {
	want, err := Parse("p", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"CR LF":         strings.ReplaceAll(good, "\n", "\r\n"),
		"no end":        strings.TrimSuffix(good, "\n"),
		"tab for space": strings.ReplaceAll(good, "to: ", "to:\t"),
		"comments":      strings.ReplaceAll(good, "\n", " # émoji 🙂 [ {\n"),
	} {
		got, err := Parse("p", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got.Digest = want.Digest
		if diff := cmp.Diff(dump(want), dump(got)); diff != "" {
			t.Errorf("%s means something else:\n%s", name, diff)
		}
	}
}

// Case C03: nothing that is small to write may be large to read.
func TestParse_RefusesWhatIsTooLarge(t *testing.T) {
	repeat := func(s string, n int) string { return strings.Repeat(s, n) }
	var keys strings.Builder
	for i := range 90_000 {
		fmt.Fprintf(&keys, "k%d: v\n", i)
	}
	for _, c := range []struct{ name, text, want string }{
		{"a file of more than 1 MiB", good + repeat("#", 1<<20), "p:1:1: the file has 1048702 bytes, which is more than 1 MiB"},
		{"a text of 1 MiB", head + "because: " + repeat("x", 1<<20-100), "has no key"},
		{"10,000 brackets", repeat("[", 10_000), "not closed"},
		{"10,001 brackets", repeat("[", 10_001), "this nests too deep"},
		{"10,000 brackets and back", "a: " + repeat("[", 10_000) + repeat("]", 10_000), "the list is empty"},
		{"10,000 braces", repeat("{a: ", 10_000) + "b" + repeat("}", 10_000), "has no key"},
		{"10,000 dashes", repeat("- ", 10_000) + "x", "not a map of keys"},
		{"too many dashes", repeat("-\n", 500_000), "more than 120000 values"},
		{"too many commas", "a: [" + repeat("x,", 500_000) + "x]", "more than 120000 values"},
		{"90,000 unknown keys", keys.String(), "more problems from here on"},
		{"many documents", repeat("---\n", 1<<16), "a second document begins here"},
		{"a quote that never ends", head + "because: \"" + repeat("x\n", 1<<19-100), "does not end"},
		{"an unclosed bracket and many lines", head + "allow: [\n" + repeat("  x,\n", 100_000), "not closed"},
		{"question marks", repeat("? ", 100_000), "nests too deep"},
		{"many errors of syntax", repeat("a: b: c\n", 50_000), "p:1:5"},
	} {
		_, err := Parse("p", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %.300v, want %s", c.name, err, c.want)
		}
		var problems policy.Problems
		if errors.As(err, &problems) && len(problems) > maxProblems+1 {
			t.Errorf("%s: %d problems", c.name, len(problems))
		}
	}
}

func TestParse_TakesTenThousandGrants(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "allow:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "  - from: spiffe://example.org/c%d\n    to: GET /r%d/{id}\n    timeout: 5s\n", i, i)
	}
	spec, err := Parse("p", []byte(b.String()))
	if err != nil || len(spec.Allow) != 10_000 || spec.Allow[9_999].Pos != (policy.Pos{File: "p", Line: 30_001, Col: 5}) {
		t.Errorf("%v", err)
	}
}

func TestParse_FindsTheErrorOfSyntaxInALongFile(t *testing.T) {
	var long strings.Builder
	for i := range 800 {
		fmt.Fprintf(&long, "  - from: spiffe://example.org/c%d\n    to: [GET /r%d, \"GET /r%d/{id}\"]\n", i, i, i)
	}
	for _, c := range []struct{ before, after, want string }{
		{head + "because: 'x\nallow:\n", "", "p:3:10: the quoted text that begins here does not end"},
		{head + "because: [x\nallow:\n", "", "p:4:7: a comma, or the bracket that closes, is missing before this"},
		{head + "allow:\n", "   x: y\n", "p:1604:4: this is not an entry of the list"},
		{head + "allow:\n", "  - from: a: b\n", "p:1604:12: a colon makes a map"},
		{head + "allow:\n", "  - {from: x, to: [y}\n", "p:1604:21: a comma, or the bracket that closes"},
		{head + "allow:\n", "  - {from: x, to: [y]\n", "p:1604:5: this bracket is not closed"},
	} {
		_, err := Parse("p", []byte(c.before+long.String()+c.after))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestParse_RelativeSocketsAreBesideThePolicy(t *testing.T) {
	text := strings.Replace(good, "http://127.0.0.1:8080", "unix://run/app.sock", 1)
	for name, want := range map[string]string{
		"/etc/everyhop/policy.yaml": "/etc/everyhop/run/app.sock", "policy.yaml": "run/app.sock", "../p/policy.yaml": "../p/run/app.sock",
	} {
		spec, err := Parse(name, []byte(text))
		if err != nil || spec.App.Address != want {
			t.Errorf("%s: %v, %v, want %s", name, spec, err, want)
		}
	}
}

func TestNearest_NamesWhatWasMeant(t *testing.T) {
	names := []string{"from", "to", "timeout", "per_caller", "allow"}
	for text, want := range map[string]string{
		"form": "from", "form_": "from", "timeuot": "timeout", "TIMEOUT": "timeout", "per-caller": "per_caller",
		"tim": "", "": "", "x": "", "allowed": "allow", "alloww": "allow", "percaller": "per_caller", "fmor": "from",
	} {
		hint := nearest(text, names)
		if got, found := strings.CutPrefix(hint, "did you mean "); found != (want != "") || found && got != want+"?" {
			t.Errorf("nearest(%q) = %s, want %q", text, hint, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, folder := range []string{"good", "bad"} {
		for _, text := range policies(f, folder) {
			f.Add(text)
		}
	}
	schema := compiledSchema(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		spec, err := Parse("p", text)
		again, err2 := Parse("p", text)
		if fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("two answers:\n%v\n%v", err, err2)
		}
		if err != nil {
			validProblems(t, text, spec, err)
			return
		}
		if diff := cmp.Diff(dump(spec), dump(again), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("two specs:\n%s", diff)
		}
		if spec.Service.IsZero() || spec.Digest == "" {
			t.Errorf("no service, or no digest: %+v", spec)
		}
		for _, g := range spec.Allow {
			if g.Name == "" || len(g.From) == 0 || len(g.To) == 0 {
				t.Errorf("a grant without name, caller or route: %+v", g)
			}
		}
		if err := schema.Validate(asJSON(t, text)); err != nil {
			t.Errorf("the schema refuses what the parser takes: %v", err)
		}
	})
}

// validProblems checks that each problem has a place in the file, in order.
func validProblems(t *testing.T, text []byte, spec *policy.Spec, err error) {
	t.Helper()
	problems, ok := err.(policy.Problems)
	if !ok || len(problems) == 0 || spec != nil {
		t.Fatalf("Parse = %v, %T %v", spec, err, err)
	}
	lines := bytes.Split(text, []byte("\n"))
	var last policy.Pos
	for _, p := range problems {
		pos := p.Pos
		if pos.File != "p" || pos.Line < 1 || pos.Line > len(lines) || pos.Col < 1 ||
			pos.Col > utf8.RuneCount(lines[pos.Line-1])+1 {
			t.Errorf("no place in the file: %s", p)
		}
		if pos.Line < last.Line || pos.Line == last.Line && pos.Col < last.Col {
			t.Errorf("out of order: %s after %s", p, last)
		}
		if p.What == "" || strings.ContainsAny(p.Error(), "\n\r\x00\x1b") || len(p.Error()) > 1000 {
			t.Errorf("not one short line: %q", p.Error())
		}
		last = pos
	}
}
