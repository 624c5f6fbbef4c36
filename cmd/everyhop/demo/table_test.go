package demo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestWrap_BreaksBetweenWordsAndNoLineIsLonger(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"one", []string{"one"}},
		{"one two", []string{"one two"}},
		{"one two three", []string{"one two", "three"}},
		{"spiffe://example.org/web calls", []string{"spiffe:", "//examp", "le.org/", "web", "calls"}},
		{"two\nlines", []string{"two", "lines"}},
	} {
		if got := wrap(c.text, 7); !slices.Equal(got, c.want) {
			t.Errorf("%q became %q, not %q", c.text, got, c.want)
		}
	}
}

func TestTable_ColoursOnlyWhereWanted(t *testing.T) {
	for _, color := range []bool{true, false} {
		var out bytes.Buffer
		table := newTable(&out, color)
		table.head("title")
		table.row(row{tried: "this", back: "200", why: "that"})
		table.row(row{tried: "this", back: "200", why: "that", wrong: "403"})
		table.sum(0)
		if got := strings.Contains(out.String(), "\x1b["); got != color {
			t.Errorf("color %t: %q", color, out.String())
		}
	}
}

func TestQuote_MakesOneWordForTheShell(t *testing.T) {
	for path, want := range map[string]string{
		"/tmp/everyhop-1/web/key.pem": "/tmp/everyhop-1/web/key.pem",
		"/tmp/my dir/key.pem":         "'/tmp/my dir/key.pem'",
		"/tmp/it's/$HOME":             `'/tmp/it'\''s/$HOME'`,
		"/tmp/é":                      "'/tmp/é'",
	} {
		if got := quote(path); got != want {
			t.Errorf("%s became %s, not %s", path, got, want)
		}
	}
}

func TestTrail_FindsALineOnceItIsWhole(t *testing.T) {
	trail := newTrail()
	found := make(chan error, 1)
	var got record
	go func() { found <- trail.find(t.Context(), `"b"`, &got) }()
	for _, part := range []string{"{\"reason\":\"x\",\"id\":\"a\"}\n{\"reason\":", `"y","id":"b"`, "}\n"} {
		if _, err := trail.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-found; err != nil || got.Reason != "y" {
		t.Errorf("got %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trail.find(ctx, `"c"`, &got); !errors.Is(err, context.Canceled) {
		t.Errorf("what is not there was found: %v", err)
	}
}
