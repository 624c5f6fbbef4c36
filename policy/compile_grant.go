package policy

import (
	"slices"
	"strconv"

	"github.com/everyhop/everyhop/policy/match"
)

func (c *compiler) compileGrants() []*Rule {
	taken := unique{}
	rules := make([]*Rule, 0, len(c.spec.Allow))
	for i := range c.spec.Allow {
		g := &c.spec.Allow[i]
		before := len(c.problems)
		c.first(taken, g.Name, g.Pos, "grant "+g.Name)
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
		for k := range rule.to {
			c.index.add(rule, &rule.to[k], keys(rule.from))
		}
	}
	return rules
}

func keys(from []Caller) []string {
	list := make([]string, len(from))
	for i, caller := range from {
		list[i] = caller.Pattern.Key()
	}
	return list
}

func (c *compiler) compileGrant(g *Grant, index int) *Rule {
	rule := &Rule{
		Name: g.Name, Pos: g.Pos, Index: index, Timeout: g.Timeout,
		BodyMax: DefaultBodyMax, Headers: names(g.Headers), Cookies: texts(g.Cookies),
		Shadow: g.Shadow, from: g.From, to: g.To,
	}
	c.checkCallers(g)
	c.checkGrantRoutes(g)
	c.bytesOnly(g)
	c.checkUpgrade(g.Upgrade, g.To)
	rule.conditions = conditions{
		hosts: texts(g.Host), query: c.query(g), body: g.Body != nil,
		when: c.window(g.When), upgrade: textOf(g.Upgrade), origins: slices.Contains(rule.Headers, "origin"),
	}
	if g.Until != nil {
		rule.conditions.until = g.Until.Time
		if g.Until.Time.IsZero() {
			c.problem(g.Until.Pos, "until: is no time", "write it as in 2026-12-01T00:00:00Z")
		}
	}
	if g.Body != nil {
		rule.BodyMax, rule.conditions.types = g.Body.Max, g.Body.Types
	}
	return rule
}

func (c *compiler) checkCallers(g *Grant) {
	if len(g.From) == 0 {
		c.problem(g.Pos, "grant "+g.Name+" names no caller", "write from: spiffe://…, which nothing else stands for")
	}
	seen := unique{}
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
	seen := unique{}
	for _, r := range g.To {
		c.checkRoute(r)
		c.first(seen, shape(r), r.Pos, "route "+r.String())
		if app := c.spec.App; app != nil && r.TCP != (app.Kind == AppTCP) {
			c.wrongApp(r)
		}
	}
}

// checkUpgrade refuses an upgrade that no request could ask for: RFC 6455 section
// 4.1 has it asked for by GET alone.
func (c *compiler) checkUpgrade(upgrade *Text, routes []Route) {
	isGet := func(r Route) bool { return r.Method == "GET" }
	if upgrade != nil && !slices.ContainsFunc(routes, isGet) {
		c.problem(upgrade.Pos, "upgrade: "+upgrade.Text+" stands beside no GET", "it is asked for by GET: add that route, as in GET /ws")
	}
}

func textOf(t *Text) string {
	if t == nil {
		return ""
	}
	return t.Text
}

func (c *compiler) wrongApp(r Route) {
	if r.TCP {
		c.problem(r.Pos, "to: tcp is for a tcp:// app, and app: is HTTP", "write METHOD /path")
		return
	}
	c.problem(r.Pos, "the app is tcp:// and has no HTTP routes", "write to: tcp")
}

func (c *compiler) query(g *Grant) map[string]param {
	if len(g.Query) > match.MaxParams {
		c.problem(g.Query[match.MaxParams].Pos, "query: declares more than 256 parameters", "split the grant")
		return nil
	}
	seen := unique{}
	params := make(map[string]param, len(g.Query))
	for i, in := range g.Query {
		c.first(seen, in.Name, in.Pos, "query parameter "+strconv.Quote(in.Name))
		params[in.Name] = param{bit: uint8(i), repeated: in.Repeated}
	}
	return params
}

func names(inputs []Input) (list []string) {
	for _, in := range inputs {
		list = append(list, in.Name)
	}
	return list
}

func texts(placed []Text) (list []string) {
	for _, t := range placed {
		list = append(list, t.Text)
	}
	return list
}
