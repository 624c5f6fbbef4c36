// Package lease bounds how long what was allowed goes on: a request, a WebSocket, a
// connection of bytes. A decision is made once, and what it allows may last for
// hours, in which the caller may be banned, a certificate end, a grant be removed.
//
// Each is judged again whenever what it was judged by has changed, when a standing
// ends, and at a maximum age. What must not go on for a moment is ended at once;
// what the policy has narrowed is ended a little later, each at its own moment, so
// that not everybody comes back at the same time. The zero Lease is of no use until
// [Book.Begin].
package lease

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/everyhop/everyhop/policy"
)

// What is unsaid in a [Config].
const (
	DefaultSpread = 4 * time.Second
	DefaultMaxAge = time.Hour
)

// Standing is whether what was allowed still is, and until when that is known.
type Standing struct {
	Reason policy.Reason // Allowed where it is
	Until  time.Time     // zero: until something changes
}

// Holder is what has a lease: a request, a WebSocket, a connection of bytes, and the
// connections that carry requests.
type Holder interface {
	// Judge is the holder's standing. It is called from any goroutine.
	Judge(now time.Time) Standing
	// Expel ends the holder because of reason, and does not wait for it. It is
	// called once at most.
	Expel(reason policy.Reason)
}

// Config says how a [Book] goes about it.
type Config struct {
	Now func() time.Time // time.Now if nil
	// Spread is over how long the ends are spread that need not come at once, MaxAge
	// how long a holder may live; each really gets four fifths of it or more.
	// DefaultSpread and DefaultMaxAge if zero.
	Spread, MaxAge time.Duration
	Random         func() float64 // in [0,1); of math/rand if nil
}

// settle is how old a holder is before it is judged for the first time: most
// requests are over by then, and cost nothing.
const settle = time.Second

// Book has the leases of one direction.
type Book struct {
	config Config

	mu          sync.Mutex // guards what follows, and the links of each lease
	first, last *Lease     // the oldest first
	fresh       *Lease     // the first of those that were not looked at yet
	timer       *time.Timer
	armed       bool
}

// NewBook is a book without leases.
func NewBook(config Config) *Book {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Spread <= 0 {
		config.Spread = DefaultSpread
	}
	if config.MaxAge <= 0 {
		config.MaxAge = DefaultMaxAge
	}
	if config.Random == nil {
		config.Random = rand.Float64
	}
	return &Book{config: config}
}

// Soon is a moment within the spread, for an end that need not come at once: late
// enough for a usual request to be answered.
func (b *Book) Soon() time.Duration {
	least := min(settle, b.config.Spread/2)
	return least + time.Duration(b.config.Random()*float64(b.config.Spread-least))
}

// Age is how long one that is born now may live.
func (b *Book) Age() time.Duration {
	return time.Duration((1 - b.config.Random()/5) * float64(b.config.MaxAge))
}

// Lease is that of one holder. It is a part of the holder, and must not be copied.
type Lease struct {
	book       *Book
	holder     Holder
	born       time.Time
	prev, next *Lease // under book.mu

	mu    sync.Mutex // guards what follows
	seen  bool       // it has been judged
	end   time.Time  // of its maximum age
	going bool       // its end is set
	over  bool
	timer *time.Timer
}

// Begin enters the lease of a holder that has just been allowed. The caller calls
// [Lease.End] when the holder has ended by itself.
func (b *Book) Begin(l *Lease, h Holder) {
	l.book, l.holder, l.born = b, h, b.config.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.prev = b.last; l.prev != nil {
		l.prev.next = l
	} else {
		b.first = l
	}
	b.last = l
	if b.fresh == nil {
		b.fresh = l
	}
	b.arm()
}

// arm is called with mu held.
func (b *Book) arm() {
	switch {
	case b.armed || b.fresh == nil:
		return
	case b.timer == nil:
		b.timer = time.AfterFunc(settle, b.look) // nobody waits for it: it looks, and is done
	default:
		b.timer.Reset(settle)
	}
	b.armed = true
}

// look judges those that have settled and were not judged yet.
func (b *Book) look() {
	b.mu.Lock()
	b.armed = false
	now := b.config.Now()
	var settled []*Lease
	for ; b.fresh != nil && now.Sub(b.fresh.born) >= settle; b.fresh = b.fresh.next {
		settled = append(settled, b.fresh)
	}
	b.arm()
	b.mu.Unlock()
	for _, l := range settled {
		l.lookFirst()
	}
}

// Recheck judges every holder anew. It is for after a change.
func (b *Book) Recheck() {
	b.mu.Lock()
	var all []*Lease
	for l := b.first; l != nil; l = l.next {
		all = append(all, l)
	}
	b.mu.Unlock()
	for _, l := range all { // judging takes its time, and no lock
		l.Recheck()
	}
}

// Count is how many leases there are.
func (b *Book) Count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for l := b.first; l != nil; l = l.next {
		n++
	}
	return n
}

func (b *Book) remove(l *Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fresh == l {
		b.fresh = l.next
	}
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		b.first = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		b.last = l.prev
	}
	l.prev, l.next = nil, nil
}

// End ends the lease. Afterwards the holder is not expelled any more. It is called
// once.
func (l *Lease) End() {
	l.book.remove(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// Recheck judges the holder anew: what must not go on is ended at once, what the
// policy does not allow any more within the spread.
func (l *Lease) Recheck() { l.judge(false) }

// RecheckNow ends the holder at once if its standing does not allow it, whatever
// the reason: for when it has only just begun.
func (l *Lease) RecheckNow() { l.judge(true) }

func (l *Lease) lookFirst() {
	l.mu.Lock()
	seen := l.seen
	l.mu.Unlock()
	if !seen {
		l.judge(true)
	}
}

// judge decides on what becomes of the holder. due: its moment has come.
func (l *Lease) judge(due bool) {
	now := l.book.config.Now()
	standing := l.holder.Judge(now)
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	if l.seen = true; l.end.IsZero() {
		l.end = l.born.Add(l.book.Age())
	}
	if standing.Reason == policy.Allowed && !now.Before(l.end) {
		standing.Reason, due = policy.LeaseEnded, true
	}
	if standing.Reason == policy.Allowed || !due && !standing.Urgent() {
		l.wait(now, standing)
		l.mu.Unlock()
		return
	}
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.holder.Expel(standing.Reason)
}

// wait sets the moment at which the holder is looked at again. One whose end is set
// keeps it, however often the policy changes until then. mu is held.
func (l *Lease) wait(now time.Time, standing Standing) {
	going := standing.Reason != policy.Allowed
	if going && l.going {
		return
	}
	l.going = going
	until := l.end
	switch {
	case going:
		until = now.Add(l.book.Soon())
	case !standing.Until.IsZero() && standing.Until.Before(until):
		until = standing.Until
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(until.Sub(now), l.RecheckNow) // nobody waits for it: it looks, and is done
		return
	}
	l.timer.Reset(until.Sub(now))
}

// Urgent reports whether what has the standing must not go on for a moment: the peer
// is nobody any more, or nobody we speak to, or we are nobody ourselves.
func (s Standing) Urgent() bool {
	switch s.Reason {
	case policy.CallerBanned, policy.PeerBanned, policy.PeerUnverified, policy.PeerExpired, policy.IdentityMissing, policy.NoPolicy, policy.EvaluatorPanic:
		return true
	}
	return false
}
