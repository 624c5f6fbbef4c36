package file

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
)

// What one reader of YAML or another takes for something else than text. The
// union of YAML 1.1 and 1.2: the file must mean the same to all.
var (
	booleans  = regexp.MustCompile(`^(?i:y|yes|n|no|on|off|true|false)$`)
	nulls     = regexp.MustCompile(`^(~|(?i:null))$`)
	numbers   = regexp.MustCompile(`^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|\.(?i:inf|nan))$`)
	dates     = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?$`)
	specials  = regexp.MustCompile(`^(<<|=)$`)
	surprises = []struct {
		is      *regexp.Regexp
		meaning string
	}{{booleans, "a boolean"}, {nulls, "null"}, {numbers, "a number"}, {dates, "a date"}, {specials, "a special key"}}
)

// raw is the text of a scalar, however it was written.
func (r *reader) raw(n *yaml.Node) (string, bool) {
	switch {
	case r.bad[n]:
		return "", false
	case n.Kind == yaml.SequenceNode:
		r.refuseValue(n, "this is a list, where one value is meant", "write one value")
	case n.Kind == yaml.MappingNode:
		r.refuseValue(n, "this is a map, where one value is meant", `quote a text that has braces or ": "`)
	case strings.Contains(n.Value, "\n"):
		r.refuseValue(n, "this has more than one line", "write it on one line")
	default:
		return n.Value, true
	}
	return "", false
}

// text is a scalar that no reader of YAML takes for something else. What has a
// form that is never a boolean or a number is read by raw instead, so that the
// problem is the form and not the quotes.
func (r *reader) text(n *yaml.Node) (string, bool) {
	text, ok := r.raw(n)
	if !ok || !isPlain(n) {
		return text, ok
	}
	for _, s := range surprises {
		if s.is.MatchString(text) {
			r.refuseValue(n, fmt.Sprintf("%s is %s to some readers of YAML, where text is meant", short(text), s.meaning), "quote it: "+show(text))
			return "", false
		}
	}
	return text, true
}

func text(r *reader, n *yaml.Node) (string, bool) { return r.text(n) }

// placed is a text with its place.
func placed(r *reader, n *yaml.Node) (policy.Text, bool) {
	text, ok := r.text(n)
	return policy.Text{Pos: r.pos(n), Text: text}, ok
}

// matching is a reader of texts of one form.
func matching(form *regexp.Regexp, is, hint string) func(r *reader, n *yaml.Node) (string, bool) {
	return func(r *reader, n *yaml.Node) (string, bool) {
		text, ok := r.raw(n)
		if ok && !form.MatchString(text) {
			r.refuseValue(n, show(text)+" is not "+is, hint)
			return "", false
		}
		return r.text(n)
	}
}

// boolean is true or false, spelled so and not quoted.
func (r *reader) boolean(n *yaml.Node) bool {
	text, ok := r.raw(n)
	if ok && (text != "true" && text != "false" || !isPlain(n)) {
		r.refuseValue(n, show(text)+" is neither true nor false", "write true or false, without quotes")
	}
	return ok && text == "true"
}

var integers = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// integer is a whole number in decimal, not quoted.
func (r *reader) integer(n *yaml.Node) (int64, bool) {
	text, ok := r.raw(n)
	if !ok {
		return 0, false
	}
	if !integers.MatchString(text) || !isPlain(n) {
		r.refuseValue(n, show(text)+" is not a whole number", "write digits only, as in 100")
		return 0, false
	}
	i, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		r.refuseValue(n, short(text)+" is too large", "write a number of at most 63 bits")
	}
	return i, err == nil
}

// maxCount bounds counts and rates: above it they bound nothing.
const maxCount = 1_000_000_000

// count is a whole number of something, at least one.
func (r *reader) count(n *yaml.Node) uint32 {
	i, ok := r.integer(n)
	if ok && (i < 1 || i > maxCount) {
		r.refuseValue(n, fmt.Sprintf("%d is not between 1 and %d", i, maxCount), "to have no bound, remove the key")
	}
	if !ok || r.bad[n] {
		return 0
	}
	return uint32(i) //nolint:gosec // within maxCount
}
