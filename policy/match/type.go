package match

import (
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
)

const (
	maxUntyped      = 128 // bytes of an untyped value or a slug
	maxExpression   = 1024
	maxInstructions = 5000 // of the compiled program: some 200 KB
)

// Type is what a path segment or an input value must look like. The zero Type
// is the untyped one: a non-empty value of [A-Za-z0-9._~-], 128 bytes at most.
// No type matches the empty value.
type Type struct {
	name       string
	expression string
	re         *regexp.Regexp // nil: built in, or untyped where name is empty too
}

// The built-in types, which no file can redefine.
var builtin = [...]string{"date", "int", "slug", "uuid"}

// ParseType is the type that text names: a built-in one (uuid, int, date, slug),
// or one of named. The error is a [Mistake].
func ParseType(text string, named map[string]Type) (Type, error) {
	if slices.Contains(builtin[:], text) {
		return Type{name: text}, nil
	}
	if t, ok := named[text]; ok {
		return t, nil
	}
	known := append(slices.Sorted(maps.Keys(named)), builtin[:]...)
	return Type{}, &Mistake{
		"there is no type " + quote(text),
		"known here: " + strings.Join(known, ", ") + "; or add it under types: with a regular expression",
	}
}

// CompileType is a named type by an RE2 expression. The whole value must match
// it, whether the expression says so or not. It is bounded in length and in the
// size of its program. The error is a [Mistake].
func CompileType(name, expression string) (Type, error) {
	switch {
	case !identifier(name):
		return Type{}, &Mistake{"type name " + quote(name) + " is not a name", nameHint}
	case expression == "":
		return Type{}, &Mistake{"type " + name + " has an empty expression", "write one, as in [a-z]{3}"}
	case len(expression) > maxExpression:
		return Type{}, &Mistake{"the expression of type " + name + " is longer than 1024 bytes", "split the type"}
	case slices.Contains(builtin[:], name):
		return Type{}, &Mistake{"type " + name + " is built in", "give yours another name"}
	}
	// Parsed alone first, so that a)|(b cannot step out of the anchors.
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return Type{}, &Mistake{"type " + name + ": " + err.Error(), "use RE2 syntax: https://github.com/google/re2/wiki/Syntax"}
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil || len(program.Inst) > maxInstructions {
		return Type{}, &Mistake{"the expression of type " + name + " is too large when compiled", "use smaller repetitions"}
	}
	re, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return Type{}, &Mistake{"type " + name + ": " + err.Error(), ""}
	}
	return Type{name: name, expression: expression, re: re}, nil
}

const nameHint = "use lower-case letters, digits and underscores, a letter first, 64 at most"

func identifier(text string) bool {
	if text == "" || len(text) > 64 || text[0] < 'a' || text[0] > 'z' {
		return false
	}
	for i := 1; i < len(text); i++ {
		if c := text[i]; c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// String is the type's name, empty for the untyped one.
func (t Type) String() string { return t.name }

// Match reports whether value is of the type.
func (t Type) Match(value string) bool {
	switch {
	case value == "":
		return false
	case t.re != nil:
		return t.re.MatchString(value)
	}
	switch t.name {
	case "":
		return isUntyped(value)
	case "date":
		return isDate(value)
	case "int":
		return isInt(value)
	case "slug":
		return isSlug(value)
	case "uuid":
		return isUUID(value)
	}
	return false
}

// Same reports whether both are one type: the same name and expression.
func (t Type) Same(o Type) bool { return t.name == o.name && t.expression == o.expression }

// Covers reports whether every value of o is one of t, as far as that can be
// told: the untyped one covers the built-in ones, and each covers itself.
func (t Type) Covers(o Type) bool {
	return t.Same(o) || t.name == "" && o.re == nil
}

func isUntyped(value string) bool {
	if len(value) > maxUntyped {
		return false
	}
	for i := 0; i < len(value); i++ {
		if !unreserved(value[i]) {
			return false
		}
	}
	return true
}

// isUUID is the form of RFC 9562 section 4, whose hexadecimal digits may be of
// either case.
func isUUID(value string) bool {
	if len(value) != 36 {
		return false
	}
	for i := 0; i < len(value); i++ {
		switch i {
		case 8, 13, 18, 23:
			if value[i] != '-' {
				return false
			}
		default:
			if _, ok := hexDigit(value[i]); !ok {
				return false
			}
		}
	}
	return true
}

// isInt is a decimal 64-bit integer in its shortest form: neither 007 nor +7
// nor -0, which an app may read as something else.
func isInt(value string) bool {
	digits, most := value, "9223372036854775807"
	if value[0] == '-' {
		digits, most = value[1:], "9223372036854775808"
	}
	if digits == "" || digits[0] == '0' {
		return value == "0"
	}
	for i := 0; i < len(digits); i++ {
		if digits[i] < '0' || digits[i] > '9' {
			return false
		}
	}
	// Digits of one length compare as text; strconv would allocate its error.
	return len(digits) < len(most) || len(digits) == len(most) && digits <= most
}

// isDate is a full-date of RFC 3339 that is in the calendar.
func isDate(value string) bool {
	if len(value) != len(time.DateOnly) {
		return false
	}
	for i := 0; i < len(value); i++ {
		if dash := i == 4 || i == 7; dash != (value[i] == '-') || !dash && (value[i] < '0' || value[i] > '9') {
			return false
		}
	}
	number := func(s string) (n int) {
		for i := 0; i < len(s); i++ {
			n = n*10 + int(s[i]-'0')
		}
		return n
	}
	year, month, day := number(value[:4]), number(value[5:7]), number(value[8:])
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	return day <= time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// isSlug is lower-case words and numbers joined by single dashes.
func isSlug(value string) bool {
	if len(value) > maxUntyped {
		return false
	}
	dash := true // one may neither begin nor follow another
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '-' && dash:
			return false
		case c == '-':
			dash = true
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'z':
			dash = false
		default:
			return false
		}
	}
	return !dash
}
