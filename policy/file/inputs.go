package file

import (
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

var inputTable = table[policy.Input]{
	is: "an input",
	fields: []field[policy.Input]{
		{"type", func(r *reader, n *yaml.Node, i *policy.Input) { i.Typed, i.Type = true, r.inputType(n) }},
		{"one_of", func(r *reader, n *yaml.Node, i *policy.Input) { i.Typed, i.OneOf = true, distinct(r, n, text) }},
		{"min", func(r *reader, n *yaml.Node, i *policy.Input) { i.Typed, i.Min = true, r.bound(n) }},
		{"max", func(r *reader, n *yaml.Node, i *policy.Input) { i.Typed, i.Max = true, r.bound(n) }},
		{"required", func(r *reader, n *yaml.Node, i *policy.Input) { i.Required = r.boolean(n) }},
		{"repeated", func(r *reader, n *yaml.Node, i *policy.Input) { i.Repeated = r.boolean(n) }},
	},
}

// A nameReader checks the name of an input, and brings it into its one form.
type nameReader func(r *reader, n *yaml.Node) (string, bool)

// inputs is query: or headers:, as a list of names or as a map with what each
// must be.
func (r *reader) inputs(n *yaml.Node, name nameReader) []policy.Input {
	var all []policy.Input
	if n.Kind == yaml.MappingNode {
		all = entries(r, n, "inputs", func(r *reader, key, value *yaml.Node) (policy.Input, bool) {
			return r.typedInput(key, value, name)
		})
	} else {
		all = list(r, n, func(r *reader, n *yaml.Node) (policy.Input, bool) {
			text, ok := name(r, n)
			return policy.Input{Pos: r.pos(n), Name: text}, ok
		})
	}
	seen := map[string]bool{}
	for _, i := range all {
		if seen[i.Name] {
			r.report(i.Pos, show(i.Name)+" is declared twice", "remove one of them")
		}
		seen[i.Name] = true
	}
	return all
}

func (r *reader) typedInput(key, value *yaml.Node, name nameReader) (policy.Input, bool) {
	outer := r.key
	text, ok := name(r, key)
	i := policy.Input{Pos: r.pos(key), Name: text}
	ok = inputTable.read(r, value, &i) && ok
	r.key = outer
	switch {
	case !ok:
	case i.OneOf != nil && (i.Type != match.Type{} || i.Min != nil || i.Max != nil):
		r.refuse(key, show(text)+" has one_of: and something else", "one_of: says it all: remove the rest")
	case (i.Min != nil || i.Max != nil) && i.Type.String() != "int":
		r.refuse(key, show(text)+" has min: or max:, and is no int", "add type: int")
	case i.Min != nil && i.Max != nil && *i.Min > *i.Max:
		r.refuse(key, fmt.Sprintf("%s has min: %d above max: %d", show(text), *i.Min, *i.Max), "no value is both: swap them")
	}
	return i, ok
}

func (r *reader) inputType(n *yaml.Node) match.Type {
	text, ok := r.text(n)
	if !ok {
		return match.Type{}
	}
	t, err := match.ParseType(text, r.types)
	if err != nil {
		r.refuseError(n, err)
	}
	return t
}

func (r *reader) bound(n *yaml.Node) *int64 {
	i, ok := r.integer(n)
	if !ok {
		return nil
	}
	return &i
}

// readParameterName is the name of a query parameter, decoded.
func readParameterName(r *reader, n *yaml.Node) (string, bool) {
	text, ok := r.text(n)
	if ok && len(text) > match.MaxParamName {
		r.refuseValue(n, fmt.Sprintf("the name has %d bytes, which is more than %d", len(text), match.MaxParamName), "")
		return "", false
	}
	return text, ok
}

var tokens = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")

// The header fields that a grant cannot declare, by name or by prefix.
const (
	framing = " connection content-length cookie date expect host http2-settings keep-alive proxy-authenticate" +
		" proxy-authorization proxy-connection set-cookie te trailer transfer-encoding upgrade "
	spoken = " forwarded x-real-ip x-spiffe-id "
)

var spokenPrefixes = []string{"everyhop-", "x-forwarded-", "l5d-", "ssl-client-", "x-ssl-", "x-client-cert"}

// readHeaderName is the name of a header field in lower case.
func readHeaderName(r *reader, n *yaml.Node) (string, bool) {
	text, ok := matching(tokens, "a name of a header field", "use letters, digits and dashes, as in x-request-id")(r, n)
	if !ok {
		return "", false
	}
	text = strings.ToLower(text)
	isSpoken := strings.Contains(spoken, " "+text+" ")
	for _, prefix := range spokenPrefixes {
		isSpoken = isSpoken || strings.HasPrefix(strings.ReplaceAll(text, "_", "-"), prefix)
	}
	switch {
	case text == "cookie" || text == "set-cookie":
		r.refuseValue(n, text+" cannot be declared as a whole", "declare each cookie by its name under cookies:")
	case strings.Contains(framing, " "+text+" "):
		r.refuseValue(n, text+" belongs to the protocol", "remove it: what the app needs of it passes anyway")
	case isSpoken:
		r.refuseValue(n, text+" says who a caller is, and is always removed", "remove it: the app is told by everyhop-caller")
	default:
		return text, true
	}
	return "", false
}

func (r *reader) cookies(n *yaml.Node) []policy.Text {
	name := matching(tokens, "a name of a cookie", "use letters, digits, dashes and underscores, as in sid")
	seen := map[string]bool{}
	return list(r, n, func(r *reader, n *yaml.Node) (policy.Text, bool) {
		text, ok := name(r, n)
		if ok && seen[text] {
			r.refuseValue(n, show(text)+" is listed twice", "remove one of them")
		}
		seen[text] = true
		return policy.Text{Pos: r.pos(n), Text: text}, ok
	})
}

// readHost is one host of host:, without a port, in the form in which the host
// of a request is compared.
func readHost(r *reader, n *yaml.Node) (policy.Text, bool) {
	text, ok := r.text(n)
	if !ok {
		return policy.Text{}, false
	}
	host, valid := match.Host(text)
	switch {
	case !valid:
		r.refuseValue(n, show(text)+" is not a host", "write it without scheme and path, as in api.example.org")
	case host != text:
		r.refuseValue(n, show(text)+" is not in the form that is compared", "write "+host)
	}
	return policy.Text{Pos: r.pos(n), Text: host}, valid
}

var bodyTable = table[policy.BodyRule]{
	is: "body",
	fields: []field[policy.BodyRule]{
		{"types", func(r *reader, n *yaml.Node, b *policy.BodyRule) { b.Types = distinct(r, n, readMediaType) }},
		{"max", func(r *reader, n *yaml.Node, b *policy.BodyRule) { b.Max = r.size(n) }},
		{"schema", func(r *reader, n *yaml.Node, b *policy.BodyRule) {
			if path := r.path(n); path != "" {
				b.Schema = &policy.Text{Pos: r.pos(n), Text: path}
			}
		}},
	},
}

func (r *reader) body(n *yaml.Node) *policy.BodyRule {
	b := &policy.BodyRule{Pos: r.pos(n), Max: policy.DefaultBodyMax}
	bodyTable.read(r, n, b)
	return b
}

var mediaTypes = regexp.MustCompile("^[!#$&^_.+0-9A-Za-z-]{1,127}/[!#$&^_.+0-9A-Za-z-]{1,127}$")

// readMediaType is a media type without parameters, in lower case.
func readMediaType(r *reader, n *yaml.Node) (string, bool) {
	text, ok := matching(mediaTypes, "a media type", "write type/subtype without parameters or wildcards, as in application/json")(r, n)
	return strings.ToLower(text), ok
}

var corsTable = table[policy.CORSRule]{
	is:       "cors",
	required: []string{"origins"},
	fields: []field[policy.CORSRule]{
		{"origins", func(r *reader, n *yaml.Node, c *policy.CORSRule) { c.Origins = distinct(r, n, readOrigin) }},
		{"credentials", func(r *reader, n *yaml.Node, c *policy.CORSRule) { c.Credentials = r.boolean(n) }},
		{"max_age", func(r *reader, n *yaml.Node, c *policy.CORSRule) { c.MaxAge = r.duration(n, aDay) }},
	},
}

func (r *reader) cors(n *yaml.Node) *policy.CORSRule {
	c := &policy.CORSRule{Pos: r.pos(n)}
	corsTable.read(r, n, c)
	return c
}

// readOrigin is one origin of RFC 6454, in the form that a browser sends.
func readOrigin(r *reader, n *yaml.Node) (string, bool) {
	const hint = "write scheme, host and port only, as in https://shop.example.org"
	text, ok := r.text(n)
	switch {
	case !ok:
		return "", false
	case strings.Contains(text, "*"):
		r.refuseValue(n, show(text)+" would be any site", "list each origin, as in https://shop.example.org")
		return "", false
	case text != strings.ToLower(text):
		r.refuseValue(n, show(text)+" is not in lower case, as browsers send it", "write "+short(strings.ToLower(text)))
		return "", false
	}
	return text, r.https(n, text, false, hint)
}
