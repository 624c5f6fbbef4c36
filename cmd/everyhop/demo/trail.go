package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
)

// trail keeps what sidecars write, their audit records or their logs, so that what
// they say of one request can be found again. It takes whole lines, from many
// writers at once.
type trail struct {
	mu    sync.Mutex
	text  []byte
	more  chan struct{} // closed, and made anew, by each write
	ended bool
}

func newTrail() *trail { return &trail{more: make(chan struct{})} }

func (t *trail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return len(p), nil
	}
	t.text = append(t.text, p...)
	close(t.more)
	t.more = make(chan struct{})
	return len(p), nil
}

// end forgets everything: what is written from now on is not kept.
func (t *trail) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text, t.ended = nil, true
}

// find decodes the first line that holds text into v, and waits for it until ctx
// ends. A record is written when its answer is out, so it may come a little later.
func (t *trail) find(ctx context.Context, text string, v any) error {
	from := 0
	for {
		line, next, more := t.look(text, from)
		from = next
		if line != nil {
			return json.Unmarshal(line, v)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("waiting for a record with %q: %w", text, ctx.Err())
		}
	}
}

// look searches the whole lines from that place on, and says where to go on.
func (t *trail) look(text string, from int) (line []byte, next int, more <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from = min(from, len(t.text)) // it may have been ended meanwhile
	whole := t.text[:bytes.LastIndexByte(t.text, '\n')+1]
	if len(whole) <= from {
		return nil, from, t.more
	}
	i := bytes.Index(whole[from:], []byte(text))
	if i < 0 {
		return nil, len(whole), t.more
	}
	start := bytes.LastIndexByte(whole[:from+i], '\n') + 1
	end := from + i + bytes.IndexByte(whole[from+i:], '\n')
	return bytes.Clone(whole[start:end]), end, t.more
}

// size is where the next line begins.
func (t *trail) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.text)
}

// records are the audit records written since size was from.
func (t *trail) records(from int) ([]record, error) {
	t.mu.Lock()
	text := bytes.Clone(t.text[from:])
	t.mu.Unlock()
	var all []record
	for line := range bytes.Lines(text) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("reading the audit record %q: %w", line, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// record is what the demo reads of an audit record.
type record struct {
	Direction string `json:"direction"`
	Serial    string `json:"caller_serial"`
	Grant     string `json:"grant"`
	GrantAt   string `json:"grant_at"`
	Verdict   string `json:"verdict"`
	Reason    string `json:"reason"`
	Dropped   int    `json:"dropped_headers"`
}
