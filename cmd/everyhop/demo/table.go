package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// The widths of the columns; together a line has at most 110.
const (
	markWidth  = 3
	triedWidth = 41
	backWidth  = 12
	whyWidth   = 54
)

// The colours, as SGR sequences of ECMA-48.
const (
	green = "32"
	red   = "1;31"
	bold  = "1"
	faint = "2"
)

// row is one try as people read it.
type row struct {
	tried, back, why string
	wrong            string // what it should have been; empty: it is right
}

// table prints rows as they happen.
type table struct {
	out          io.Writer
	color        bool
	tries, wrong int
	err          error // of the first write that failed; nothing is printed after it
}

func newTable(out io.Writer, color bool) *table { return &table{out: out, color: color} }

// say prints one line of plain words.
func (t *table) say(text string) { t.print(text + "\n") }

func (t *table) print(text string) {
	if t.err == nil {
		_, t.err = io.WriteString(t.out, text)
	}
}

// head begins a group of rows.
func (t *table) head(title string) {
	t.print("\n" + t.paint(bold, title) + "\n")
}

func (t *table) row(r row) {
	t.tries++
	mark, colour := "ok", green
	if r.wrong != "" {
		t.wrong++
		mark, colour = "NO", red
	}
	tried, back, why := wrap(r.tried, triedWidth-1), wrap(r.back, backWidth-1), wrap(r.why, whyWidth)
	for i := range max(len(tried), len(back), len(why)) {
		line := t.cell(colour, mark, markWidth) + t.cell("", at(tried, i), triedWidth) +
			t.cell("", at(back, i), backWidth) + t.paint(faint, at(why, i))
		t.say(strings.TrimRight(line, " "))
		mark = ""
	}
	if r.wrong != "" {
		t.say(strings.Repeat(" ", markWidth) + t.paint(red, "WRONG: expected "+r.wrong))
	}
}

// sum is the last line of the tries.
func (t *table) sum(took time.Duration) {
	text, colour := fmt.Sprintf("%d tries, %d as they must be", t.tries, t.tries-t.wrong), green
	if t.wrong > 0 {
		text, colour = fmt.Sprintf("%s, %d WRONG", text, t.wrong), red
	}
	t.say(fmt.Sprintf("\n%s in %.1f s", t.paint(colour, text), took.Seconds()))
}

// cell is text in its colour, filled up to width.
func (t *table) cell(colour, text string, width int) string {
	return t.paint(colour, text) + strings.Repeat(" ", max(0, width-len([]rune(text))))
}

func (t *table) paint(colour, text string) string {
	if !t.color || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// wrap breaks text between words, and words that are longer than a line.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for len(word) > width {
			lines, word = append(lines, word[:width]), word[width:]
		}
		line = word
	}
	return append(lines, line)
}
