package file

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const noColon = "this is neither a key nor a value"

// syntaxes say a YAML error in other words. The library's own speak of its
// states, and its line is that of the value around the error.
var syntaxes = []struct{ contains, what, hint string }{
	{"mapping values are not allowed", `a colon makes a map where none can be`, `quote a value that holds ": ", and indent the keys of one map alike`},
	{"did not find expected key", "this is not a key of the map around it", "indent the keys of one map alike, and quote a value as a whole"},
	{"did not find expected '-'", "this is not an entry of the list around it", `begin each entry with "- " in the same column`},
	{"expected ',' or", "a comma, or the bracket that closes, is missing before this", `inside [ ] and { } quote a text with braces or ?, as in "GET /orders/{id}"`},
	{"could not find expected ':'", noColon, "write key: value, with a space after the colon"},
	{"cannot start any token", "a value cannot begin with this character", "quote the value"},
	{"unexpected end of stream", "the quoted text that begins here does not end", "close it with the same quote"},
	{"unknown escape", "there is no such escape in double quotes", "use single quotes for a text with backslashes"},
	{"hexdecimal number", "the escape in double quotes is not complete", "use single quotes for a text with backslashes"},
	{"sequence entries are not allowed", "an entry of a list cannot begin here", "begin it on a line of its own"},
	{"expected node content", "a value is missing here", "write one, or remove the comma or bracket too many"},
	{"exceeded max depth", "this nests too deep", "a policy nests five deep at most"},
	{"expected <document start>", "this comes after the end of the document", "remove it: a policy is one document"},
	{"tag handle", "this tag changes how the value is read", "remove the tag"},
	{"unknown anchor", "an alias stands for something elsewhere", "write it out: aliases are not expanded"},
}

var prefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

// syntax reports text that is no YAML.
func (r *reader) syntax(text []byte, err error) {
	what, hint := prefix.ReplaceAllString(err.Error(), ""), "check the indentation and the quotes"
	for _, s := range syntaxes {
		if strings.Contains(what, s.contains) {
			what, hint = s.what, s.hint
			break
		}
	}
	place, open := locate(text)
	switch {
	case open:
		what, hint = "this bracket is not closed", "close it, and inside it quote a text with brackets, braces or ?"
	case what == noColon:
		place = lineStart(text, place)
		place += len(text[place:]) - len(bytes.TrimLeft(text[place:], " "))
	}
	before := text[:place]
	line := 1 + bytes.Count(before, []byte("\n"))
	col := 1 + utf8.RuneCount(before[1+bytes.LastIndexByte(before, '\n'):])
	r.refuseAt(line, col, what, hint)
}

// maxLocate bounds the bytes that are parsed again to find where an error is.
const maxLocate = 3 << 20

// locate is the offset up to which text, which is no YAML, still is. The library
// does not tell the column, so it is looked for: the longest part of the text
// that would be good if it ended there and its brackets were closed.
// It is true where all that is wrong is that the bracket there is not closed.
func locate(text []byte) (place int, open bool) {
	budget := maxLocate
	good := func(end int) bool {
		budget -= end
		open := brackets(text[:end])
		closed := text[:end:end]
		for i := len(open) - 1; i >= 0; i-- {
			closed = append(closed, text[open[i]]+2) // ASCII has ] and } two after [ and {
		}
		return wellFormed(closed)
	}
	if open := brackets(text); len(open) > 0 && good(len(text)) {
		return open[len(open)-1], true
	}
	affordable := func(end int) bool { return budget <= 0 || good(end) }
	var lines []int
	end := consumed(text)
	for start := 0; start <= end && start >= 0; start = nextLine(text, start) {
		lines = append(lines, start)
	}
	at := furthest(lines, affordable)
	if at+1 < len(lines) {
		end = lines[at+1] - 1
	}
	// In a line a part may be bad and a longer one good, as before the colon of a
	// key: one by one.
	for end > lines[at] && !affordable(end) {
		_, size := utf8.DecodeLastRune(text[:end])
		end -= size
	}
	for end < len(text) && text[end] == ' ' {
		end++
	}
	return end, false
}

// nextLine is where the line after the one at start begins, -1 if there is none.
func nextLine(text []byte, start int) int {
	if i := bytes.IndexByte(text[start:], '\n'); i >= 0 {
		return start + i + 1
	}
	return -1
}

// furthest is the index of the last of places that is good, where all before one
// that is good are, and the first one is. It looks near the end first.
func furthest(places []int, good func(int) bool) int {
	bad := len(places)
	at := bad - 1
	for step := 1; at > 0 && !good(places[at]); step *= 2 {
		bad, at = at, max(0, at-step)
	}
	for bad-at > 1 {
		if middle := (at + bad) / 2; good(places[middle]) {
			at = middle
		} else {
			bad = middle
		}
	}
	return at
}

func lineStart(text []byte, end int) int { return 1 + bytes.LastIndexByte(text[:end], '\n') }

func wellFormed(text []byte) bool {
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := decode(d); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// consumed is how much of text the library read before it gave up: the error is
// not far before that.
func consumed(text []byte) int {
	drip := &drip{text: text}
	d := yaml.NewDecoder(drip)
	for {
		if _, err := decode(d); err != nil {
			return drip.read
		}
	}
}

// drip hands out one byte at a time, and counts.
type drip struct {
	text []byte
	read int
}

func (d *drip) Read(p []byte) (int, error) {
	if d.read == len(d.text) {
		return 0, io.EOF
	}
	n := copy(p[:1], d.text[d.read:])
	d.read += n
	return n, nil
}

// brackets is where those are that text opens and does not close, as far as can
// be told without parsing: good enough to look for a place.
func brackets(text []byte) (open []int) {
	var quote byte
	before := byte('\n')
	for i, c := range text {
		starts := bytes.IndexByte([]byte(" \n[{,"), before) >= 0
		switch {
		case quote == '#' && c != '\n', quote != 0 && quote != '#' && c != quote:
		case quote != 0:
			quote = 0
		case c == '#' && starts, c == '"' && starts, c == '\'' && starts:
			quote = c
		case c == '[' && (starts || len(open) > 0), c == '{' && (starts || len(open) > 0):
			open = append(open, i)
		case (c == ']' || c == '}') && len(open) > 0 && text[open[len(open)-1]]+2 == c:
			open = open[:len(open)-1]
		}
		before = c
	}
	return open
}
