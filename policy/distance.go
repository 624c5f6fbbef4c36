package policy

import (
	"strings"

	"github.com/everyhop/everyhop/policy/match"
)

// pathDistance is what it costs to put in, leave out or exchange segments until
// path matches the template; 0 where it does. A slip of the pen, a slash at the
// end or a parameter of the wrong form cost 1, all else 2.
func pathDistance(to match.Path, path string) int {
	if to.Asterisk() || path == "*" {
		if to.Asterisk() && path == "*" {
			return 0
		}
		return 2 * (len(to.Segments()) + 1)
	}
	have := strings.Split(path[1:], "/")
	row := make([]int, len(have)+1) // of Levenshtein's table, a segment of the template each
	for j, segment := range have {
		row[j+1] = row[j] + weight(segment)
	}
	for _, segment := range to.Segments() {
		diagonal := row[0]
		row[0] += weight(segment.Literal + segment.Param)
		for j, own := range have {
			change := diagonal + exchange(segment, own)
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+weight(own), row[j+1]+weight(segment.Literal+segment.Param))
		}
	}
	if !to.Rest() {
		return row[len(have)]
	}
	best := row[len(have)] + 1 // ** needs one segment at least, be it empty
	for _, far := range row[:len(have)] {
		best = min(best, far)
	}
	return best
}

func weight(segment string) int {
	if segment == "" {
		return 1
	}
	return 2
}

func exchange(s match.Segment, own string) int {
	switch {
	case s.Match(own):
		return 0
	case s.Param != "" || slip(s.Literal, own):
		return 1
	}
	return 2
}

// slip reports whether two texts differ in their case, or in one place where a
// few bytes were put in, left out or exchanged.
func slip(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 2 && len(b) <= 2
}
