package policy

import (
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Snapshot is a compiled policy, immutable and safe for any number of readers.
// The zero Snapshot, like a nil one, denies all with NoPolicy.
type Snapshot struct {
	Service    spiffeid.ID
	App        *App
	TLS        TLS
	Timeouts   Timeouts
	File       string
	Digest     string // of the file, hexadecimal SHA-256
	Generation uint64 // 1 for the first, one more for each that follows
	Grants     []*Rule
	Calls      []*CallRule
	Tests      []Test
}

// CallRule is one compiled call.
type CallRule struct {
	Rule
	As    spiffeid.ID // who must answer
	At    []Endpoint
	Local *Local
}

// Compile makes a snapshot of spec. prev is the one it follows, nil for the
// first: what lives longer than a snapshot is carried over from it. The error is
// of type [Problems].
func Compile(spec *Spec, prev *Snapshot) (*Snapshot, error) { return nil, nil }

// Decide judges an inbound request. It never allocates where trace is nil and
// the path is canonical already.
func (s *Snapshot) Decide(now time.Time, r *Request, trace *Trace) Decision { return Decision{} }

// Decide judges a request of the local app on its way out.
func (c *CallRule) Decide(now time.Time, r *Request, trace *Trace) Decision { return Decision{} }

// Call is the call of that name, nil if there is none.
func (s *Snapshot) Call(name string) *CallRule { return nil }

// Trace collects what the evaluator did, for a person. A nil Trace costs nothing.
type Trace struct {
	Steps []Step
}

// Step is one thing the evaluator found.
type Step struct {
	Grant *Rule // nil: of no grant in particular
	Held  bool
	What  string
}
