package sidecar

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/everyhop/everyhop/identity/svid"
)

// The phases of a sidecar's life, in the order in which it goes through them.
const (
	phaseNew int32 = iota
	phaseStarting
	phaseServing
	phaseStopping
)

// ErrStopped is what Start returns where Stop came first.
var ErrStopped = errors.New("the sidecar is stopped")

const (
	identityLook = 50 * time.Millisecond
	identitySay  = 5 * time.Second
)

// Start serves, and returns when the sidecar is ready: when it holds the SVID that
// the policy says it must be. Until then every request is refused. ctx bounds the
// wait, not the sidecar's life. Where Start fails the sidecar is stopped.
func (s *Sidecar) Start(ctx context.Context) error {
	err := s.begin()
	if err != nil {
		return err
	}
	if err = s.awaitIdentity(ctx); err == nil && !s.phase.CompareAndSwap(phaseStarting, phaseServing) {
		err = ErrStopped
	}
	if err != nil {
		return errors.Join(err, s.Stop(context.Background()))
	}
	s.logger.Info("ready", s.addresses()...)
	return nil
}

// begin starts every loop, unless Stop came first.
func (s *Sidecar) begin() error {
	s.starting.Lock()
	defer s.starting.Unlock()
	if !s.phase.CompareAndSwap(phaseNew, phaseStarting) {
		if s.phase.Load() == phaseStopping {
			return ErrStopped
		}
		return errors.New("the sidecar was started already")
	}
	s.loop("serving the admin listener", s.admin.serve)
	s.loop("watching the policy", func() error { return s.file.Run(s.life) })
	s.loop("following the identity", s.followIdentity)
	s.loop("serving outbound", s.outbound.Serve)
	if s.inbound != nil {
		s.loop("serving inbound", func() error { return s.inbound.Serve(s.inboundListener) })
	}
	return nil
}

// loop runs what should go on until Stop. What ends early ends the sidecar.
func (s *Sidecar) loop(name string, run func() error) {
	s.loops.Add(1)
	go s.runLoop(name, run)
}

func (s *Sidecar) runLoop(name string, run func() error) {
	defer s.loops.Done()
	err := run()
	if s.life.Err() != nil {
		return
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	s.failed <- fmt.Errorf("%s: %w", name, err)
}

// awaitIdentity waits for the SVID and says what it waits for. Only what waiting
// cannot mend ends it: an SVID of somebody else.
func (s *Sidecar) awaitIdentity(ctx context.Context) error {
	look := time.NewTicker(identityLook)
	defer look.Stop()
	said := s.config.Now()
	for {
		err := s.identity.Ready()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, svid.ErrNotOurs):
			return fmt.Errorf("getting the identity from %s: %w", s.config.Identity, err)
		}
		if now := s.config.Now(); now.Sub(said) >= identitySay {
			s.logger.Warn("not ready: waiting for the identity", "source", s.config.Identity, "err", err)
			said = now
		}
		select {
		case <-look.C:
		case err := <-s.failed:
			return err
		case <-s.life.Done():
			return ErrStopped
		case <-ctx.Done():
			return fmt.Errorf("waiting for the identity from %s: %w", s.config.Identity, errors.Join(ctx.Err(), err))
		}
	}
}

// followIdentity makes new calls show the SVID that there is now, and holds open
// connections of bytes to the bundles that there are now.
func (s *Sidecar) followIdentity() error {
	updated := s.identity.Updated()
	for {
		select {
		case <-updated:
		case <-s.life.Done():
			return nil
		}
		updated = s.identity.Updated()
		s.outbound.Refresh()
		s.recheck()
	}
}

func (s *Sidecar) addresses() []any {
	p := s.Policy()
	attrs := []any{"service", p.Service.String(), "admin", s.Addr("admin").String(),
		"policy", p.File, "generation", p.Generation, "digest", p.Digest, "grants", len(p.Grants), "calls", len(p.Calls)}
	if at := s.Addr("inbound"); at != nil {
		attrs = append(attrs, "inbound", at.String())
	}
	return attrs
}

// Stop takes readiness away at once, lets what is under way finish until ctx ends
// or Config.Drain is over, then cuts it, and tears everything down, last made
// first. It may be called at any time and more than once: later calls wait for the
// first and return its error.
func (s *Sidecar) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() { s.stop(ctx) })
	<-s.stopped
	return s.stopError
}

func (s *Sidecar) stop(ctx context.Context) {
	defer close(s.stopped)
	ctx, cancel := context.WithTimeout(ctx, s.config.Drain)
	defer cancel()
	s.starting.Lock() // a Start that is adding loops adds all of them, and then we stop them
	s.phase.Store(phaseStopping)
	s.end()
	s.starting.Unlock()
	s.stopError = s.teardown.run(ctx)
	s.loops.Wait()
}

// drained is stop, for which running out of time is no fault: what is cut then was
// given all the time there was.
func (s *Sidecar) drained(name string, stop func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := stop(ctx)
		if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			s.logger.Warn("requests were cut: they outlasted the drain", "side", name)
			return nil
		}
		return err
	}
}

// Run makes a sidecar, serves until ctx ends, and then drains for Config.Drain.
// It returns nil after a clean stop.
func Run(ctx context.Context, config Config) error {
	s, err := New(config)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// Run starts the sidecar, serves until ctx ends, and then drains.
func (s *Sidecar) Run(ctx context.Context) error {
	if err := s.Start(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // told to stop while it waited
		}
		return err
	}
	var fault error
	select {
	case <-ctx.Done():
		s.logger.Info("stopping", "drain", s.config.Drain)
	case fault = <-s.failed:
		s.logger.Error("stopping", "err", fault)
	}
	err := errors.Join(fault, s.Stop(context.Background()))
	if err == nil {
		s.logger.Info("stopped")
	}
	return err
}

// teardown undoes, last made first, and names what would not be undone.
type teardown struct {
	mu    sync.Mutex
	steps []undo
}

type undo struct {
	name string
	stop func(context.Context) error
}

func (t *teardown) add(name string, stop func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps = append(t.steps, undo{name, stop})
}

// run undoes every step, whatever becomes of the others. A step that begins when
// ctx has ended is still given a moment: it is told to cut, not to drain.
func (t *teardown) run(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var faults []error
	for i := len(t.steps) - 1; i >= 0; i-- {
		step := t.steps[i]
		if err := step.stop(ctx); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", step.name, err))
		}
	}
	t.steps = nil
	return errors.Join(faults...)
}
