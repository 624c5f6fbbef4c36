package sidecar

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/everyhop/everyhop/policy"
)

// adopted is the snapshot that requests are judged by. The file may be ahead of
// it: what was compiled still has to fit a process that is running.
type adopted struct {
	snapshot atomic.Pointer[policy.Snapshot]
	refused  atomic.Pointer[error] // why the file's newest snapshot is not in use
	mu       sync.Mutex            // one change at a time
}

// reloadPolicy reads the file, and tries once more to adopt what is in it.
func (s *Sidecar) reloadPolicy() error {
	err := s.file.Reload()
	s.adopt()
	if refused := s.adopted.refused.Load(); refused != nil && err == nil {
		err = *refused
	}
	return err
}

// adopt makes the file's newest snapshot the one in use, or keeps the present one
// and says why.
func (s *Sidecar) adopt() {
	s.adopted.mu.Lock()
	defer s.adopted.mu.Unlock()
	was, next := s.adopted.snapshot.Load(), s.file.Snapshot()
	if next == was {
		return
	}
	if err := s.fits(was, next); err != nil {
		err = fmt.Errorf("%s is good, but cannot be used while running: %w", next.File, err)
		s.adopted.refused.Store(&err)
		s.logger.Error("policy not adopted", "generation", next.Generation, "err", err)
		return
	}
	// Nothing below this line may fail.
	s.adopted.snapshot.Store(next)
	s.adopted.refused.Store(nil)
	s.audit.Resolve(next)
	s.recheck()
	s.logger.Info("policy adopted", difference(was, next)...)
}

// fits does all of a change that can fail. Whether there is an inbound listener
// was settled at the start, as was who we are, which policy/live holds to.
func (s *Sidecar) fits(was, next *policy.Snapshot) error {
	switch {
	case was.App == nil && next.App != nil:
		return errors.New("app: was added: restart to open the inbound listener")
	case was.App != nil && next.App == nil:
		return errors.New("app: was removed: restart to close the inbound listener")
	}
	return s.outbound.Apply(next)
}

// difference is what a person wants to know of a change, as log attributes.
func difference(was, next *policy.Snapshot) []any {
	attrs := []any{"file", next.File, "generation", next.Generation, "digest", next.Digest,
		"grants", len(next.Grants), "calls", len(next.Calls)}
	added, removed := compare(names(was), names(next))
	if len(added) > 0 {
		attrs = append(attrs, "added", added)
	}
	if len(removed) > 0 {
		attrs = append(attrs, "removed", removed)
	}
	return attrs
}

// maxNamed is how many names of a change are logged.
const maxNamed = 20

func compare(was, next []string) (added, removed []string) {
	had := make(map[string]bool, len(was))
	for _, name := range was {
		had[name] = true
	}
	for _, name := range next {
		if !had[name] && len(added) < maxNamed {
			added = append(added, name)
		}
		delete(had, name)
	}
	for _, name := range was {
		if had[name] && len(removed) < maxNamed {
			removed = append(removed, name)
		}
	}
	return added, removed
}

// names are those of a snapshot's grants and calls. A call's is marked, since a
// grant may have the same one.
func names(s *policy.Snapshot) []string {
	all := make([]string, 0, len(s.Grants)+len(s.Calls))
	for _, rule := range s.Grants {
		all = append(all, rule.Name)
	}
	for _, call := range s.Calls {
		all = append(all, "call "+call.Name)
	}
	return all
}
