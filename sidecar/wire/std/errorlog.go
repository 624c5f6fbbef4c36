package std

import (
	"log/slog"
	"strings"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// errorLog passes net/http's own complaints on, so many a second and no more. How
// many were left out is said with the next one.
type errorLog struct {
	logger   *slog.Logger
	throttle wire.Throttle
}

func (l *errorLog) Write(line []byte) (int, error) {
	if left, ok := l.throttle.Admit(); ok {
		l.logger.Warn("connection fault", "err", strings.TrimRight(string(line), "\n"), "left_out", left)
	}
	return len(line), nil
}
