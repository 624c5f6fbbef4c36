// Package match holds the patterns of a policy, for SPIFFE IDs, paths and
// values, and the one canonical form of a request path.
//
// Patterns are parsed once and then immutable. Matching returns a bool and
// allocates nothing. The zero pattern matches nothing.
package match

import (
	"errors"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Caller is a SPIFFE ID, or one whose last segments are a wildcard
// (spiffe://td/a/**). The trust domain is never a wildcard.
type Caller struct {
	id       string // the whole ID; for a wildcard all up to and with the last slash
	wildcard bool
}

// ParseCaller parses a SPIFFE ID or a pattern.
func ParseCaller(text string) (Caller, error) {
	id, err := spiffeid.FromString(text)
	if err != nil {
		return Caller{}, err
	}
	return Caller{id: id.String()}, nil
}

// Type is what a path segment or an input value must look like. The zero Type
// is the untyped one: a non-empty value of [A-Za-z0-9._~-], 128 at most.
type Type struct {
	name string
}

// ParseType is the type that text names: one of the built-in ones, or of named.
func ParseType(text string, named map[string]Type) (Type, error) {
	return Type{}, errors.New("no such type")
}

// CompileType is a named type by an RE2 expression, always anchored.
func CompileType(name, expression string) (Type, error) { return Type{name: name}, nil }

// Path is a path template: /orders/{id:uuid}, /public/**.
type Path struct {
	text string
}

// ParsePath parses a path template; named are the file's own types.
func ParsePath(text string, named map[string]Type) (Path, error) { return Path{text: text}, nil }

// String is the template as written: the route in metrics and records.
func (p Path) String() string { return p.text }

// ParseMethod is nil if text is an HTTP token of at most 32 bytes.
func ParseMethod(text string) error { return nil }

// Canonical is the one form in which a request path is matched and forwarded.
// It is false where the path could be read in more than one way. It allocates
// only where the path was not canonical yet.
func Canonical(path string) (canonical string, ok bool) { return path, false }
