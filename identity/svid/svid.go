// Package svid holds our own X.509-SVID and the trust bundles of our peers, and
// makes the TLS configurations that prove the one and check the other.
//
// A [Source] follows the SPIFFE Workload API, or a directory of PEM files, and
// keeps what it last said as one immutable state behind one pointer. Every
// handshake reads that pointer, so a rotation needs no new configuration. A
// message that is malformed changes nothing. A source that cannot be reached
// changes nothing either, until our SVID expires: from then on every handshake
// fails. One that says we have no identity is believed at once.
//
// The zero Source has no SVID and trusts no one.
package svid

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ErrNoSVID is wrapped by every error that comes of having no SVID: none was
// given yet, it was taken back, or it has expired.
var ErrNoSVID = errors.New("no valid SVID")

// ErrNotOurs is wrapped as well where the source gave SVIDs, but none of them is
// the service's: waiting alone will not mend it.
var ErrNotOurs = errors.New("no SVID is the service's")

// Config says where our identity comes from, and which it must be.
type Config struct {
	// Identity is unix:///path or tcp://IP:port of a Workload API, or dir:/path
	// of a directory with svid.pem, key.pem, bundle.pem and bundle.TD.pem.
	Identity string
	// Service is who we must be. Of several SVIDs the one with this ID is used;
	// no other ever is.
	Service spiffeid.ID
	// Named reports whether somebody in a trust domain may come or be called at all;
	// handshakes with anybody else's are refused whatever bundles there are. It is
	// asked at each handshake, and not of our own domain. Nil: no other is named.
	Named func(spiffeid.TrustDomain) bool
	// Logger is told of changes and failures. Nil: no one is.
	Logger *slog.Logger
	// Now is the clock that certificates are judged by. Nil: time.Now.
	Now func() time.Time
}

// Source is our own SVID and the trust bundles of our peers, kept current.
// It is safe for concurrent use.
type Source struct {
	identity string
	service  spiffeid.ID
	named    func(spiffeid.TrustDomain) bool
	logger   *slog.Logger
	now      func() time.Time
	state    atomic.Pointer[state]
	cancel   context.CancelFunc
	done     chan struct{} // closed when the watcher has ended

	mu        sync.Mutex
	updated   chan struct{} // closed, and made anew, when the state changes
	lastErr   error         // nil after a good message
	updatedAt time.Time
	updates   uint64
	failures  uint64
	logged    string // the last failure that was logged, and when
	loggedAt  time.Time
}

// Open checks c and starts to follow its source. It does not wait for an SVID:
// see [Source.WaitReady]. The source is followed until ctx ends or Close.
func Open(ctx context.Context, c Config) (*Source, error) {
	if c.Service.IsZero() || c.Service.Path() == "" {
		return nil, errors.New("opening the identity: no service to be (set service: spiffe://trust-domain/path in the policy)")
	}
	follow, err := parseIdentity(c.Identity)
	if err != nil {
		return nil, fmt.Errorf("opening the identity %q: %w", c.Identity, err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Named == nil {
		c.Named = func(spiffeid.TrustDomain) bool { return false }
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Source{
		identity: c.Identity,
		service:  c.Service,
		named:    c.Named,
		logger:   c.Logger,
		now:      c.Now,
		cancel:   cancel,
		done:     make(chan struct{}),
		updated:  make(chan struct{}),
	}
	go s.run(ctx, follow)
	return s, nil
}

// follow tells s what a source says until ctx ends.
type follow func(ctx context.Context, s *Source)

func (s *Source) run(ctx context.Context, f follow) {
	defer close(s.done)
	f(ctx, s)
}

// Close stops following the source and waits until that has ended. The SVID is
// given up: later handshakes fail. It may be called more than once.
func (s *Source) Close() error {
	s.cancel()
	<-s.done
	s.state.Store(nil)
	return nil
}

// WaitReady waits for the first good SVID, or until ctx ends: the error then
// says what kept it.
func (s *Source) WaitReady(ctx context.Context) error {
	for {
		updated := s.Updated()
		if s.Ready() == nil {
			return nil
		}
		select {
		case <-updated:
		case <-s.done:
			return fmt.Errorf("waiting for the SVID of %s from %s: the source is closed", s.service, s.identity)
		case <-ctx.Done():
			return fmt.Errorf("waiting for the SVID of %s from %s: %w", s.service, s.identity, s.cause())
		}
	}
}

// Shares of an SVID's life and of time that Ready leaves before its end, so that
// new requests go elsewhere before they would be refused.
const (
	readyShare  = 20
	readyMargin = 30 * time.Second
)

// Ready is nil while an SVID is held that is good for a little longer: a
// twentieth of its life, 30 seconds at most. Handshakes go on to its very end.
func (s *Source) Ready() error {
	st, err := s.current()
	if err != nil {
		return err
	}
	margin := min(st.notAfter.Sub(st.notBefore)/readyShare, readyMargin)
	if left := st.notAfter.Sub(s.now()); left < margin {
		return fmt.Errorf("%w: the SVID of %s expires at %s and was not renewed: %w",
			ErrNoSVID, s.service, st.notAfter.Format(time.RFC3339), s.cause())
	}
	return nil
}

// Held is nil while an SVID is held that has not expired: while we are who we say.
func (s *Source) Held() error {
	_, err := s.current()
	return err
}

// current is the state that a handshake may use now. An SVID is good up to and
// including its NotAfter, RFC 5280 section 4.1.2.5.
func (s *Source) current() (*state, error) {
	st := s.state.Load()
	if st == nil {
		return nil, fmt.Errorf("%w for %s: %w", ErrNoSVID, s.service, s.cause())
	}
	if s.now().After(st.notAfter) {
		return nil, fmt.Errorf("%w: the SVID of %s expired at %s: %w",
			ErrNoSVID, s.service, st.notAfter.Format(time.RFC3339), s.cause())
	}
	return st, nil
}

// cause is what last went wrong with the source.
func (s *Source) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lastErr != nil:
		return s.lastErr
	case s.updates > 0:
		return errors.New("the source sent no newer one")
	}
	return errors.New("the source has said nothing yet")
}

// Updated is closed at the next change of the SVID or of any trust bundle, and
// when they are taken back. Ask for it before looking at what it guards.
func (s *Source) Updated() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updated
}

// offer takes a message as the whole new state, if it is a good one.
func (s *Source) offer(message *workload.X509SVIDResponse) {
	st, err := newState(message, s.service, s.now())
	if redacted := (redactedError{}); errors.As(err, &redacted) {
		s.withdraw(err)
		return
	}
	if err != nil {
		s.fail(fmt.Errorf("ignoring a malformed message: %w", err))
		return
	}
	// Nothing below this line can fail.
	s.replace(st, nil)
	s.logger.Info("identity updated", "id", st.id.String(), "serial", st.cert.Leaf.SerialNumber.Text(16),
		"not_after", st.notAfter, "trust_domains", len(st.trust))
	for _, warning := range st.warnings {
		s.logger.Warn("identity: "+warning, "source", s.identity)
	}
}

// withdraw stops using the SVID, because the source says it is not ours.
func (s *Source) withdraw(err error) {
	if s.state.Load() != nil {
		s.replace(nil, err)
	}
	s.fail(err)
}

func (s *Source) replace(st *state, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Store(st)
	s.lastErr = err
	s.updatedAt = s.now()
	if st != nil {
		s.updates++
		s.logged = ""
	}
	close(s.updated)
	s.updated = make(chan struct{})
}

// repeatEvery is how long one and the same failure stays unsaid in the log.
const repeatEvery = time.Minute

// fail announces what went wrong. What is held stays as it is.
func (s *Source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastErr = err
	s.failures++
	if s.updates == 0 && errors.Is(err, ErrNotOurs) {
		return // whoever waits for the first gives up over this, and says so
	}
	now := s.now()
	if err.Error() == s.logged && now.Sub(s.loggedAt) < repeatEvery {
		return
	}
	s.logged, s.loggedAt = err.Error(), now
	s.logger.Warn("identity not updated", "source", s.identity, "error", err.Error())
}
