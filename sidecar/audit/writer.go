package audit

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

const (
	gatherFor     = 2 * time.Millisecond   // the longest that a record waits for others
	gatherSize    = 32 << 10               // bytes that wait for no more
	retryAfter    = 200 * time.Millisecond // after a write that failed
	closeTimeout  = 5 * time.Second
	reopenTimeout = 2 * time.Second
)

// Reopen makes the log a fresh file of its path, as after a rotation: what was
// queued before is in the old file, what comes later in the new one. Where the
// path cannot be opened the old file stays in use. It does nothing to a Writer.
func (l *Log) Reopen() error {
	reply := make(chan error, 1)
	timeout := time.NewTimer(reopenTimeout)
	defer timeout.Stop()
	select {
	case l.reopen <- reply:
		return <-reply
	case <-l.done:
		return errors.New("reopening the audit log: it is closed")
	case <-timeout.C:
		return errors.New("reopening the audit log: it has not taken the last write yet")
	}
}

// write is the writer: the one goroutine that touches the sink. It takes all that
// waits at once, so that under load one write carries many records.
func (l *Log) write(s *sink) {
	defer close(l.done)
	var batch []byte // what the sink did not take yet, beginning with a whole line
	var retry <-chan time.Time
	for {
		select {
		case <-l.wake:
			l.gather()
		case <-retry:
		case reply := <-l.reopen:
			batch = l.flush(s, batch)
			reply <- s.reopen()
		case <-l.stop:
			batch = l.flush(s, batch)
			l.end(s, batch)
			return
		}
		retry = nil
		batch = l.flush(s, batch)
		if len(batch) > 0 {
			retry = time.After(retryAfter)
		}
	}
}

// gather lets more records come, so that they are written together: under load a
// write for each would cost more than all else that is done for a record.
func (l *Log) gather() {
	wait := time.NewTimer(gatherFor)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-l.plenty:
	case <-l.stop:
	}
}

// flush writes the batch, then batches of what waits, until there is nothing left
// or the sink fails. It returns what is still to be written.
func (l *Log) flush(s *sink, batch []byte) []byte {
	for {
		if len(batch) == 0 {
			if batch = l.take(batch); len(batch) == 0 {
				return batch
			}
		}
		l.writing.Store(l.config.Now().UnixNano())
		rest, err := s.write(batch)
		l.writing.Store(0)
		if err != nil {
			l.fail(err)
			return rest
		}
		l.recover()
		batch = batch[:0]
	}
}

// take is what waits, in exchange for a buffer that is written.
func (l *Log) take(empty []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.plenty: // what it told of is taken now
	default:
	}
	taken := l.pending
	l.pending = empty[:0]
	l.waiting.Store(0)
	return taken
}

func (l *Log) fail(err error) {
	why := fmt.Errorf("audit: %w", err)
	if l.broken.Swap(&why) == nil {
		l.metrics.up.Set(0)
		l.config.Logger.Error("decisions cannot be recorded", "err", err, "refusing", l.config.OnFailure == Refuse)
	}
}

func (l *Log) recover() {
	if l.broken.Swap(nil) != nil {
		l.metrics.up.Set(1)
		l.config.Logger.Info("decisions are recorded again", "lost", l.lost.Load())
	}
}

// end counts what could not be written, and closes the sink.
func (l *Log) end(s *sink, batch []byte) {
	batch = append(batch, l.take(nil)...)
	if n := bytes.Count(batch, []byte{'\n'}); n > 0 {
		l.drop(n)
	}
	if err := s.close(); err != nil {
		l.fail(err)
	}
}
