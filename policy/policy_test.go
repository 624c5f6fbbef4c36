package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/file"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// header is what most policies of these tests begin with: four lines.
const header = `service: spiffe://td.test/app
app: http://127.0.0.1:8080
allow:

`

func parse(t testing.TB, text string) *policy.Spec {
	t.Helper()
	spec, err := file.Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func compile(t testing.TB, text string) *policy.Snapshot {
	t.Helper()
	s, err := policy.Compile(parse(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask is a request in one line: METHOD TARGET, then any of host=, body=TYPE,
// upgrade= and origin=. The caller is in spiffe://td.test/ unless it is written in full.
func ask(caller, line string) *policy.Request {
	words := strings.Split(line, " ")
	r := &policy.Request{Method: words[0], Host: "app.test"}
	if caller != "" {
		if !strings.Contains(caller, "://") {
			caller = "spiffe://td.test/" + caller
		}
		r.Caller = spiffeid.RequireFromString(caller)
	}
	r.Path, r.Query, _ = strings.Cut(words[1], "?")
	for _, word := range words[2:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "host":
			r.Host = value
		case "body":
			r.Body, r.ContentType = true, value
		case "upgrade":
			r.Upgrade = value
		case "origin":
			r.Origin = value
		default:
			panic("no such word: " + word)
		}
	}
	return r
}

// show is a decision in one line: the verdict or reason, the grant, the route.
func show(d policy.Decision) string {
	text := d.Reason.String()
	if d.Verdict == policy.Allow {
		text = "allow"
	}
	if d.Grant != nil {
		text += " " + d.Grant.Name
	}
	if d.Route != "" {
		text += " @ " + d.Route
	}
	if d.Shadow != nil {
		text += " ~ " + d.Shadow.Name
	}
	return text
}
