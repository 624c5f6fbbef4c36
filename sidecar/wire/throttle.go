package wire

import (
	"sync"
	"time"
)

const linesPerSecond = 10

// Throttle bounds the log lines that any stranger can cause. The zero Throttle
// has no clock and must be given one.
type Throttle struct {
	Now func() time.Time

	mu    sync.Mutex
	since time.Time // the second that said counts
	said  int
	left  int
}

// Admit says whether one more line may be logged, ten a second at most, and how
// many were not since the last that was.
func (l *Throttle) Admit() (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.Now(); now.Sub(l.since) >= time.Second || now.Before(l.since) {
		l.since, l.said = now, 0
	}
	if l.said >= linesPerSecond {
		l.left++
		return 0, false
	}
	left, l.left = l.left, 0
	l.said++
	return left, true
}
