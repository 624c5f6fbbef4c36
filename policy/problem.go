package policy

import (
	"fmt"
	"strings"
)

// Pos is a place in a policy file. The zero Pos is no place.
type Pos struct {
	File      string
	Line, Col int // counted from 1
}

// String is file:line:col, as editors and terminals link it.
func (p Pos) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col) }

// Problem is one thing wrong with a policy file, and what to try.
type Problem struct {
	Pos  Pos
	What string // lower case, no full stop: what is wrong
	Hint string // what to try; may be empty
}

// Error is file:line:col: what is wrong (hint).
func (p Problem) Error() string {
	if p.Hint == "" {
		return p.Pos.String() + ": " + p.What
	}
	return p.Pos.String() + ": " + p.What + " (" + p.Hint + ")"
}

// Problems is everything wrong with a policy file, in the order of the file.
// It is never an error when empty: return nil instead.
type Problems []Problem

// Error is one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}
