package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy"
)

const explainHelp = `explain judges one request as the sidecar would, and says why: what held and what
did not, and where nothing allows it, the grant that came nearest and everything
it asked for in vain. It exits 0 if the request may pass, 3 if not.

Of the headers, host, content-type, content-length, transfer-encoding, upgrade and
origin take part in a decision. The file - is standard input.`

func newExplain(w world) *cobra.Command {
	var caller, fromIP, at string
	var headers, user []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain FILE --as ID {METHOD TARGET | tcp}",
		Short: "say why a request would pass, or would not",
		Long:  explainHelp,
		Example: `  everyhop explain policy.yaml --as spiffe://example.org/web GET /orders/7
  everyhop explain policy.yaml --as spiffe://example.org/web -H 'content-length: 12' POST '/orders?draft=1'
  everyhop explain policy.yaml --as spiffe://example.org/web tcp`,
		Args: asked,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(user) > 0 {
				return usage(errors.New("--user: end-user tokens are not supported yet"))
			}
			r, err := newRequest(caller, args[1:], headers)
			if err == nil {
				err = setSource(r, fromIP)
			}
			now, err2 := momentOf(at)
			if err = errors.Join(err, err2); err != nil {
				return usage(err)
			}
			s, err := load(w, args[0])
			if err != nil {
				return err
			}
			return explain(w.out, s, now, r, strings.Join(args[1:], " "), asJSON)
		},
	}
	cmd.Flags().StringVar(&caller, "as", "", "the caller's SPIFFE `ID`")
	cmd.Flags().StringVar(&fromIP, "from-ip", "", "the `ADDRESS` that the caller connects from; unknown if unsaid")
	cmd.Flags().StringVar(&at, "at", "", "when it asks, as in 2026-12-01T00:00:00Z; now if unsaid")
	cmd.Flags().StringArrayVarP(&headers, "header", "H", nil, "a header, `NAME: VALUE`; may be repeated")
	cmd.Flags().StringArrayVar(&user, "user", nil, "the user's claims, `NAME=VALUE` (not supported yet)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the explanation as JSON")
	return cmd
}

// asked is what explain is asked: a request, or bytes.
func asked(cmd *cobra.Command, args []string) error {
	if len(args) == 2 && args[1] == "tcp" {
		return nil
	}
	return exactly(3, "one of FILE, METHOD and TARGET")(cmd, args)
}

// newRequest is the facts of a request as the sidecar would see them.
func newRequest(caller string, asked, headers []string) (*policy.Request, error) {
	if caller == "" {
		return nil, errors.New("--as is missing: who asks? (--as spiffe://example.org/web)")
	}
	id, err := spiffeid.FromString(caller)
	if err != nil {
		return nil, fmt.Errorf("--as %s: %w (a caller is spiffe://trust-domain/path)", caller, err)
	}
	if len(asked) == 1 {
		if len(headers) > 0 {
			return nil, errors.New("-H: bytes of tcp have no headers")
		}
		return &policy.Request{Caller: id, TCP: true}, nil
	}
	path, query, _ := strings.Cut(asked[1], "?")
	r := &policy.Request{Caller: id, Method: asked[0], Path: path, Query: query}
	for _, header := range headers {
		name, value, ok := strings.Cut(header, ":")
		if !ok {
			return nil, fmt.Errorf("-H %q: it is not NAME: VALUE", header)
		}
		setHeader(r, strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value))
	}
	return r, nil
}

func setSource(r *policy.Request, address string) (err error) {
	if address == "" {
		return nil
	}
	if r.Source, err = netip.ParseAddr(address); err != nil {
		return fmt.Errorf("--from-ip %s: it is not an IP address (write one, as in 10.0.0.7)", address)
	}
	return nil
}

func momentOf(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--at %s: it is not a moment of RFC 3339 (write date, time and zone, as in 2026-12-01T00:00:00Z)", text)
	}
	return moment, nil
}

func setHeader(r *policy.Request, name, value string) {
	switch name {
	case "host":
		r.Host = strings.ToLower(value)
		if i := strings.LastIndexByte(r.Host, ':'); i > strings.LastIndexByte(r.Host, ']') {
			r.Host = r.Host[:i]
		}
	case "content-type":
		r.ContentType = value
	case "content-length":
		r.Body = r.Body || value != "0"
	case "transfer-encoding":
		r.Body = true
	case "upgrade":
		r.Upgrade = strings.ToLower(value)
	case "origin":
		r.Origin = value
	}
}

func explain(out io.Writer, s *policy.Snapshot, now time.Time, r *policy.Request, asked string, asJSON bool) error {
	e := policy.Explain(s, now, r)
	var err error
	if asJSON {
		err = writeJSON(out, viewOf(e))
	} else {
		_, err = io.WriteString(out, textOf(e, r, asked))
	}
	if err == nil && e.Decision.Verdict != policy.Allow {
		return quiet(exitDenied)
	}
	return err
}

// textOf is the explanation for a person: the answer first, then its reasons.
func textOf(e policy.Explanation, r *policy.Request, asked string) string {
	var b strings.Builder
	d := e.Decision
	if d.Verdict == policy.Allow {
		fmt.Fprintf(&b, "allow: %s at %s\n", d.Grant.Name, d.Grant.Pos)
	} else {
		fmt.Fprintf(&b, "deny: %s (%s, status %d)\n", d.Reason.Explain(), d.Reason, d.Reason.Status())
	}
	fmt.Fprintf(&b, "  %s as %s\n", plain(asked), r.Caller)
	if d.Path != "" && d.Path != r.Path {
		fmt.Fprintf(&b, "  judged and forwarded as %s\n", d.Path)
	}
	writeSteps(&b, e.Steps)
	if e.Nearest != nil {
		fmt.Fprintf(&b, "nearest: %s at %s, %s\n", e.Nearest.Name, e.Nearest.Pos, e.Route)
		for _, missing := range e.Missing {
			fmt.Fprintf(&b, "  - %s\n", missing)
		}
	}
	return b.String()
}

// plain keeps what was typed from doing anything to a terminal.
func plain(text string) string {
	quoted := fmt.Sprintf("%q", text)
	return quoted[1 : len(quoted)-1]
}

func writeSteps(b *strings.Builder, steps []policy.Step) {
	if len(steps) > 0 {
		b.WriteString("trace:\n")
	}
	for _, step := range steps {
		mark, name := "-", ""
		if step.Held {
			mark = "+"
		}
		if step.Grant != nil {
			name = step.Grant.Name + ": "
		}
		fmt.Fprintf(b, "  %s %s%s\n", mark, name, step.What)
	}
}

type explanationView struct {
	Verdict string       `json:"verdict"`
	Reason  string       `json:"reason"`
	Status  int          `json:"status"`
	Grant   string       `json:"grant,omitempty"`
	At      string       `json:"at,omitempty"`
	Path    string       `json:"path,omitempty"`
	Route   string       `json:"route,omitempty"`
	Trace   []stepView   `json:"trace"`
	Nearest *nearestView `json:"nearest,omitempty"`
}

type stepView struct {
	Grant string `json:"grant,omitempty"`
	Held  bool   `json:"held"`
	What  string `json:"what"`
}

type nearestView struct {
	Grant   string   `json:"grant"`
	At      string   `json:"at"`
	Route   string   `json:"route"`
	Missing []string `json:"missing"`
}

func viewOf(e policy.Explanation) explanationView {
	d := e.Decision
	view := explanationView{
		Verdict: d.Verdict.String(), Reason: d.Reason.String(), Status: d.Reason.Status(),
		Path: d.Path, Route: d.Route, Trace: make([]stepView, 0, len(e.Steps)),
	}
	if d.Grant != nil {
		view.Grant, view.At = d.Grant.Name, d.Grant.Pos.String()
	}
	for _, step := range e.Steps {
		s := stepView{Held: step.Held, What: step.What}
		if step.Grant != nil {
			s.Grant = step.Grant.Name
		}
		view.Trace = append(view.Trace, s)
	}
	if e.Nearest != nil {
		view.Nearest = &nearestView{e.Nearest.Name, e.Nearest.Pos.String(), e.Route, e.Missing}
	}
	return view
}
