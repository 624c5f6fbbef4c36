package match

import (
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestCaller_NamesExactlyWhatIsWritten(t *testing.T) {
	for _, c := range []struct {
		pattern, id string
		want        bool
	}{
		{"spiffe://td.test/ns/a/sa/web", "spiffe://td.test/ns/a/sa/web", true},
		{"spiffe://td.test/ns/a/sa/web", "spiffe://td.test/ns/a/sa/Web", false},
		{"spiffe://td.test/ns/a/sa/web", "spiffe://td.test/ns/a/sa/web-admin", false},
		{"spiffe://td.test/ns/a/sa/web", "spiffe://td.test/ns/a/sa/web/admin", false},
		{"spiffe://td.test/ns/a/sa/web", "spiffe://td.test/ns/a/sa", false},
		{"spiffe://td.test/sa/a.b", "spiffe://td.test/sa/axb", false},
		{"spiffe://td.test/**", "spiffe://td.test/x", true},
		{"spiffe://td.test/**", "spiffe://td.test/x/y", true},
		{"spiffe://td.test/**", "spiffe://td.test.evil/x", false},
		{"spiffe://td.test/**", "spiffe://td.testx/x", false},
		{"spiffe://td.test/**", "spiffe://td.test", false},
		{"spiffe://td.test/a/**", "spiffe://td.test/a/b", true},
		{"spiffe://td.test/a/**", "spiffe://td.test/a", false},
		{"spiffe://td.test/a/**", "spiffe://td.test/ab", false},
		{"spiffe://td.test/a/**", "spiffe://td.test/b/a/c", false},
	} {
		pattern, err := ParseCaller(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := pattern.Match(spiffeid.RequireFromString(c.id)); got != c.want {
			t.Errorf("%s names %s: %v", c.pattern, c.id, got)
		}
		if pattern.String() != c.pattern {
			t.Errorf("%s is written %s", c.pattern, pattern)
		}
	}
}

func TestX49_CallersThatAreNoneAreRefusedWithAHint(t *testing.T) {
	for text, want := range map[string]string{
		"":                             `"" is not a SPIFFE ID: cannot be empty (write it in full, as in spiffe://example.org/web)`,
		"SPIFFE://td.test/web":         `(the scheme is written spiffe:// in lower case)`,
		"spiffe://TD.test/web":         `trust domain characters are limited to`,
		"spiffe://td.test/web/":        `(remove the slash at the end)`,
		"td.test/web":                  `(write it in full, as in spiffe://example.org/web)`,
		"https://td.test/web":          `(write it in full`,
		"*":                            `"*" would be anyone (write spiffe://trust-domain/path/**`,
		"**":                           `"**" would be anyone`,
		"/**":                          `is not a SPIFFE ID`,
		"spiffe://*/x":                 `the trust domain of "spiffe://*/x" is a wildcard`,
		"spiffe://*.td.test/**":        `is a wildcard`,
		"spiffe://**":                  `is a wildcard`,
		"spiffe:///**":                 `is not a SPIFFE ID`,
		"spiffe://td.test/a/*":         `is not its whole last segment`,
		"spiffe://td.test/sa/web*":     `is not its whole last segment`,
		"spiffe://td.test/sa/web**":    `is not its whole last segment`,
		"spiffe://td.test/**/web":      `is not its whole last segment`,
		"spiffe://td.test/**/**":       `is not its whole last segment`,
		"spiffe://td.test":             `names a trust domain, which is no workload (add the workload's path, or /** for every workload in td.test)`,
		"spiffe://td.test:8443/a":      `is not a SPIFFE ID`,
		"spiffe://u@td.test/a":         `is not a SPIFFE ID`,
		"spiffe://td.test/a?b":         `is not a SPIFFE ID`,
		"spiffe://td.test/../a":        `is not a SPIFFE ID`,
		"spiffe://td.test/a//b":        `is not a SPIFFE ID`,
		"spiffe://td.test/%61":         `is not a SPIFFE ID`,
		"spiffe://td.test/" + long(9):  ``,
		"spiffe://" + long(256) + "/a": `the trust domain is longer than 255 bytes`,
		"spiffe://td/" + long(2048):    `longer than 2048 bytes`,
	} {
		c, err := ParseCaller(text)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
		if c.Match(spiffeid.RequireFromString("spiffe://td.test/web")) || c.Key() != "" {
			t.Errorf("%q: refused, but the pattern names somebody", text)
		}
	}
}

func long(n int) string { return strings.Repeat("a", n) }

func TestCaller_ZeroNamesNobody(t *testing.T) {
	var zero Caller
	if zero.Match(spiffeid.ID{}) || zero.Match(spiffeid.RequireFromString("spiffe://td/a")) {
		t.Error("the zero pattern names somebody")
	}
	all, _ := ParseCaller("spiffe://td/**")
	if all.Match(spiffeid.ID{}) {
		t.Error("a wildcard names nobody at all")
	}
}

func FuzzParseCaller(f *testing.F) {
	for _, seed := range []string{"spiffe://td/a", "spiffe://td/a/**", "spiffe://*/a", "SPIFFE://td/a", "spiffe://td/"} {
		f.Add(seed, "spiffe://td/a/b")
	}
	f.Fuzz(func(t *testing.T, pattern, id string) {
		c, err := ParseCaller(pattern)
		if err != nil {
			return
		}
		if c.String() != pattern {
			t.Fatalf("%q is written %q", pattern, c)
		}
		parsed, err := spiffeid.FromString(id)
		if err != nil || !c.Match(parsed) {
			return
		}
		base, wildcard := strings.CutSuffix(pattern, "**")
		if id != pattern && !(wildcard && strings.HasPrefix(id, base) && len(id) > len(base)) {
			t.Fatalf("%q names %q", pattern, id)
		}
	})
}
