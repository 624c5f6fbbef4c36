package match

import "strings"

const (
	// MaxParams is the number of parameters a query may have.
	MaxParams = 256
	// MaxParamName is the longest name of a declared parameter, in bytes.
	MaxParamName = 128
)

// Query walks a raw query, one parameter at a time, without changing or
// copying it. Only & separates; a semicolon, which some servers take for a
// separator too, is refused, like everything that RFC 3986 section 3.4 does
// not let stand there, half an escape and an empty parameter. The zero Query
// has no parameters.
type Query struct {
	rest  string
	more  bool
	count int
	bad   bool
}

// NewQuery walks raw, the query of a target as received without its question
// mark. An empty one has no parameters.
func NewQuery(raw string) Query { return Query{rest: raw, more: raw != "", bad: len(raw) > MaxPath} }

// Next is the next parameter's name as written, to be decoded by [Name].
// It is false at the end, and where the query is malformed.
func (q *Query) Next() (name string, ok bool) {
	if !q.more || q.bad {
		return "", false
	}
	var pair string
	pair, q.rest, q.more = strings.Cut(q.rest, "&")
	q.count++
	if pair == "" || q.count > MaxParams || !queryText(pair) {
		q.bad = true
		return "", false
	}
	name, _, _ = strings.Cut(pair, "=")
	return name, true
}

// Malformed reports whether the walk ended because the query is malformed.
func (q *Query) Malformed() bool { return q.bad }

func queryText(text string) bool {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '%':
			if _, ok := escaped(text[i:]); !ok {
				return false
			}
			i += 2
		case !queryByte(c):
			return false
		}
	}
	return true
}

// queryByte also lets pass what RFC 3986 would have escaped but browsers send
// raw: brackets, braces, backslash, caret, backquote and bar. A query is never
// resolved, so they have one reading.
func queryByte(c byte) bool {
	return c > 0x20 && c < 0x7f && strings.IndexByte(`"#<>;`, c) < 0
}

// Name decodes the name of a parameter into buf: + is a space, %xx is its byte.
// It is false for one that is too long to be declared.
func Name(name string, buf *[MaxParamName]byte) (decoded []byte, ok bool) {
	n := 0
	for i := 0; i < len(name); i++ {
		if n == len(buf) {
			return nil, false
		}
		c := name[i]
		if c == '+' {
			c = ' '
		} else if value, ok := escaped(name[i:]); ok {
			c = value
			i += 2
		}
		buf[n] = c
		n++
	}
	return buf[:n], true
}
