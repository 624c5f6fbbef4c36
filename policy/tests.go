package policy

import (
	"strings"
	"time"
)

// TestResult is what came of one entry of tests:.
type TestResult struct {
	Pos   Pos
	Asked string // the request, for a person
	Want  Reason
	Got   Reason
	OK    bool
}

// RunTests asks s, as of now where they say no at:, what its own tests: ask. The results are in the
// order of the file.
func RunTests(s *Snapshot, now time.Time) []TestResult {
	if s == nil {
		return nil
	}
	results := make([]TestResult, 0, len(s.Tests))
	for i := range s.Tests {
		t := &s.Tests[i]
		at := now
		if !t.At.IsZero() {
			at = t.At
		}
		d := s.Decide(at, t.request(), nil)
		results = append(results, TestResult{
			Pos:   t.Pos,
			Asked: t.request().asks(t.Target) + " as " + t.As.String(),
			Want:  t.Expect,
			Got:   d.Reason,
			OK:    d.Reason == t.Expect && (d.Verdict == Allow) == (t.Expect == Allowed),
		})
	}
	return results
}

func (t *Test) request() *Request {
	path, query, _ := strings.Cut(t.Target, "?")
	return &Request{Caller: t.As, Method: t.Method, Path: path, Query: query, TCP: t.TCP, Source: t.FromIP}
}
