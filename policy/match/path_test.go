package match

import (
	"fmt"
	"strings"
	"testing"
)

func TestParsePath_ReadsSegments(t *testing.T) {
	month, err := CompileType("month", "[0-9]{4}-[0-9]{2}")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{"/", "[]"},
		{"/orders", "[orders]"},
		{"/orders/", "[orders][]"},
		{"/orders/{id}", "[orders]{id }"},
		{"/orders/{id:uuid}/lines/{n:int}", "[orders]{id uuid}[lines]{n int}"},
		{"/s/{m:month}/", "[s]{m month}[]"},
		{"/public/**", "[public]**"},
		{"/**", "**"},
		{"/{a}/**", "{a }**"},
		{"/api/*/x", "[api][*][x]"},
		{"/a*", "[a*]"},
		{"/caf%C3%A9", "[caf%C3%A9]"},
		{"/v1.0/x", "[v1.0][x]"},
		{"/shop.v1.Orders/Get", "[shop.v1.Orders][Get]"},
		{"*", "OPTIONS"},
	} {
		p, err := ParsePath(c.text, map[string]Type{"month": month})
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got := dump(p); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
		if p.String() != c.text {
			t.Errorf("%q is written %q", c.text, p)
		}
	}
}

func dump(p Path) string {
	if p.Asterisk() {
		return "OPTIONS"
	}
	var b strings.Builder
	for _, s := range p.Segments() {
		if s.Param != "" {
			fmt.Fprintf(&b, "{%s %s}", s.Param, s.Type)
		} else {
			fmt.Fprintf(&b, "[%s]", s.Literal)
		}
	}
	if p.Rest() {
		b.WriteString("**")
	}
	return b.String()
}

func TestParsePath_RefusesWhatNoRequestCouldMatchOrNobodyMeant(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "does not begin with a slash (write it as in /orders/{id})"},
		{"orders", "does not begin with a slash"},
		{"**", "does not begin with a slash"},
		{"//", "has an empty segment"},
		{"//a", "has an empty segment"},
		{"/a//b", "has an empty segment"},
		{"/a//", "has an empty segment"},
		{"/a//**", "has an empty segment"},
		{"/a/**/b", "** is not the whole last segment"},
		{"/a/**/", "** is not the whole last segment"},
		{"/a/b**", "** is not the whole last segment"},
		{"/a/***", "** is not the whole last segment"},
		{"/a/..", "is not in canonical form (write the path that it leads to)"},
		{"/./a", "is not in canonical form"},
		{"/a/%2e", "is not in canonical form"},
		{"/%61", "is not in canonical form (write a)"},
		{"/a%3f", "is not in canonical form (write a%3F)"},
		{"/a%2Fb", "is not in canonical form (no request can have it"},
		{"/a;b", "is not in canonical form"},
		{"/a b", "is not in canonical form"},
		{"/a%20", "is not in canonical form"},
		{"/café", "is not in canonical form"},
		{"/a?b=c", "is not in canonical form (declare the query under query:, not in the path)"},
		{"/a#b", "is not in canonical form"},
		{"/a\x00", "is not in canonical form"},
		{"/{", "is not one whole parameter (a parameter is a whole segment, as in /orders/{id})"},
		{"/{a", "is not one whole parameter"},
		{"/a}", "is not one whole parameter"},
		{"/v{n}", "is not one whole parameter"},
		{"/{n}.json", "is not one whole parameter"},
		{"/{a}{b}", "is not one whole parameter"},
		{"/{{a}}", "is not one whole parameter"},
		{"/{}", "is not a name"},
		{"/{ID}", "is not a name"},
		{"/{a-b}", "is not a name"},
		{"/{7}", "is not a name"},
		{"/{:int}", "is not a name"},
		{"/{id:}", "there is no type"},
		{"/{id:uid}", "there is no type"},
		{"/{**}", "is not a name"},
		{"/{id}/{id}", "parameter id stands twice"},
		{"/" + long(MaxPath), "longer than 8 KiB"},
	} {
		p, err := ParsePath(c.text, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %s", c.text, err, c.want)
		}
		if !p.IsZero() || p.Rest() || len(p.Segments()) > 0 {
			t.Errorf("%.40q: refused, but a template came with it", c.text)
		}
	}
}

// A template's literal text is itself a path that a request can have.
func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{"/", "/a/{b}/**", "/a//b", "/%61", "/{a:int}", "*", "/a/**/b", "/{", "/caf%C3%A9/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePath(text, nil)
		if err != nil {
			return
		}
		if p.String() != text {
			t.Fatalf("%q is written %q", text, p)
		}
		if p.Asterisk() {
			return
		}
		sample := ""
		for _, s := range p.Segments() {
			piece := s.Literal
			if s.Param != "" {
				piece = map[string]string{"": "x", "int": "7", "slug": "a", "date": "2026-01-01",
					"uuid": "123e4567-e89b-12d3-a456-426614174000"}[s.Type.String()]
			}
			if !s.Match(piece) {
				t.Fatalf("%q: segment %+v does not match %q", text, s, piece)
			}
			sample += "/" + piece
		}
		if p.Rest() {
			sample += "/"
		}
		if got, ok := Canonical(sample); !ok || got != sample {
			t.Fatalf("%q can only be matched by %q, which is not canonical", text, sample)
		}
	})
}
