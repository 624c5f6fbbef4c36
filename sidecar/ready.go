package sidecar

import (
	"fmt"
	"strings"
)

// readiness is whether requests should be sent here, and what there is to say.
type readiness struct {
	reasons  []string // why not; none: ready
	degraded []string // what is wrong although requests are served
}

// Ready is nil where requests should be sent here, and else says why not.
func (s *Sidecar) Ready() error {
	if r := s.readiness(); len(r.reasons) > 0 {
		return fmt.Errorf("not ready: %s", strings.Join(r.reasons, "; "))
	}
	return nil
}

func (s *Sidecar) readiness() readiness {
	var r readiness
	switch s.phase.Load() {
	case phaseStopping:
		r.reasons = append(r.reasons, "stopping: requests under way are finished, new ones belong elsewhere")
	case phaseNew, phaseStarting:
		r.reasons = append(r.reasons, "starting")
	}
	if err := s.identity.Ready(); err != nil {
		r.reasons = append(r.reasons, "identity: "+err.Error())
	}
	if err := s.audit.Ready(); err != nil {
		r.reasons = append(r.reasons, err.Error())
	}
	if err := s.policyError(); err != nil {
		r.degraded = append(r.degraded, fmt.Sprintf("policy: still at generation %d: %v", s.Policy().Generation, err))
	}
	return r
}

// policyError is why what is in the policy file is not what is in use.
func (s *Sidecar) policyError() error {
	if err := s.file.Status().LastError; err != nil {
		return err
	}
	if refused := s.adopted.refused.Load(); refused != nil {
		return *refused
	}
	return nil
}

// String is what /readyz says: one line for the state, one for each reason.
func (r readiness) String() string {
	head := "ready"
	switch {
	case len(r.reasons) > 0:
		head = "not ready"
	case len(r.degraded) > 0:
		head = "ready, degraded"
	}
	lines := append([]string{head}, r.reasons...)
	return strings.Join(append(lines, r.degraded...), "\n") + "\n"
}
