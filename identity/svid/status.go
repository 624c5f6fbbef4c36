package svid

import (
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Status is what a person or a metric may know of our identity. It holds no key.
type Status struct {
	// Source is where the identity comes from.
	Source string
	// ID is who we are: zero while no SVID is held, expired or not.
	ID spiffeid.ID
	// Serial is our leaf's serial number in lower-case hexadecimal.
	Serial string
	// NotBefore and NotAfter bound the life of our SVID; NotAfter is the least of
	// the chain that we send.
	NotBefore, NotAfter time.Time
	// TrustDomains has the number of authorities of each domain that is trusted.
	TrustDomains map[string]int
	// Warnings is what the source said that could not be used, and why.
	Warnings []string
	// LastUpdate is when the SVID or the bundles last changed or were taken back.
	LastUpdate time.Time
	// LastError is what went wrong since the last good message, empty if nothing.
	LastError string
	// Updates and Failures count good messages, and all that went wrong.
	Updates, Failures uint64
}

// Status is the source's present state.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := Status{
		Source:       s.identity,
		TrustDomains: make(map[string]int),
		LastUpdate:   s.updatedAt,
		Updates:      s.updates,
		Failures:     s.failures,
	}
	if s.lastErr != nil {
		status.LastError = s.lastErr.Error()
	}
	st := s.state.Load()
	if st == nil {
		return status
	}
	status.ID = st.id
	status.Serial = st.cert.Leaf.SerialNumber.Text(16)
	status.NotBefore, status.NotAfter = st.notBefore, st.notAfter
	status.Warnings = append(status.Warnings, st.warnings...)
	for td, t := range st.trust {
		status.TrustDomains[td.Name()] = t.size
	}
	return status
}
