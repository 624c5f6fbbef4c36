// Package audit records every decision: one line of JSON each, and the counters
// that are made of the same record.
//
// It promises that a record is written whole or not at all, that no field of it
// can end the line or reach a terminal as anything but text, that a request is
// never held by a slow or broken log, and that what could not be written is
// counted. With the default [Refuse], [Log.Ready] says so within a second, and
// the hop answers 503 instead of passing what nobody could account for.
//
// The zero Config records every decision to nowhere that can be written: give it
// a Path or a Writer.
package audit

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everyhop/everyhop/identity"
	"github.com/everyhop/everyhop/policy"
)

// The directions of a record: toward the local app, and away from it.
const (
	Inbound  = "inbound"
	Outbound = "outbound"
)

// Record is one decision and what came of it. Its strings may hold anything a
// client can send.
type Record struct {
	Time      time.Time // of the decision; the log's own clock if zero
	ID        string    // of the decision, from [Log.NewID]: what the client is told
	Direction string    // Inbound or Outbound
	Peer      identity.Peer
	Method    string
	Route     string // the template that matched
	Path      string // as received; only recorded where Config.Paths is set
	Rule      *policy.Rule
	Shadow    *policy.Rule // the shadow grant that would have allowed it
	Verdict   policy.Verdict
	Reason    policy.Reason
	Fault     string // of the upstream, in the words of RFC 9209 section 2.3; empty: none
	Status    int    // what the client got
	BytesIn   int64
	BytesOut  int64
	Duration  time.Duration

	Digest         string // of the policy that judged
	Generation     uint64
	Trace          string // the trace id of traceparent
	DroppedHeaders int
	Call           string // the call's name, on the way out
	Tunnel         bool   // a connection of bytes: how long it lives says nothing of requests
}

// OnFailure is what becomes of requests that cannot be recorded.
type OnFailure uint8

// The zero OnFailure refuses.
const (
	Refuse OnFailure = iota // Ready fails: the hop answers 503
	Count                   // Ready never fails: what is lost is counted
)

// ParseOnFailure is the OnFailure of that name: refuse or count.
func ParseOnFailure(name string) (OnFailure, error) {
	switch name {
	case "refuse":
		return Refuse, nil
	case "count":
		return Count, nil
	}
	return Refuse, fmt.Errorf("%q is neither refuse nor count", name)
}

// NoAllows is the Config.AllowSample that records no allowed request.
const NoAllows = -1

// Config is what a [Log] is made of.
type Config struct {
	// Path is the file to append to; "" or "-" is Writer.
	Path   string
	Writer io.Writer
	// OnFailure is Refuse if unsaid.
	OnFailure OnFailure
	// Registerer gets the metrics; nil: they are counted, and shown nowhere.
	Registerer prometheus.Registerer
	// AllowSample is the share of allowed requests recorded, up to 1. Zero is
	// all of them as well, so that saying nothing loses nothing; NoAllows is
	// none. Denials are always recorded, and the counters count everything.
	AllowSample float64
	// Paths records the path as received besides the route template.
	Paths bool
	// Queue is how many bytes may wait to be written; 8 MiB if zero.
	Queue  int
	Now    func() time.Time // time.Now if nil
	Logger *slog.Logger     // discards if nil
	Rand   io.Reader        // of ids, safe for concurrent use; the runtime's generator if nil
}

const (
	defaultQueue = 8 << 20
	stuckAfter   = 750 * time.Millisecond // a write that takes longer is a broken sink
)

// Log writes records. Its methods are safe for concurrent use.
type Log struct {
	config  Config
	metrics *metrics

	mu      sync.Mutex // guards what follows, never held over a write
	pending []byte     // whole lines that wait
	seq     uint64
	closed  bool

	waiting atomic.Int64          // len(pending), for Ready
	writing atomic.Int64          // when the write that is under way began, Unix nanoseconds; 0: none
	broken  atomic.Pointer[error] // why the sink does not take records
	lost    atomic.Uint64

	wake   chan struct{}   // has room for one: there is something to write
	plenty chan struct{}   // has room for one: there is enough to write now
	reopen chan chan error // to the writer
	stop   chan struct{}
	done   chan struct{} // closed by the writer when it has ended
}

// Open opens the log and starts its writer. The caller must Close it.
func Open(config Config) (*Log, error) {
	setDefaults(&config)
	if config.AllowSample > 1 || config.AllowSample != config.AllowSample {
		return nil, fmt.Errorf("opening the audit log: a share of %v of the allows cannot be recorded: use 0 to 1", config.AllowSample)
	}
	s, err := openSink(config)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	m, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("registering the audit metrics: %w", err), s.close())
	}
	l := &Log{
		config:  config,
		metrics: m,
		wake:    make(chan struct{}, 1),
		plenty:  make(chan struct{}, 1),
		reopen:  make(chan chan error),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	m.up.Set(1)
	go l.write(s)
	return l, nil
}

func setDefaults(c *Config) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Queue <= 0 {
		c.Queue = defaultQueue
	}
	if c.AllowSample == 0 {
		c.AllowSample = 1
	}
}

// NewID is a fresh decision id: 128 random bits in hexadecimal. It is random, and
// not a count, because clients see it.
func (l *Log) NewID() string {
	if l.config.Rand != nil {
		return l.drawID()
	}
	// The runtime's ChaCha8, which the system seeds: no secret hangs on an id, and
	// the system's own generator is a system call for each.
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], rand.Uint64())
	var text [2 * len(raw)]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

func (l *Log) drawID() string {
	var raw [16]byte
	if _, err := io.ReadFull(l.config.Rand, raw[:]); err != nil {
		// An id is for finding a line again: a poor one is better than no answer.
		return fmt.Sprintf("%032x", l.config.Now().UnixNano())
	}
	return hex.EncodeToString(raw[:])
}

// Ready is nil where a decision made now can be recorded. It is cheap enough to
// ask before every request.
func (l *Log) Ready() error {
	if l.config.OnFailure == Count {
		return nil
	}
	if why := l.broken.Load(); why != nil {
		return *why
	}
	// Half of the queue is kept for requests that were let through already.
	if waiting := l.waiting.Load(); waiting > int64(l.config.Queue/2) {
		return fmt.Errorf("audit: %d bytes of records wait to be written: the log is too slow", waiting)
	}
	if since := l.writing.Load(); since != 0 {
		if held := l.config.Now().Sub(time.Unix(0, since)); held > stuckAfter {
			return fmt.Errorf("audit: the log has not taken a write for %s", held.Round(time.Millisecond))
		}
	}
	return nil
}

// Write counts the record and queues it, dated now if it has no time. It never
// waits: a record that does not fit is counted as dropped. The caller may use r
// again afterwards.
func (l *Log) Write(r *Record) {
	l.metrics.count(r)
	if !l.sampled(r) {
		return
	}
	l.mu.Lock()
	// A number is used up even where its record is lost: a gap in the log shows.
	l.seq++
	kept := l.push(r)
	waiting := len(l.pending)
	l.mu.Unlock()
	if !kept {
		l.drop(1)
		return
	}
	signal(l.wake)
	if waiting >= gatherSize {
		signal(l.plenty)
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push queues the record if it fits. The caller holds mu.
func (l *Log) push(r *Record) bool {
	if l.closed {
		return false
	}
	// Refusals for want of a log must not push out what was let through.
	room := l.config.Queue
	if r.Reason == policy.AuditUnavailable {
		room /= 2
	}
	if len(l.pending) > room-maxLine {
		return false
	}
	if r.Time.IsZero() {
		r.Time = l.config.Now()
	}
	l.pending = appendRecord(l.pending, r, l.seq, l.config.Paths)
	l.waiting.Store(int64(len(l.pending)))
	return true
}

// sampled says whether the record is one of those to write. The choice hangs on
// the id, so that it costs no randomness and can be made again.
func (l *Log) sampled(r *Record) bool {
	share := l.config.AllowSample
	if r.Verdict != policy.Allow || r.Reason != policy.Allowed || share >= 1 {
		return true
	}
	if share < 0 {
		return false
	}
	if len(r.ID) < 8 {
		return true
	}
	n, err := strconv.ParseUint(r.ID[:8], 16, 32)
	return err != nil || float64(n) < share*(1<<32)
}

func (l *Log) drop(n int) {
	l.lost.Add(uint64(n))
	l.metrics.dropped.Add(float64(n))
}

// Close writes what waits and closes the log. It is bounded: a log that takes
// nothing for five seconds is left, and the error says what was lost with it.
// Records written later are counted as dropped. It may be called again.
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		close(l.stop)
	}
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-l.done:
	case <-timeout.C:
		return fmt.Errorf("closing the audit log: it takes no writes; %d bytes of records are lost", l.waiting.Load())
	}
	if why := l.broken.Load(); why != nil && first {
		return fmt.Errorf("closing the audit log: %w", *why)
	}
	return nil
}

// Resolve makes room for the counters of the snapshot's grants and calls, so that
// none is looked up by name on a request, and forgets the series of grants that
// are gone. Records of rules it was not told of are counted all the same.
func (l *Log) Resolve(s *policy.Snapshot) { l.metrics.resolve(s) }
