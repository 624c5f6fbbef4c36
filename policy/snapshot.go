package policy

import "github.com/spiffe/go-spiffe/v2/spiffeid"

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

	index *index // nil: never compiled
	ban   callers
	calls map[string]*CallRule
}

// CallRule is one compiled call.
type CallRule struct {
	Rule
	As    spiffeid.ID // who must answer
	At    []Endpoint
	Local *Local
	TCP   bool // bytes: only [Request].TCP asks for it

	index *index // nil: never compiled
}

// Call is the call of that name, nil if there is none.
func (s *Snapshot) Call(name string) *CallRule {
	if s == nil {
		return nil
	}
	return s.calls[name]
}
