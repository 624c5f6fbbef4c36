package wire

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

const errorsPerSecond = 10

// errorLog passes net/http's own complaints on, so many a second and no more:
// any stranger can cause them. How many were left out is said with the next one.
type errorLog struct {
	logger *slog.Logger
	now    func() time.Time

	mu    sync.Mutex
	since time.Time // the second that said counts
	said  int
	left  int
}

func (l *errorLog) Write(line []byte) (int, error) {
	if left, ok := l.admit(); ok {
		l.logger.Warn("connection fault", "err", strings.TrimRight(string(line), "\n"), "left_out", left)
	}
	return len(line), nil
}

// admit says whether one more line may be logged, and how many were not.
func (l *errorLog) admit() (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); now.Sub(l.since) >= time.Second || now.Before(l.since) {
		l.since, l.said = now, 0
	}
	if l.said >= errorsPerSecond {
		l.left++
		return 0, false
	}
	left, l.left = l.left, 0
	l.said++
	return left, true
}
