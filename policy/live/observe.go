package live

import "time"

// settle is how long after a change the file is looked at, and how often while
// it is not clear what it comes to.
const settle = 50 * time.Millisecond

// How often in a row the same must be seen before it counts.
const (
	untilError   = 10  // a file that is missing for a moment is being replaced
	untilQuiet   = 20  // a second, where nobody can tell whether it is being written
	untilWritten = 200 // ten seconds: who holds it open so long has to be told of
)

// observer looks at a file, and again, until it is clear what it holds.
type observer struct {
	file  *File
	last  string // what was seen last
	times int    // how often in a row
}

// observe looks at the file once and loads what is in it if that is clear. It is
// true where it is to be looked at again soon. The watch comes first, so that no
// change can fall between.
func (o *observer) observe(w *watch) (again bool) {
	f := o.file
	w.follow()
	f.mu.Lock()
	defer f.mu.Unlock()
	text, state, err := read(f.config.Path, f.lease)
	switch {
	case err != nil:
		return o.after(untilError, "error "+err.Error(), func() { f.keep(err) })
	case state == writing:
		o.after(untilWritten, "writing", func() { f.keep(f.stillWritten()) })
		return true
	case state == unknown && f.Status().Digest != digest(text):
		return o.after(untilQuiet, digest(text), func() { f.attempt(text) })
	}
	return o.after(1, digest(text), func() { f.attempt(text) })
}

// after does what is to be done once the same was seen so many times in a row.
// It is true where it has to be seen more often.
func (o *observer) after(times int, seen string, do func()) (again bool) {
	if seen != o.last {
		o.last, o.times = seen, 0
	}
	o.times++
	if o.times >= times {
		do()
	}
	return o.times < times
}

// attempt loads text, or keeps the policy in use and says why.
func (f *File) attempt(text []byte) {
	if err := f.load(text); err != nil {
		f.keep(err)
	}
}
