package policy

import (
	"strconv"
	"strings"

	"github.com/everyhop/everyhop/policy/match"
)

func (c *compiler) compileGrants() []*Rule {
	names := unique[string]{}
	rules := make([]*Rule, 0, len(c.spec.Allow))
	for i := range c.spec.Allow {
		g := &c.spec.Allow[i]
		before := len(c.problems)
		c.first(names, g.Name, g.Pos, "grant "+g.Name)
		rule := c.compileGrant(g, i)
		rules = append(rules, rule)
		// What is wrong in itself is not compared with others: one mistake
		// should be one problem.
		if len(c.problems) > before {
			continue
		}
		if cover := c.index.covering(rule); cover != nil {
			c.problem(g.Pos, "grant "+g.Name+" can never decide: "+cover.Name+" at "+cover.Pos.String()+" comes first and allows the same callers and routes",
				"remove it, or move it before that one")
		}
		keys := make([]string, len(rule.from))
		for k, caller := range rule.from {
			keys[k] = caller.Pattern.Key()
		}
		for k := range rule.to {
			c.index.add(rule, &rule.to[k], keys)
		}
	}
	return rules
}

func (c *compiler) compileGrant(g *Grant, index int) *Rule {
	rule := &Rule{
		Name: g.Name, Pos: g.Pos, Index: index, Timeout: g.Timeout,
		BodyMax: DefaultBodyMax, Shadow: g.Shadow, from: g.From, to: g.To,
	}
	c.checkCallers(g)
	c.checkGrantRoutes(g)
	rule.conditions = conditions{hosts: c.hosts(g), query: c.query(g), body: g.Body != nil}
	if g.Until != nil {
		rule.conditions.until = g.Until.Time
		if g.Until.Time.IsZero() {
			c.problem(g.Until.Pos, "until: is no time", "write it as in 2026-12-01T00:00:00Z")
		}
	}
	if g.Body != nil {
		rule.BodyMax, rule.conditions.types = g.Body.Max, g.Body.Types
		c.checkBody(g.Body)
	}
	rule.Headers = c.headers(g)
	rule.Cookies = c.texts("cookie", g.Cookies)
	return rule
}

func (c *compiler) checkCallers(g *Grant) {
	if len(g.From) == 0 {
		c.problem(g.Pos, "grant "+g.Name+" names no caller", "write from: spiffe://…, which nothing else stands for")
	}
	seen := unique[string]{}
	for _, caller := range g.From {
		if caller.Pattern.Key() == "" {
			c.problem(caller.Pos, "from: names nobody", "write a SPIFFE ID")
			continue
		}
		c.first(seen, caller.Pattern.Key(), caller.Pos, "caller "+caller.Pattern.String())
	}
}

func (c *compiler) checkGrantRoutes(g *Grant) {
	if len(g.To) == 0 {
		c.problem(g.Pos, "grant "+g.Name+" names no route", "write to: METHOD /path")
	}
	seen := unique[string]{}
	for _, r := range g.To {
		c.checkRoute(r)
		c.first(seen, shape(r), r.Pos, "route "+r.String())
		if app := c.spec.App; app != nil && r.TCP != (app.Kind == AppTCP) {
			c.wrongApp(r)
		}
	}
}

func (c *compiler) wrongApp(r Route) {
	if r.TCP {
		c.problem(r.Pos, "to: tcp is for a tcp:// app, and app: is HTTP", "write METHOD /path")
		return
	}
	c.problem(r.Pos, "the app is tcp:// and has no HTTP routes", "write to: tcp")
}

func (c *compiler) hosts(g *Grant) []string {
	for _, h := range g.Host {
		if host, ok := match.Host(h.Text); !ok || host != strings.ToLower(h.Text) {
			c.problem(h.Pos, "host: "+strconv.Quote(h.Text)+" is not one host", "write its name without a port, a dot at the end or a wildcard")
		}
	}
	hosts := c.texts("host", g.Host)
	for i, host := range hosts {
		hosts[i] = strings.ToLower(host)
	}
	return hosts
}

func (c *compiler) query(g *Grant) map[string]param {
	if len(g.Query) > match.MaxParams {
		c.problem(g.Query[match.MaxParams].Pos, "query: declares more than 256 parameters", "split the grant")
		return nil
	}
	seen := unique[string]{}
	params := make(map[string]param, len(g.Query))
	for i, in := range g.Query {
		if in.Name == "" || len(in.Name) > match.MaxParamName {
			c.problem(in.Pos, "query: a parameter's name is empty or longer than 128 bytes", "")
		}
		c.first(seen, in.Name, in.Pos, "query parameter "+strconv.Quote(in.Name))
		params[in.Name] = param{bit: uint8(i), repeated: in.Repeated}
	}
	return params
}

func (c *compiler) headers(g *Grant) []string {
	seen := unique[string]{}
	var names []string
	for _, in := range g.Headers {
		name := strings.ToLower(in.Name)
		c.first(seen, name, in.Pos, "header "+name)
		names = append(names, name)
	}
	return names
}

// texts is a list of names, each of them once.
func (c *compiler) texts(kind string, list []Text) []string {
	seen := unique[string]{}
	var names []string
	for _, t := range list {
		c.first(seen, t.Text, t.Pos, kind+" "+t.Text)
		names = append(names, t.Text)
	}
	return names
}

func (c *compiler) checkBody(b *BodyRule) {
	for _, t := range b.Types {
		if !match.MediaType(t) {
			c.problem(b.Pos, "body: "+strconv.Quote(t)+" is not a media type", "write type/subtype in lower case, without parameters or wildcards")
		}
	}
}
