package file

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
)

// reader turns the nodes of one file into values and collects what is wrong.
type reader struct {
	file     string
	problems policy.Problems
	bad      map[*yaml.Node]bool // refused already: nothing more is said of it
	key      string              // whose value is being read, for problems
	types    map[string]match.Type
}

func newReader(file string) *reader {
	return &reader{file: file, bad: map[*yaml.Node]bool{}, types: map[string]match.Type{}}
}

func (r *reader) pos(n *yaml.Node) policy.Pos {
	return policy.Pos{File: r.file, Line: n.Line, Col: n.Column}
}

// refuse reports n, and marks it as bad.
func (r *reader) refuse(n *yaml.Node, what, hint string) {
	if r.bad[n] {
		return
	}
	r.bad[n] = true
	r.report(r.pos(n), what, hint)
}

// maxKept bounds the problems that are kept to be sorted.
const maxKept = 10 * maxProblems

func (r *reader) report(pos policy.Pos, what, hint string) {
	if len(r.problems) < maxKept {
		r.problems = append(r.problems, policy.Problem{Pos: pos, What: what, Hint: hint})
	}
}

// refuseValue reports n as a wrong value of the key that is being read.
func (r *reader) refuseValue(n *yaml.Node, what, hint string) {
	r.refuse(n, r.key+": "+what, hint)
}

// refuseError reports what a parser of a pattern found.
func (r *reader) refuseError(n *yaml.Node, err error) {
	var m *match.Mistake
	if !errors.As(err, &m) {
		m = &match.Mistake{What: err.Error()}
	}
	r.refuseValue(n, m.What, m.Hint)
}

// A field is one key that a map may have. The tables of fields are the grammar:
// what is in none of them is an unknown key.
type field[T any] struct {
	name string
	read func(r *reader, n *yaml.Node, into *T)
}

// A table is the keys of one kind of map.
type table[T any] struct {
	is       string   // "a grant"
	required []string // keys that it must have
	fields   []field[T]
}

// read fills into from the map n. It is false if n is no map.
func (t *table[T]) read(r *reader, n *yaml.Node, into *T) bool {
	if r.bad[n] {
		return false
	}
	if n.Kind != yaml.MappingNode {
		keys := t.required
		if len(keys) == 0 {
			keys = t.names()
		}
		r.refuseValue(n, "this is not "+t.is+" with its keys", "write a map, as in {"+strings.Join(keys, ": …, ")+": …}")
		return false
	}
	values := t.values(r, n)
	for _, f := range t.fields {
		if value := values[f.name]; value != nil && !r.bad[value] {
			r.key = f.name
			f.read(r, value, into)
		}
	}
	for _, name := range t.required {
		if values[name] == nil {
			r.report(r.pos(n), t.is+" has no "+name+":", "add it, as in "+example(name))
		}
	}
	return true
}

// values is the value of each key, the first where a key is there twice.
func (t *table[T]) values(r *reader, n *yaml.Node) map[string]*yaml.Node {
	values := make(map[string]*yaml.Node, len(n.Content)/2)
	names := t.names()
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case len(r.problems) == maxKept:
			return values
		case !slices.Contains(names, key.Value):
			r.refuse(key, t.is+" has no key "+show(key.Value), nearest(key.Value, names))
		case values[key.Value] == nil:
			values[key.Value] = n.Content[i+1]
		}
	}
	return values
}

func (t *table[T]) names() []string {
	names := make([]string, len(t.fields))
	for i, f := range t.fields {
		names[i] = f.name
	}
	return names
}

// entries reads a map whose keys are names that the file gives.
func entries[T any](r *reader, n *yaml.Node, of string, read func(r *reader, key, value *yaml.Node) (T, bool)) []T {
	if n.Kind != yaml.MappingNode {
		r.refuseValue(n, "this is not a map of "+of+" by name", "write each as name: value")
		return nil
	}
	var all []T
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if r.bad[key] || r.bad[value] {
			continue
		}
		if _, ok := r.text(key); !ok {
			continue
		}
		if one, ok := read(r, key, value); ok {
			all = append(all, one)
		}
	}
	return all
}

// list reads a list of values, or one value that stands for a list of it.
func list[T any](r *reader, n *yaml.Node, read func(r *reader, n *yaml.Node) (T, bool)) []T {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	key := r.key
	var all []T
	for _, item := range items {
		if r.bad[item] {
			continue
		}
		r.key = key
		if one, ok := read(r, item); ok {
			all = append(all, one)
		}
	}
	r.key = key
	return all
}

// distinct is list for texts, each of which may be there once.
func distinct(r *reader, n *yaml.Node, read func(r *reader, n *yaml.Node) (string, bool)) []string {
	seen := map[string]bool{}
	return list(r, n, func(r *reader, n *yaml.Node) (string, bool) {
		text, ok := read(r, n)
		if ok && seen[text] {
			r.refuseValue(n, show(text)+" is listed twice", "remove one of them")
		}
		seen[text] = true
		return text, ok
	})
}

// enum is a reader of one text out of a few.
func enum(options ...string) func(r *reader, n *yaml.Node) (string, bool) {
	return func(r *reader, n *yaml.Node) (string, bool) {
		text, ok := r.raw(n)
		if ok && !slices.Contains(options, text) {
			r.refuseValue(n, show(text)+" is not known here", nearest(text, options))
			return "", false
		}
		return text, ok
	}
}

// nearest is a hint that names what was probably meant.
func nearest(text string, names []string) string {
	best, least := "", 3
	for _, name := range names {
		if d := distance(strings.ToLower(text), name); d < least && d < len(name) && d <= max(1, len(text)/2) {
			best, least = name, d
		}
	}
	switch {
	case best != "" && !digits.MatchString(text):
		return "did you mean " + best + "?"
	case len(names) == 1:
		return "write " + names[0] + ", or remove the key"
	}
	return "use one of " + strings.Join(names, ", ")
}

// distance is the number of letters to insert, remove, replace or swap to make a
// of b; any of more than a key's length is far.
func distance(a, b string) int {
	if len(a) > 32 {
		return len(a)
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		rows[2][0] = i
		for j := 1; j <= len(b); j++ {
			replace := rows[1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[2][j] = min(replace, rows[1][j]+1, rows[2][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[2][j] = min(rows[2][j], rows[0][j-2]+1)
			}
		}
		rows[0], rows[1], rows[2] = rows[1], rows[2], rows[0]
	}
	return rows[1][len(b)]
}

// show is text from the file in quotes, as it can be read in one line of a
// terminal.
func show(text string) string { return fmt.Sprintf("%q", short(text)) }

// short is the beginning of text.
func short(text string) string {
	const most = 60
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most]) + "…"
}

// example is a key as it could be written.
func example(name string) string {
	switch name {
	case "service", "as":
		return name + ": spiffe://example.org/orders"
	case "from":
		return "from: spiffe://example.org/web"
	case "to":
		return "to: GET /orders/{id}"
	case "issuer":
		return "issuer: https://idp.example.org"
	case "audience":
		return "audience: [orders]"
	case "keys":
		return "keys: https://idp.example.org/jwks.json"
	case "algorithms":
		return "algorithms: [ES256]"
	case "of":
		return "of: idp, a name under users:"
	case "at":
		return "at: orders.shop.svc:8443"
	case "origins":
		return "origins: [https://shop.example.org]"
	case "do":
		return "do: GET /orders/7"
	case "expect":
		return "expect: allow"
	case "on":
		return "on: [connect]"
	}
	return name + ": …"
}
