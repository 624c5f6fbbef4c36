package match

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// names walks raw: the decoded names, or "malformed".
func names(raw string) string {
	var list []string
	var buf [MaxParamName]byte
	q := NewQuery(raw)
	for name, ok := q.Next(); ok; name, ok = q.Next() {
		decoded, fits := Name(name, &buf)
		if !fits {
			decoded = []byte("TOO LONG")
		}
		list = append(list, string(decoded))
	}
	if q.Malformed() {
		return "malformed"
	}
	return strings.Join(list, "|")
}

func TestQuery_HasOneReading(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"", ""},
		{"a=1", "a"},
		{"a", "a"},
		{"a=", "a"},
		{"=v", ""},
		{"a=1&b=2&a=3", "a|b|a"},
		{"b=2&a=1+2%20%2B", "b|a"},
		{"a=b=c", "a"},
		{"a=%26b=2", "a"},
		{"a=1%23x", "a"},
		{"a=1%3Bb=2", "a"},
		{"A=1", "A"},
		{"%61=1", "a"},
		{"a%00=1", "a\x00"},
		{"a[]=1", "a[]"},
		{"a%5B%5d=1", "a[]"},
		{"a.b=1", "a.b"},
		{"+a=1", " a"},
		{"a%3D=1", "a="},
		{"a%26b=1", "a&b"},
		{long(128) + "=1", long(128)},
		{long(129) + "=1", "TOO LONG"},
		{"a=1;b=2", "malformed"},
		{"a;b", "malformed"},
		{"a=%", "malformed"},
		{"a=%zz", "malformed"},
		{"a=%4", "malformed"},
		{"%=1", "malformed"},
		{"ok=1&a=%", "malformed"},
		{"&", "malformed"},
		{"a=1&", "malformed"},
		{"&a=1", "malformed"},
		{"a=1&&b=2", "malformed"},
		{"a=1#x", "malformed"},
		{" a=1", "malformed"},
		{"a= 1", "malformed"},
		{"a=\xff", "malformed"},
		{"a=é", "malformed"},
		{"a=\x00", "malformed"},
		{"a=\x7f", "malformed"},
		{"a=\t", "malformed"},
		{"a=<b>", "malformed"},
		{strings.Repeat("x=1&", 255) + "x=1", strings.Repeat("x|", 255) + "x"},
		{strings.Repeat("x=1&", 10000) + "b=2", "malformed"},
		{strings.Repeat("x=1&", 256) + "b=2", "malformed"},
		{"a=" + long(MaxPath), "malformed"},
	} {
		if got := names(c.raw); got != c.want {
			t.Errorf("%.40q: %q, want %q", c.raw, got, c.want)
		}
	}
}

func TestQuery_AllocatesNothing(t *testing.T) {
	for _, raw := range []string{"", "a=1&b=2", "%61%62=1&+=2", "a=%zz", "a;b", strings.Repeat("x=1&", 300)} {
		n := testing.AllocsPerRun(100, func() {
			var buf [MaxParamName]byte
			q := NewQuery(raw)
			for name, ok := q.Next(); ok; name, ok = q.Next() {
				Name(name, &buf)
			}
		})
		if n != 0 {
			t.Errorf("%.20q: %v allocations", raw, n)
		}
	}
}

// Whatever is accepted reads the same to the standard library.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"a=1&b=2", "a;b", "%61=+", "a=%", "=", "&&", "a=1&a=2", "a[]=%00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		own := map[string]int{}
		var buf [MaxParamName]byte
		q := NewQuery(raw)
		for name, ok := q.Next(); ok; name, ok = q.Next() {
			decoded, fits := Name(name, &buf)
			if !fits {
				return
			}
			own[string(decoded)]++
		}
		if q.Malformed() {
			return
		}
		theirs, err := url.ParseQuery(raw)
		if err != nil {
			t.Fatalf("%q was accepted: %v", raw, err)
		}
		read := map[string]int{}
		for name, values := range theirs {
			read[name] = len(values)
		}
		if fmt.Sprint(own) != fmt.Sprint(read) {
			t.Fatalf("%q: we read %v, net/url %v", raw, own, read)
		}
	})
}
