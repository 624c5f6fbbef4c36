package policy_test

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/everyhop/everyhop/policy"
)

// The oracle says what a policy means, from the text of the design alone: it
// goes through the grants one by one, and shares no code with the evaluator.
// Slow and plain is its whole point.

type oracleGrant struct {
	name   string
	from   []string
	to     []string // METHOD TEMPLATE, or tcp
	until  time.Time
	hours  string // FROM-TO in a zone
	zone   string
	days   string // as Go abbreviates them
	cidr   []string
	host   []string
	query  []string // a name that ends with + may be repeated
	body   bool
	types  []string
	shadow bool
	ws     bool // upgrade: websocket
	origin bool // headers: [origin]
}

type oraclePolicy struct {
	ban    []string
	grants []oracleGrant
}

// answer is the oracle's decision, in the form of show.
func (p oraclePolicy) answer(now time.Time, r *policy.Request) string {
	if r.Caller.IsZero() {
		return "peer_unverified"
	}
	for _, ban := range p.ban {
		if oracleCaller(ban, r.Caller.String()) {
			return "caller_banned"
		}
	}
	if !r.TCP && !regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}$").MatchString(r.Method) {
		return "method_malformed"
	}
	path := r.Path
	switch {
	case r.TCP:
	case len(r.Path) > 8192 || len(r.Query) > 8192:
		return "target_too_long"
	case r.Method == "OPTIONS" && r.Path == "*":
	case !strings.HasPrefix(r.Path, "/"):
		return "target_form"
	default:
		var ok bool
		if path, ok = oracleCanonical(r.Path); !ok {
			return "target_ambiguous"
		}
	}
	route, near, shadow := "", "", ""
	for _, g := range p.grants {
		for _, to := range g.to {
			method, template, _ := strings.Cut(to, " ")
			if to == "tcp" {
				template = to
			}
			if (to == "tcp") != r.TCP || !r.TCP && (method != r.Method || !oraclePath(template, path)) {
				continue
			}
			if route == "" && !g.shadow {
				route = template
			}
			if !anyOf(g.from, func(from string) bool { return oracleCaller(from, r.Caller.String()) }) {
				continue
			}
			reason := g.fails(now, r)
			switch {
			case reason == "" && g.shadow && shadow == "":
				shadow = " ~ " + g.name
			case reason == "" && !g.shadow:
				return "allow " + g.name + " @ " + template + shadow
			case reason != "" && !g.shadow && near == "":
				near = reason + " " + g.name + " @ " + template
			}
		}
	}
	switch {
	case near != "":
		return near + shadow
	case route != "":
		return "caller_undeclared @ " + route + shadow
	}
	return "route_undeclared" + shadow
}

func (g oracleGrant) fails(now time.Time, r *policy.Request) string {
	if !g.until.IsZero() && !now.Before(g.until) {
		return "grant_ended"
	}
	if g.hours != "" && !g.hourStrikes(now) {
		return "outside_window"
	}
	if len(g.cidr) > 0 && !anyOf(g.cidr, func(n string) bool { return oracleNetwork(n, r.Source) }) {
		return "source_undeclared"
	}
	if len(g.host) > 0 && !anyOf(g.host, func(h string) bool { return h == r.Host }) {
		return "host_undeclared"
	}
	if reason := g.queryFails(r.Query); reason != "" {
		return reason
	}
	if r.Upgrade != "" && !(r.Upgrade == "websocket" && g.ws) {
		return "upgrade_undeclared"
	}
	if r.Upgrade != "" && r.Origin != "" && !g.origin {
		return "origin_undeclared"
	}
	if !r.Body {
		return ""
	}
	if !g.body && anyOf([]string{"GET", "HEAD", "DELETE", "OPTIONS"}, func(m string) bool { return m == r.Method }) {
		return "body_undeclared"
	}
	sent := strings.ToLower(strings.Trim(strings.Split(r.ContentType, ";")[0], " \t"))
	if len(g.types) > 0 && !anyOf(g.types, func(t string) bool { return t == sent }) {
		return "body_type"
	}
	return ""
}

// hourStrikes goes back in time to the minute at which the hours began, and looks
// what day it was.
func (g oracleGrant) hourStrikes(now time.Time) bool {
	zone, err := time.LoadLocation(g.zone)
	if err != nil {
		panic(err)
	}
	from, to, _ := strings.Cut(g.hours, "-")
	clock := now.In(zone).Format("15:04")
	today, yesterday := now.In(zone).Format("Mon"), now.In(zone).AddDate(0, 0, -1).Format("Mon")
	if from < to {
		return strings.Contains(g.days, today) && from <= clock && clock < to
	}
	return strings.Contains(g.days, today) && from <= clock || strings.Contains(g.days, yesterday) && clock < to
}

// oracleNetwork compares the bits as text.
func oracleNetwork(network string, source netip.Addr) bool {
	base, length, _ := strings.Cut(network, "/")
	n, err := strconv.Atoi(length)
	if err != nil {
		panic(err)
	}
	bits := func(a netip.Addr) string {
		text := ""
		for _, b := range a.AsSlice() {
			text += fmt.Sprintf("%08b", b)
		}
		return text
	}
	own, other := bits(netip.MustParseAddr(base)), bits(source.Unmap())
	return len(own) == len(other) && own[:n] == other[:n]
}

var oracleQuery = regexp.MustCompile(`^([!$%&'()*+,\-./0-9:=?@A-Z\[\\\]^_` + "`" + `a-z{|}~])*$`)

func (g oracleGrant) queryFails(raw string) string {
	if raw == "" {
		return ""
	}
	pairs := strings.Split(raw, "&")
	if !oracleQuery.MatchString(raw) || len(pairs) > 256 {
		return "query_malformed"
	}
	reason := ""
	seen := map[string]bool{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		if _, bad := url.QueryUnescape(value); pair == "" || err != nil || bad != nil {
			return "query_malformed"
		}
		once := anyOf(g.query, func(q string) bool { return q == decoded })
		often := anyOf(g.query, func(q string) bool { return q == decoded+"+" })
		switch {
		case reason != "":
		case !once && !often:
			reason = "query_undeclared"
		case seen[decoded] && !often:
			reason = "query_repeated"
		}
		seen[decoded] = true
	}
	return reason
}

func anyOf(list []string, holds func(string) bool) bool {
	for _, text := range list {
		if holds(text) {
			return true
		}
	}
	return false
}

func oracleCaller(pattern, id string) bool {
	if below, ok := strings.CutSuffix(pattern, "**"); ok {
		return strings.HasPrefix(id, below) && id != below
	}
	return pattern == id
}

var oracleTypes = map[string]string{
	"":     `[A-Za-z0-9._~-]{1,128}`,
	"int":  `(0|-?[1-9][0-9]{0,17})`,
	"uuid": `[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}`,
	"ab":   `[ab]+`,
}

// oraclePath turns the template into one regular expression.
func oraclePath(template, path string) bool {
	if template == "*" || path == "*" {
		return template == path
	}
	expression := ""
	for _, segment := range strings.Split(template[1:], "/") {
		switch {
		case segment == "**":
			expression += "/.*"
		case strings.HasPrefix(segment, "{"):
			_, kind, _ := strings.Cut(strings.Trim(segment, "{}"), ":")
			expression += "/" + oracleTypes[kind]
		default:
			expression += "/" + regexp.QuoteMeta(segment)
		}
	}
	return regexp.MustCompile(`^(?:` + expression + `)$`).MatchString(path)
}

var (
	oracleEscape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	oracleShape  = regexp.MustCompile(`^(/([A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-F]{2})*)+$`)
	oracleNever  = regexp.MustCompile(`//|/\.\.?(/|$)|%2F|%5C|%[01].|%7F|%25[0-9A-Fa-f]{2}|/%20|%20(/|$)`)
)

func oracleCanonical(path string) (string, bool) {
	canonical := oracleEscape.ReplaceAllStringFunc(path, func(escape string) string {
		var c byte
		if _, err := fmt.Sscanf(escape[1:], "%02x", &c); err != nil {
			panic(err)
		}
		if regexp.MustCompile(`^[A-Za-z0-9._~-]$`).MatchString(string(rune(c))) {
			return string(rune(c))
		}
		return strings.ToUpper(escape)
	})
	if !oracleShape.MatchString(canonical) || oracleNever.MatchString(canonical) {
		return "", false
	}
	decoded, err := url.PathUnescape(canonical)
	if err != nil || !utf8.ValidString(decoded) || strings.ContainsFunc(decoded, unicode.IsControl) {
		return "", false
	}
	return canonical, true
}
