// Package match holds the patterns of a policy, for SPIFFE IDs, paths and
// values, and the one canonical form of what they are compared with.
//
// Patterns are parsed once and then immutable: after that no string in them can
// be wrong. Matching returns a bool and allocates nothing. The zero pattern
// matches nothing, except that the zero [Type] is the untyped one.
package match

import "strings"

// Mistake is the error of everything here that parses: what is wrong with the
// text, and what to try instead.
type Mistake struct {
	What string // lower case, no full stop
	Hint string // may be empty
}

// Error is what is wrong, then the hint in parentheses.
func (m *Mistake) Error() string {
	if m.Hint == "" {
		return m.What
	}
	return m.What + " (" + m.Hint + ")"
}

// maxMethod is the longest method accepted, in bytes.
const maxMethod = 32

// ParseMethod is nil if text is an HTTP token (RFC 9110 section 5.6.2) of at
// most 32 bytes. Case is kept: methods are case-sensitive (section 9.1).
func ParseMethod(text string) error {
	if Method(text) {
		return nil
	}
	if text == "" {
		return &Mistake{"the method is empty", "write one before the path, as in GET /orders"}
	}
	return &Mistake{
		"method " + quote(text) + " is not an HTTP token of at most 32 bytes",
		"write one method in capitals, as in GET /orders; there is no wildcard for methods",
	}
}

// Method reports whether text is an HTTP token of at most 32 bytes.
func Method(text string) bool {
	return len(text) <= maxMethod && token(text)
}

func token(text string) bool {
	if text == "" {
		return false
	}
	for i := 0; i < len(text); i++ {
		if !tokenByte(text[i]) {
			return false
		}
	}
	return true
}

func tokenByte(c byte) bool {
	return alphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// MediaTypeIs reports whether the value of a Content-Type field is of the media
// type want, which is in lower case and has no parameters. Only the type and
// subtype are compared (RFC 9110 section 8.3.1); a field that lists several
// types is of none.
func MediaTypeIs(field, want string) bool {
	essence, _, _ := strings.Cut(field, ";")
	essence = strings.Trim(essence, " \t")
	return essence != "" && equalFold(essence, want)
}

// equalFold compares in ASCII only: strings.EqualFold also takes the Kelvin
// sign for a k.
func equalFold(text, lower string) bool {
	if len(text) != len(lower) {
		return false
	}
	for i := 0; i < len(text); i++ {
		if lowerByte(text[i]) != lower[i] {
			return false
		}
	}
	return true
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
