package listener

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Why a connection was not handed over. It is a closed set: see [Reasons].
const (
	ReasonConns      = "connections_full"  // MaxConns are open
	ReasonHandshakes = "handshakes_full"   // MaxHandshakes are under way, none of them stale
	ReasonStale      = "handshake_stale"   // a slow handshake gave way to a new one
	ReasonTimeout    = "handshake_timeout" // it took longer than HandshakeTimeout
	ReasonHandshake  = "handshake_failed"  // the peer or we refused it
	ReasonNotTLS     = "not_tls"           // plain bytes on a TLS port
	ReasonGone       = "peer_gone"         // the peer closed before the handshake was done
	ReasonLease      = "lease_ended"       // its lease had ended when the handshake was done
	ReasonAccept     = "accept_failed"     // the kernel gave us none, and we wait a little
)

// reasonClosed is no news to anyone, and not told.
const reasonClosed = "closed"

// Reasons is every reason that OnRefused can be told.
func Reasons() []string {
	return []string{
		ReasonConns, ReasonHandshakes, ReasonStale, ReasonTimeout, ReasonHandshake,
		ReasonNotTLS, ReasonGone, ReasonLease, ReasonAccept,
	}
}

// handshakeReason is the reason that stands for a handshake's error, none for nil.
func handshakeReason(err error) string {
	var notTLS tls.RecordHeaderError
	switch {
	case err == nil:
		return ""
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonTimeout
	case errors.As(err, &notTLS):
		return ReasonNotTLS
	case isGone(err):
		return ReasonGone
	}
	return ReasonHandshake
}

// isGone is true where no one is there any more.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || isClosed(err)
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

// refuse tells of a connection that was not handed over; c is nil where there
// was none. What ends because we are closed is no news.
func (l *Listener) refuse(reason string, c net.Conn, err error) {
	if l.ended() {
		return
	}
	l.config.OnRefused(reason, err)
	attrs := []any{"reason", reason}
	if c != nil {
		attrs = append(attrs, "from", c.RemoteAddr().String())
	}
	if err != nil {
		attrs = append(attrs, "error", printable(err.Error()))
	}
	if reason == ReasonGone {
		l.log.write(slog.LevelDebug, attrs) // what every TCP health check does
		return
	}
	l.log.write(slog.LevelWarn, attrs)
}

// maxTextBytes is how much of a peer's doing gets into one line.
const maxTextBytes = 300

// printable makes a peer's text harmless to whoever reads the log: it may hold
// names that the peer chose.
func printable(text string) string {
	if len(text) > maxTextBytes {
		text = text[:maxTextBytes] + "…"
	}
	quoted := strconv.QuoteToASCII(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// linesPerSecond bounds the log of what strangers can make happen.
const linesPerSecond = 10

// throttle writes to a log, and says how much it left out.
type throttle struct {
	logger *slog.Logger
	now    func() time.Time

	mu    sync.Mutex
	from  time.Time
	lines int
	left  int // lines left out since one was last written
}

func (t *throttle) write(level slog.Level, attrs []any) {
	ctx := context.Background()
	if !t.logger.Enabled(ctx, level) {
		return
	}
	left, ok := t.take()
	if !ok {
		return
	}
	if left > 0 {
		attrs = append(attrs, "lines_left_out", left)
	}
	t.logger.Log(ctx, level, "connection refused", attrs...)
}

// take is true where a line may be written, with how many were not before it.
func (t *throttle) take() (left int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if now.Sub(t.from) >= time.Second || now.Before(t.from) {
		t.from, t.lines = now, 0
	}
	if t.lines >= linesPerSecond {
		t.left++
		return 0, false
	}
	t.lines++
	left, t.left = t.left, 0
	return left, true
}
