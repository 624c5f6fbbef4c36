package listener

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// rawHandler writes records without any escaping: what is harmless in it is
// harmless in every other.
type rawHandler struct{ to *safeBuffer }

func (h *rawHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}
func (h *rawHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *rawHandler) WithGroup(string) slog.Handler      { return h }

func (h *rawHandler) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += fmt.Sprintf(" %s=%s", a.Key, a.Value); return true })
	h.to.add(line + "\n")
	return nil
}

type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) add(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.WriteString(text)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
