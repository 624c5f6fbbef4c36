package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/everyhop/everyhop/policy"
)

// section is tries that show one thing.
type section struct {
	title string
	tries []try
}

// try is one request, and what must come back.
type try struct {
	by, to string   // a caller by its name in the shop, and a service or a call
	ask    string   // method and target, sent as they are
	header []string // lines of the header besides Host
	body   string
	note   string // what is special about it; the ask alone if empty
	before func(context.Context, *shop) error
	want   want
}

// want is what must come back. The zero want is never met.
type want struct {
	status  int
	reason  string   // in the audit record; empty: there is none, for nobody was asked
	refusal string   // of the connection: a part of the TLS alert
	why     string   // a part of what the sidecar says of it
	caller  string   // whom the app was told of: it was reached; empty: it was not
	never   []string // what no part of the request may still hold at the app, in lower case
}

// allowed reaches the app, which is told that this one calls.
func allowed(caller string, never ...string) want {
	return want{
		status: http.StatusOK, reason: policy.Allowed.String(),
		caller: "spiffe://" + home + "/" + caller, never: never,
	}
}

// refused does not reach the app, and has one reason.
func refused(r policy.Reason) want { return want{status: r.Status(), reason: r.String()} }

// cut is refused in the handshake, before a request was read.
func cut(alert, why string) want { return want{refusal: alert, why: why} }

// what is the try in words.
func (t try) what() string {
	text := t.by + " -> " + t.to + " " + t.ask
	if t.note != "" {
		text += " " + t.note
	}
	return text
}

// try makes one try and judges it.
func (s *shop) try(ctx context.Context, t try) (row, error) {
	if t.before != nil {
		if err := t.before(ctx, s); err != nil {
			return row{}, err
		}
	}
	served := s.served()
	out, err := s.ask(ctx, t)
	if err != nil {
		return row{}, errors.Join(ctx.Err(), err) // ended in the middle of it
	}
	reached := s.served() > served
	said, err := s.explain(ctx, t, out)
	if err != nil {
		return row{}, err
	}
	return row{tried: t.what(), back: out.String(), why: said.why, wrong: t.want.fault(out, said, reached)}, nil
}

// String is what came back, in the column's few words.
func (o outcome) String() string {
	if o.refusal != "" {
		return o.refusal
	}
	return strconv.Itoa(o.status)
}

// fault is what should have come back, empty where it did.
func (w want) fault(out outcome, said account, reached bool) string {
	switch {
	case w.refusal != "" && !strings.Contains(out.refusal, w.refusal):
		return w.refusal
	case w.refusal == "" && (out.refusal != "" || out.status != w.status || w.status == 0):
		return strings.TrimSpace(fmt.Sprintf("%d %s", w.status, w.reason))
	case said.reason != w.reason:
		return fmt.Sprintf("the reason %q, not %q", w.reason, said.reason)
	case !strings.Contains(said.why, w.why):
		return fmt.Sprintf("%q as the reason", w.why)
	case reached != (w.caller != ""):
		return fmt.Sprintf("that it reaches the app: %t", w.caller != "")
	case out.location != "":
		return "no redirect, and it leads to " + out.location
	case w.caller != "":
		return w.told(out.body)
	}
	return ""
}

// told is what the app should not have been told, or should have.
func (w want) told(body string) string {
	var app seen
	if err := json.Unmarshal([]byte(body), &app); err != nil {
		return "an answer of the app's, not " + err.Error()
	}
	if app.Header["everyhop-caller"] != w.caller {
		return fmt.Sprintf("the app to be told of %s, not of %q", w.caller, app.Header["everyhop-caller"])
	}
	for _, lie := range w.never {
		if strings.Contains(strings.ToLower(body), lie) {
			return fmt.Sprintf("the app not to see %q", lie)
		}
	}
	return ""
}
