package match

import (
	"strings"
)

// Path is a path template: /orders/{id:uuid}, /public/**. Its segments are
// compared with those of a canonical path, one by one; a trailing slash is a
// last, empty segment. The zero Path matches nothing.
type Path struct {
	text     string
	segments []Segment
	rest     bool
	asterisk bool
}

// Segment is one segment of a template: literal text, or a parameter.
type Segment struct {
	Literal string // canonical; "" is what follows a trailing slash
	Param   string // the parameter's name; "" for a literal
	Type    Type   // of the parameter
}

// Match reports whether a segment of a canonical path is what s asks for.
func (s Segment) Match(segment string) bool {
	if s.Param == "" {
		return s.Literal == segment
	}
	return s.Type.Match(segment)
}

// ParsePath parses a path template; named are the file's own types. The text
// "*" is the target of OPTIONS * (RFC 9112 section 3.2.4). The error is a
// [Mistake].
func ParsePath(text string, named map[string]Type) (Path, error) {
	switch {
	case text == "*":
		return Path{text: text, asterisk: true}, nil
	case !strings.HasPrefix(text, "/"):
		return Path{}, &Mistake{"path " + quote(text) + " does not begin with a slash", "write it as in /orders/{id}"}
	case len(text) > MaxPath:
		return Path{}, &Mistake{"the path is longer than 8 KiB", ""}
	}
	p := Path{text: text}
	parts := strings.Split(text[1:], "/")
	if last := len(parts) - 1; parts[last] == "**" {
		p.rest, parts = true, parts[:last]
	}
	for i, part := range parts {
		// Only the end of the template may be empty: the trailing slash.
		if part == "" && (p.rest || i < len(parts)-1) {
			return Path{}, &Mistake{"path " + quote(text) + " has an empty segment", "write one slash between segments"}
		}
		s, err := parseSegment(part, named)
		if err != nil {
			return Path{}, err
		}
		if s.Param != "" && p.names(s.Param) {
			return Path{}, &Mistake{"parameter " + s.Param + " stands twice in " + quote(text), "give each its own name"}
		}
		p.segments = append(p.segments, s)
	}
	return p, nil
}

func parseSegment(part string, named map[string]Type) (Segment, error) {
	if strings.ContainsAny(part, "{}") {
		return parseParameter(part, named)
	}
	if strings.Contains(part, "**") {
		return Segment{}, &Mistake{
			"** is not the whole last segment in " + quote(part),
			"write /public/** for all below /public/, or {name} for one segment",
		}
	}
	if canonical, ok := Canonical("/" + part); !ok || canonical != "/"+part {
		return Segment{}, &Mistake{"path segment " + quote(part) + " is not in canonical form", canonicalHint(part, canonical)}
	}
	return Segment{Literal: part}, nil
}

func canonicalHint(part, canonical string) string {
	switch {
	case canonical != "":
		return "write " + canonical[1:]
	case strings.ContainsAny(part, "?"):
		return "declare the query under query:, not in the path"
	case part == "." || part == "..":
		return "write the path that it leads to"
	}
	return "no request can have it: leave out ; \\ # and controls, and write a space or a letter beyond ASCII as %XX in UTF-8"
}

func parseParameter(part string, named map[string]Type) (Segment, error) {
	inner, ok := strings.CutPrefix(part, "{")
	if ok {
		inner, ok = strings.CutSuffix(inner, "}")
	}
	if !ok || strings.ContainsAny(inner, "{}") {
		return Segment{}, &Mistake{quote(part) + " is not one whole parameter", "a parameter is a whole segment, as in /orders/{id}"}
	}
	name, typeName, typed := strings.Cut(inner, ":")
	if !identifier(name) {
		return Segment{}, &Mistake{"parameter name " + quote(name) + " is not a name", nameHint}
	}
	s := Segment{Param: name}
	if !typed {
		return s, nil
	}
	var err error
	s.Type, err = ParseType(typeName, named)
	return s, err
}

func (p Path) names(param string) bool {
	for _, s := range p.segments {
		if s.Param == param {
			return true
		}
	}
	return false
}

// Segments is what the template asks for, in order. The caller must not change it.
func (p Path) Segments() []Segment { return p.segments }

// Rest reports whether one more segment or any number of them, the first of
// which may be empty, follow: the template ends with **.
func (p Path) Rest() bool { return p.rest }

// Asterisk reports whether it is the target of OPTIONS *, and no path at all.
func (p Path) Asterisk() bool { return p.asterisk }

// IsZero reports whether it is no template.
func (p Path) IsZero() bool { return p.text == "" }

// String is the template as written: the route in metrics and records.
func (p Path) String() string { return p.text }
