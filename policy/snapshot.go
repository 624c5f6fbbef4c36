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

	index   *index // nil: never compiled
	ban     callers
	from    callers // of grants that are no shadow, by their index
	calls   map[string]*CallRule
	domains map[spiffeid.TrustDomain]struct{}
}

// CallRule is one compiled call.
type CallRule struct {
	Rule
	As    spiffeid.ID // who must answer
	At    []Endpoint
	Local *Local
	TCP   bool // bytes: only [Request].TCP asks for it

	banned bool   // As is
	index  *index // nil: never compiled
}

// Admits reports whether a grant that has not ended names the caller, and no ban
// does: whether there is any use in its staying connected.
func (s *Snapshot) Admits(now time.Time, caller spiffeid.ID) bool {
	if s == nil || s.index == nil || s.Bans(caller) {
		return false
	}
	id := caller.String()
	for key := id; key != ""; key = s.from.wider(key) {
		for _, at := range s.from.lists[key] {
			if until := s.Grants[at].conditions.until; until.IsZero() || now.Before(until) {
				return true
			}
		}
	}
	return false
}

// Bans reports whether ban: names the caller.
func (s *Snapshot) Bans(caller spiffeid.ID) bool { return s != nil && s.ban.names(caller.String()) }

// NamesTrustDomain reports whether from:, ban: or a call names somebody in the trust
// domain. Nobody of another one can ever be allowed or called.
func (s *Snapshot) NamesTrustDomain(td spiffeid.TrustDomain) bool {
	if s == nil {
		return false
	}
	_, named := s.domains[td]
	return named
}

// trustDomains are those that spec names.
func trustDomains(spec *Spec) map[spiffeid.TrustDomain]struct{} {
	domains := make(map[spiffeid.TrustDomain]struct{})
	for _, b := range spec.Ban {
		domains[b.ID.TrustDomain()] = struct{}{}
	}
	for _, g := range spec.Allow {
		for _, caller := range g.From {
			domains[caller.Pattern.TrustDomain()] = struct{}{}
		}
	}
	for _, call := range spec.Calls {
		domains[call.As.TrustDomain()] = struct{}{}
	}
	delete(domains, spiffeid.TrustDomain{}) // of a call to no workload
	return domains
}

// Call is the call of that name, nil if there is none.
func (s *Snapshot) Call(name string) *CallRule {
	if s == nil {
		return nil
	}
	return s.calls[name]
}
