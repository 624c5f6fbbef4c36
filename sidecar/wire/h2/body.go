package h2

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// inbox is what has come of a message: its body, as far as nobody read it yet, and
// for a client its head. The connection's reader fills it, and one goroutine takes
// from it. The stream's window bounds it.
type inbox struct {
	wake chan struct{} // has one element when there may be something new

	mu       sync.Mutex
	buf      []byte // buf[at:] waits; what is behind its length is the filler's alone
	at       int
	err      error // after buf: io.EOF at the end of the message, else why it broke
	shut     bool  // nobody reads any more
	filling  bool  // the filler is at it
	deadline time.Time
	trailer  http.Header // when err is io.EOF

	head  *http.Response // of a client's stream
	infos []information
}

// information is one 1xx head.
type information struct {
	status int
	header http.Header
}

func (b *inbox) init() { b.wake = make(chan struct{}, 1) }

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// fill takes the next n bytes of from. It reports false if nobody will read them;
// then they were skipped. Of the last of a message finish tells, once.
func (b *inbox) fill(from *bufio.Reader, n int, last bool) (kept bool, err error) {
	into := b.room(n)
	if into == nil {
		return false, skip(from, n)
	}
	// Not under the lock: this may take as long as the peer likes.
	_, err = io.ReadFull(from, into)
	b.mu.Lock()
	b.filling = false
	if kept = err == nil && !b.shut; kept {
		b.buf = b.buf[:len(b.buf)+n]
	} else if b.shut {
		b.recycle()
	}
	b.mu.Unlock()
	if !last || err != nil {
		b.signal()
	}
	return kept, err
}

// room is where n bytes can be put: behind what waits. Only the filler changes
// where that is.
func (b *inbox) room(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		return nil
	}
	if b.at > 0 && (b.at == len(b.buf) || len(b.buf)+n > cap(b.buf)) {
		b.buf, b.at = b.buf[:copy(b.buf, b.buf[b.at:])], 0
	}
	if need := len(b.buf) + n; need > cap(b.buf) {
		b.grow(need)
	}
	b.filling = true
	return b.buf[len(b.buf) : len(b.buf)+n]
}

// grow gets a larger buffer. mu is held.
func (b *inbox) grow(need int) {
	grown := getBuffer(need)
	grown = append(grown, b.buf[b.at:]...)
	b.recycle()
	b.buf = grown
}

// recycle lets go of the buffer, unless it is being filled. mu is held. Nobody
// else has ever seen it: what is read was copied out of it.
func (b *inbox) recycle() {
	if !b.filling {
		putBuffer(b.buf)
		b.buf, b.at = nil, 0
	}
}

// finish says that nothing more comes, and why. The first reason stays.
func (b *inbox) finish(err error, trailer http.Header) {
	b.mu.Lock()
	if b.err == nil {
		b.err, b.trailer = err, trailer
	}
	b.mu.Unlock()
	b.signal()
}

// shutdown says that nobody reads any more, and returns how many bytes waited.
func (b *inbox) shutdown() (waited int) {
	b.mu.Lock()
	if !b.shut {
		waited = len(b.buf) - b.at
	}
	b.shut = true
	b.recycle()
	b.mu.Unlock()
	b.signal()
	return waited
}

// waiting is how many bytes can be read at once, with the end of the message
// behind them: none until that has come.
func (b *inbox) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut || b.err != io.EOF {
		return 0
	}
	return len(b.buf) - b.at
}

func (b *inbox) setDeadline(t time.Time) {
	b.mu.Lock()
	b.deadline = t
	b.mu.Unlock()
	b.signal()
}

// read is [io.Reader], until the done channel closes. At the end it returns io.EOF. It
// reports whether it took all that there was.
func (b *inbox) read(ctx context.Context, p []byte) (n int, all bool, err error) {
	for {
		b.mu.Lock()
		switch {
		case b.shut:
			b.mu.Unlock()
			return 0, false, errBodyShut
		case b.at < len(b.buf):
			n := copy(p, b.buf[b.at:])
			b.at += n
			all := b.at == len(b.buf)
			b.mu.Unlock()
			return n, all, nil
		case b.err != nil:
			err := b.err
			b.recycle()
			b.mu.Unlock()
			return 0, false, err
		}
		deadline := b.deadline
		b.mu.Unlock()
		if len(p) == 0 {
			return 0, false, nil
		}
		if err := wait(ctx, b.wake, deadline); err != nil {
			return 0, false, err
		}
	}
}

// wait waits for the channel, for the context's end, or for the deadline.
func wait(ctx context.Context, wake <-chan struct{}, deadline time.Time) error {
	if deadline.IsZero() {
		select {
		case <-wake:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	left := time.Until(deadline) // of the real clock, as every deadline of a connection
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}
