package h1

import (
	"sync"
	"time"
)

// watchdog looks after work that goes on for longer than most. Nearly all
// requests are over before anybody could wish to interrupt them; so there is no
// timer for each, but one for all that a connection carries, which fires at most
// once in a patience, and does so only while there is work.
type watchdog struct {
	late func() // called with mu held, once for each work that is late

	mu    sync.Mutex
	timer *time.Timer
	armed bool
	work  uint64 // which one is under way, if any is
	busy  bool
	seen  uint64 // the work that was under way when the timer was set
}

// begin says that work starts.
func (d *watchdog) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.work++
	d.busy = true
	if !d.armed {
		d.arm()
	}
}

// end says that it is over: late is not called for it any more.
func (d *watchdog) end() {
	d.mu.Lock()
	d.busy = false
	d.mu.Unlock()
}

func (d *watchdog) arm() {
	d.armed, d.seen = true, d.work
	if d.timer == nil {
		d.timer = time.AfterFunc(patience, d.look)
		return
	}
	d.timer.Reset(patience)
}

func (d *watchdog) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !d.busy:
		d.armed = false
	case d.seen != d.work:
		d.arm()
	default:
		d.armed = false
		d.late()
	}
}
