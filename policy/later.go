package policy

import (
	"strings"

	"github.com/everyhop/everyhop/policy/match"
)

// What the file format can say but nothing enforces yet is refused here, at its
// place, so that nobody relies on it. Whatever comes to be enforced leaves this
// file.

func (c *compiler) later(at Pos, what, hint string) {
	c.problem(at, what+" is not supported yet", hint)
}

const removeIt = "remove it: nothing would enforce it"

func (c *compiler) refuseLater() {
	s := c.spec
	for _, u := range s.Users {
		c.later(u.Pos, "users:", removeIt)
	}
	if s.Limit != nil {
		c.later(s.Limit.Pos, "limit:", removeIt)
	}
	for _, n := range s.Never {
		c.later(n.Pos, "never:", "remove it, and write what must not pass under tests:")
	}
	if s.App != nil {
		c.laterApp(s.App)
	}
	for i := range s.Allow {
		c.laterGrant(&s.Allow[i])
		c.laterInputs(&s.Allow[i])
	}
	for i := range s.Calls {
		c.laterCall(&s.Calls[i])
	}
	for _, t := range s.Tests {
		if t.User != nil {
			c.later(t.Pos, "user: in a test", "remove it: no grant can ask for a user")
		}
	}
}

func (c *compiler) laterApp(app *App) {
	switch app.Kind {
	case AppHTTP, AppH2C, AppTCP:
	default:
		c.problem(app.Pos, "app: has no kind", "write http://127.0.0.1:PORT")
	}
}

func (c *compiler) laterGrant(g *Grant) {
	if g.User != nil {
		c.later(g.User.Pos, "user:", "remove it only if any user may do this")
		if !c.hasIssuer(g.User.Of.Text) {
			c.problem(g.User.Of.Pos, "there is no issuer "+g.User.Of.Text, "add it under users:")
		}
	}
	if g.Where != nil {
		c.later(g.Where.Pos, "where:", removeIt)
	}
	if g.CORS != nil {
		c.later(g.CORS.Pos, "cors:", removeIt)
	}
	if g.Limit != nil {
		c.later(g.Limit.Pos, "limit:", removeIt)
	}
	if g.Strict {
		c.later(g.Pos, "strict:", "remove it: undeclared headers are dropped")
	}
	if g.Body != nil && g.Body.Schema != nil {
		c.later(g.Body.Schema.Pos, "schema:", removeIt)
	}
}

func (c *compiler) hasIssuer(name string) bool {
	for _, u := range c.spec.Users {
		if u.Name == name {
			return true
		}
	}
	return false
}

func (c *compiler) laterInputs(g *Grant) {
	for _, in := range g.Query {
		if in.Typed || in.Required {
			c.later(in.Pos, "a typed or required query parameter", "list its name only: query: ["+in.Name+"]")
		}
	}
	for _, in := range g.Headers {
		if in.Typed || in.Required || in.Repeated {
			c.later(in.Pos, "a typed or required header", "list its name only: headers: ["+in.Name+"]")
		}
	}
}

func (c *compiler) laterCall(call *Call) {
	if call.As.IsZero() {
		c.later(call.Pos, "a call without as:", "write the SPIFFE ID of who must answer")
	}
	if call.Local == nil {
		c.later(call.Pos, "a call without local:", "give it one, as in local: 127.0.0.1:9001")
	}
	if call.Limit != nil {
		c.later(call.Limit.Pos, "limit:", removeIt)
	}
	if call.Retry != nil {
		c.later(call.Pos, "retry:", "remove it: nothing is retried")
	}
	for _, r := range call.Allow {
		if r.TCP {
			c.problem(r.Pos, "tcp is no route of a call", "write METHOD /path, or tcp: true beside at: instead of allow:")
		}
	}
	c.laterEndpoints(call)
}

func (c *compiler) laterEndpoints(call *Call) {
	if len(call.At) == 0 {
		c.problem(call.Pos, "call "+call.Name+" has nowhere to go", "write at: host:port")
	}
	if len(call.At) > 1 {
		c.later(call.At[1].Pos, "a list of endpoints", "keep one host:port; every address of the name is tried")
	}
	for _, e := range call.At {
		if !hostPort(e.Text) {
			c.later(e.Pos, "at: "+e.Text, "write one host:port")
		}
	}
}

func hostPort(text string) bool {
	_, ok := match.Host(text)
	if strings.HasPrefix(text, "[") {
		return ok && !strings.HasSuffix(text, "]")
	}
	return ok && strings.Contains(text, ":")
}
