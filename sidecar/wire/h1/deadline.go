package h1

import (
	"os"
	"sync"
	"time"
)

// deadline is one direction's deadline of a connection. Setting the real one
// costs more than reading a short message does, so it is set only when an
// operation may block, and only if the one that is set would fire too late, or
// early by more than a little. It is of the real clock, as connections are.
type deadline struct {
	set func(time.Time) error // of the connection

	mu       sync.Mutex
	each     time.Duration // for each operation; zero: until is what counts
	until    time.Time     // zero: for ever
	applied  time.Time
	blocking bool
	held     bool // somebody else's read is under way: until waits
	over     bool // cut: nothing blocks any more, until limit
}

// slack is how much too early a deadline may fire, at most.
const slack = time.Second

// limit gives each operation from now on so much time, also after a cut.
func (d *deadline) limit(each time.Duration) {
	d.mu.Lock()
	d.each, d.until, d.over = each, time.Time{}, false
	d.mu.Unlock()
}

// at ends all operations then, also the one that is under way.
func (d *deadline) at(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.each, d.until = 0, t
	if d.blocking && !d.held && !d.over {
		return d.apply(t)
	}
	return nil
}

// begin is called before an operation that may block.
func (d *deadline) begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return os.ErrDeadlineExceeded
	}
	d.blocking = true
	want := d.until
	if d.each > 0 || !want.IsZero() {
		now := time.Now()
		if d.each > 0 {
			want = now.Add(d.each)
		}
		early := want.Sub(d.applied)
		if !d.applied.IsZero() && early >= 0 && early <= min(slack, want.Sub(now)/8) {
			return nil
		}
	} else if d.applied.IsZero() {
		return nil
	}
	return d.apply(want)
}

// end is called after it.
func (d *deadline) end() {
	d.mu.Lock()
	d.blocking = false
	d.mu.Unlock()
}

// hold starts an operation that no deadline ends: it ends by itself or by cut.
// release is called after it.
func (d *deadline) hold() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blocking, d.held = true, true
	if d.applied.IsZero() {
		return nil
	}
	return d.apply(time.Time{})
}

func (d *deadline) release() {
	d.mu.Lock()
	d.blocking, d.held = false, false
	d.mu.Unlock()
}

// cut ends the operation that is under way at once, and those that follow before
// they begin.
func (d *deadline) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	_ = d.apply(time.Unix(1, 0)) // an error means that the connection is gone anyway
}

func (d *deadline) apply(t time.Time) error {
	d.applied = t
	return d.set(t)
}
