package file

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/everyhop/everyhop/policy"
)

// maxValues bounds the values in a file: a parsed value costs a hundred times
// the two bytes that it may be written with. A policy of 10,000 grants has some
// 60,000.
const maxValues = 120_000

// check looks at the bytes before YAML does: what is refused here, one reader
// takes for the end of the file or of a line, and another does not.
func (r *reader) check(text []byte) bool {
	switch {
	case len(text) > MaxSize:
		r.refuseAt(1, 1, fmt.Sprintf("the file has %d bytes, which is more than 1 MiB", len(text)), "split the service, or use wildcards")
	case bytes.HasPrefix(text, []byte{0xef, 0xbb, 0xbf}):
		r.refuseAt(1, 1, "the file begins with a byte order mark", "save it as UTF-8 without one")
	case bytes.HasPrefix(text, []byte{0xfe, 0xff}), bytes.HasPrefix(text, []byte{0xff, 0xfe}):
		r.refuseAt(1, 1, "the file is UTF-16", "save it as UTF-8")
	case bytes.HasPrefix(text, []byte("%")):
		r.refuseAt(1, 1, "a directive changes how the file is read", "remove the line: a policy has no directives")
	default:
		r.characters(text)
		if len(r.problems) == 0 {
			r.countValues(text)
		}
	}
	return len(r.problems) == 0
}

// characters refuses what cannot be seen, what is no text, and tabs that indent.
func (r *reader) characters(text []byte) {
	line, col, indent := 1, 1, true
	for i := 0; i < len(text) && len(r.problems) <= maxProblems; {
		c, size := utf8.DecodeRune(text[i:])
		switch {
		case c == '\n':
			line, col, indent = line+1, 0, true
		case c == '\r' && bytes.HasPrefix(text[i:], []byte("\r\n")):
		case c == '\t' && indent:
			r.refuseAt(line, col, "a tab indents this line", "YAML is indented by spaces")
			indent = false // once for each line
		case c == '\t' || c == ' ':
		case c == utf8.RuneError && size == 1:
			r.refuseAt(line, col, fmt.Sprintf("the byte 0x%02X is not UTF-8", text[i]), "save the file as UTF-8")
		case !unicode.IsPrint(c):
			r.refuseAt(line, col, fmt.Sprintf("the character %U cannot be seen", c), "remove it")
		default:
			indent = false
		}
		i, col = i+size, col+1
	}
}

// countValues counts what begins a value, and errs to more: commas in text count.
func (r *reader) countValues(text []byte) {
	values, line := 0, 1
	for i, c := range text {
		switch c {
		case '\n':
			line++
		case ',', '[', '{':
			values++
		case ':', '-', '?':
			if i+1 == len(text) || text[i+1] == ' ' || text[i+1] == '\n' || text[i+1] == '\r' {
				values++
			}
		}
		if values > maxValues {
			r.refuseAt(line, 1, fmt.Sprintf("the file has more than %d values", maxValues), "split the service, or use wildcards")
			return
		}
	}
}

func (r *reader) refuseAt(line, col int, what, hint string) {
	r.report(policy.Pos{File: r.file, Line: line, Col: col}, what, hint)
}
