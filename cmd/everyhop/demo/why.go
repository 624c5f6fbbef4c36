package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/everyhop/everyhop/policy"
)

// account is what the sidecar that decided says of a try.
type account struct {
	reason string // of the audit record
	why    string // for people
}

// recordTime is how long a record may take after its answer.
const recordTime = 2 * time.Second

// explain looks up why: a decision in the audit records, a connection that came
// to none in the logs.
func (s *shop) explain(ctx context.Context, t try, out outcome) (account, error) {
	wait, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	switch {
	case out.decision != "":
		var r record
		if err := s.audits.find(wait, out.decision, &r); err != nil {
			return account{why: "no audit record"}, ctx.Err()
		}
		return account{r.Reason, r.explain(t) + r.passed(t, out)}, nil
	case out.refusal == noAnswer:
		return account{why: "the connection is open"}, nil
	case s.callers[t.by].admin:
		return account{why: strings.ReplaceAll(out.body, s.dir+"/", "")}, nil
	}
	var line struct{ Error string }
	if err := s.logs.find(wait, `"`+out.from+`"`, &line); err != nil {
		return account{why: "nothing in the log"}, ctx.Err()
	}
	return account{why: line.Error}, nil
}

// explain is an audit record in words. It says who decided where that is not
// plain: what the caller's own sidecar refuses never leaves.
func (r *record) explain(t try) string {
	if r.Verdict == policy.Allow.String() && r.Reason == policy.Allowed.String() {
		return "allowed by grant " + r.Grant + ", " + place(r.GrantAt)
	}
	text := r.Reason
	if reason, ok := policy.ParseReason(r.Reason); ok {
		text = reason.Explain() + " (" + r.Reason + ")"
	}
	if r.Direction == "outbound" {
		text = t.by + "'s own sidecar: " + text
	}
	return text
}

// passed is what the app got of a header that was sent to it.
func (r *record) passed(t try, out outcome) string {
	var app seen
	if len(t.header) == 0 || json.Unmarshal([]byte(out.body), &app) != nil || app.Service == "" {
		return ""
	}
	text := "; the app is told of " + app.Header["everyhop-caller"]
	if r.Dropped > 0 {
		text += fmt.Sprintf(", %d dropped", r.Dropped)
	}
	return text
}

// place is file:line of a position, without the folder, which is one for all.
func place(at string) string {
	at = at[strings.LastIndexByte(at, '/')+1:]
	if i := strings.LastIndexByte(at, ':'); i > 0 {
		at = at[:i]
	}
	return at
}
