package policy

// compileCalls compiles each call to a rule with an index of its own.
func (c *compiler) compileCalls() []*CallRule {
	names, locals := unique{}, unique{}
	if app := c.spec.App; app != nil {
		locals[app.Network+" "+app.Address] = app.Pos
	}
	calls := make([]*CallRule, 0, len(c.spec.Calls))
	for i := range c.spec.Calls {
		call := &c.spec.Calls[i]
		c.first(names, call.Name, call.Pos, "call "+call.Name)
		if call.Local != nil {
			c.first(locals, call.Local.Network+" "+call.Local.Address, call.Local.Pos, "the local address "+call.Local.Address)
		}
		calls = append(calls, c.compileCall(call, i))
	}
	return calls
}

func (c *compiler) compileCall(call *Call, index int) *CallRule {
	rule := &CallRule{
		Rule: Rule{
			Name: call.Name, Pos: call.Pos, Index: index, Timeout: call.Timeout,
			BodyMax: -1, to: call.Allow, conditions: conditions{ofCalls: true, upgrade: textOf(call.Upgrade)},
		},
		As: call.As, At: call.At, Local: call.Local, TCP: call.TCP, index: newIndex(),
	}
	if call.TCP {
		c.tcpCall(call, rule)
		return rule
	}
	if len(call.Allow) == 0 {
		c.problem(call.Pos, "call "+call.Name+" allows no route", "write allow: [METHOD /path]")
	}
	c.checkUpgrade(call.Upgrade, call.Allow)
	seen := unique{}
	for k := range call.Allow {
		route := &call.Allow[k]
		c.checkRoute(*route)
		c.first(seen, shape(*route), route.Pos, "route "+route.String())
		rule.index.add(&rule.Rule, route, []string{localApp})
	}
	return rule
}
