package file

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
)

var userTable = table[policy.UserRule]{
	is:       "user",
	required: []string{"of"},
	fields: []field[policy.UserRule]{
		{"of", func(r *reader, n *yaml.Node, u *policy.UserRule) { u.Of, _ = placed(r, n) }},
		{"scopes", func(r *reader, n *yaml.Node, u *policy.UserRule) { u.Scopes = distinct(r, n, readScope) }},
		{"claims", func(r *reader, n *yaml.Node, u *policy.UserRule) { u.Claims = entries(r, n, "claims", readClaim) }},
		{"roles", func(r *reader, n *yaml.Node, u *policy.UserRule) { u.Roles = distinct(r, n, text) }},
		{"acr", func(r *reader, n *yaml.Node, u *policy.UserRule) { u.ACR = distinct(r, n, text) }},
		{"amr", func(r *reader, n *yaml.Node, u *policy.UserRule) { u.AMR = distinct(r, n, text) }},
		{"auth_within", func(r *reader, n *yaml.Node, u *policy.UserRule) { u.AuthWithin = r.duration(n, aYear) }},
		{"forward", func(r *reader, n *yaml.Node, u *policy.UserRule) { u.Forward = r.boolean(n) }},
		{"tell", func(r *reader, n *yaml.Node, u *policy.UserRule) { u.Tell = distinct(r, n, readToldClaim) }},
	},
}

func (r *reader) user(n *yaml.Node) *policy.UserRule {
	u := &policy.UserRule{Pos: r.pos(n)}
	userTable.read(r, n, u)
	return u
}

var scopes = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]+$`)

// readScope is one scope-token of RFC 6749 section 3.3.
func readScope(r *reader, n *yaml.Node) (string, bool) {
	return matching(scopes, "one scope", "list each on its own, as in [orders:read, orders:write]")(r, n)
}

// readToldClaim is a claim whose name can end the name of a header field.
func readToldClaim(r *reader, n *yaml.Node) (string, bool) {
	return matching(tokens, "a claim that a header field can be named after", "use letters, digits, dashes and underscores")(r, n)
}

func readClaim(r *reader, key, value *yaml.Node) (policy.Claim, bool) {
	c := policy.Claim{Pos: r.pos(key), Name: key.Value}
	var ok bool
	c.Value, ok = r.value(value)
	return c, ok
}

// value is what a claim is compared with: a text, a whole number or a boolean.
func (r *reader) value(n *yaml.Node) (any, bool) {
	raw, ok := r.raw(n)
	switch {
	case !ok:
		return nil, false
	case isPlain(n) && (raw == "true" || raw == "false"):
		return raw == "true", true
	case isPlain(n) && integers.MatchString(raw):
		return r.integer(n)
	}
	return r.text(n)
}

func (r *reader) expression(n *yaml.Node) *policy.Text {
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return &policy.Text{Pos: r.pos(n), Text: strings.TrimSpace(n.Value)} // the one text with lines
	}
	text, ok := placed(r, n)
	if !ok {
		return nil
	}
	return &text
}

var grantLimitTable = table[policy.GrantLimit]{
	is: "limit",
	fields: []field[policy.GrantLimit]{
		{"per_caller", func(r *reader, n *yaml.Node, l *policy.GrantLimit) { l.PerCaller = r.rate(n) }},
		{"per_user", func(r *reader, n *yaml.Node, l *policy.GrantLimit) { l.PerUser = r.rate(n) }},
		{"burst", func(r *reader, n *yaml.Node, l *policy.GrantLimit) { l.Burst = r.count(n) }},
		{"in_flight", func(r *reader, n *yaml.Node, l *policy.GrantLimit) { l.InFlight = r.count(n) }},
		{"shared", func(r *reader, n *yaml.Node, l *policy.GrantLimit) { l.Shared = r.shared(n) }},
	},
}

func (r *reader) grantLimit(n *yaml.Node) *policy.GrantLimit {
	l := &policy.GrantLimit{Pos: r.pos(n)}
	if n.Kind == yaml.ScalarNode && rates.MatchString(n.Value) {
		r.refuseValue(n, n.Value+" is whose?", "write {per_caller: "+n.Value+"} or {per_user: "+n.Value+"}")
		return l
	}
	grantLimitTable.read(r, n, l)
	return l
}

var whenTable = table[policy.When]{
	is: "when",
	fields: []field[policy.When]{
		{"days", func(r *reader, n *yaml.Node, w *policy.When) { w.Days = r.days(n) }},
		{"hours", func(r *reader, n *yaml.Node, w *policy.When) { w.Hours = r.hours(n) }},
		{"zone", func(r *reader, n *yaml.Node, w *policy.When) { w.Zone, _ = readZone(r, n) }},
		{"cidr", func(r *reader, n *yaml.Node, w *policy.When) { w.CIDR = r.networks(n) }},
	},
}

func (r *reader) when(n *yaml.Node) *policy.When {
	w := &policy.When{Pos: r.pos(n)}
	if !whenTable.read(r, n, w) {
		return w
	}
	said := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		said[n.Content[i].Value] = true
	}
	switch timed := said["days"] || said["hours"]; {
	case timed && !said["zone"]:
		r.refuse(n, "when: has days: or hours: and no zone:", "add where the clock hangs, as in zone: Europe/Madrid or zone: UTC")
	case said["zone"] && !timed:
		r.refuse(n, "when: has a zone: and neither days: nor hours:", "remove it, or add one of them")
	}
	return w
}

const day = `(mon|tue|wed|thu|fri|sat|sun)`

var (
	days  = regexp.MustCompile(`^` + day + `(-` + day + `)?(,` + day + `(-` + day + `)?)*$`)
	hours = regexp.MustCompile(`^((?:[01][0-9]|2[0-3]):[0-5][0-9])-((?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`)
	zones = regexp.MustCompile(`^(UTC|[A-Za-z_]+(/[A-Za-z0-9_+-]+){1,2})$`)
)

// days is a list of days and of stretches of them. One like fri-mon goes round
// the end of the week.
func (r *reader) days(n *yaml.Node) (set policy.Days) {
	text, ok := matching(days, "days of the week", "write them as in mon-fri or sat,sun")(r, n)
	if !ok {
		return 0
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, stretch := strings.Cut(part, "-")
		if !stretch {
			last = first
		}
		day := weekday(first)
		for ; day != weekday(last); day = (day + 1) % 7 {
			set = set.With(day)
		}
		set = set.With(day)
	}
	return set
}

// weekday is the day of that name, which the expression let pass.
func weekday(name string) time.Weekday {
	return time.Weekday(strings.Index("sunmontuewedthufrisat", name) / len("sun"))
}

func (r *reader) hours(n *yaml.Node) policy.Hours {
	const hint = "write from and to on a clock of 24 hours, as in 08:00-18:00"
	text, ok := matching(hours, "a time of the day", hint)(r, n)
	if !ok {
		return policy.Hours{}
	}
	from, to, _ := strings.Cut(text, "-")
	if from == to {
		r.refuseValue(n, show(text)+" is no time at all", hint)
	}
	return policy.Hours{From: minutes(from), To: minutes(to)}
}

// minutes is how many a time of the day is past midnight. The expression let
// nothing pass that is not five characters of that form.
func minutes(clock string) int {
	hour, _ := strconv.Atoi(clock[:2])
	minute, _ := strconv.Atoi(clock[3:])
	return hour*60 + minute
}

// readZone is the form of a name of the time zone database: whether there is
// such a zone is on the disk, where this room does not look.
func readZone(r *reader, n *yaml.Node) (string, bool) {
	return matching(zones, "a time zone", "write its name in the IANA database, as in Europe/Madrid, or UTC")(r, n)
}

func (r *reader) networks(n *yaml.Node) (all []netip.Prefix) {
	for _, text := range distinct(r, n, readCIDR) {
		all = append(all, netip.MustParsePrefix(text)) // readCIDR could
	}
	return all
}

func readCIDR(r *reader, n *yaml.Node) (string, bool) {
	text, ok := r.raw(n)
	if !ok {
		return "", false
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		r.refuseValue(n, show(text)+" is not a network", "write an address and a length, as in 10.0.0.0/8 or fd00::/8")
	case prefix.Addr().Is4In6():
		r.refuseValue(n, text+" is IPv4 written as IPv6", "write the IPv4 network, as in 10.0.0.0/8")
	case prefix.Masked() != prefix:
		r.refuseValue(n, fmt.Sprintf("%s has bits of a host", text), "write "+prefix.Masked().String())
	}
	return text, err == nil
}

func (r *reader) until(n *yaml.Node) *policy.Until {
	t, ok := r.instant(n)
	if !ok {
		return nil
	}
	return &policy.Until{Pos: r.pos(n), Time: t}
}
