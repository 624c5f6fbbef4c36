// Package sidecar wires the rooms into one running sidecar: policy, identity,
// audit log, the two hops, and the admin listener beside them.
//
// [New] reads the policy and binds every address, or leaves nothing behind.
// [Sidecar.Start] serves, and waits until the sidecar is who the policy says it
// must be. [Sidecar.Stop] drains and tears down in reverse order. The zero Config
// names no policy, so New refuses it.
package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/identity/svid"
	"github.com/everyhop/everyhop/inbound"
	"github.com/everyhop/everyhop/outbound"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/live"
	"github.com/everyhop/everyhop/sidecar/audit"
)

// Where a sidecar listens if nothing else is said.
const (
	DefaultInbound = ":8443"
	DefaultAdmin   = "127.0.0.1:15000"
	DefaultDrain   = 30 * time.Second
)

// NoAllows is the Config.AuditAllows that records no allowed request.
const NoAllows = audit.NoAllows

// Config is everything a sidecar is told by the outside world. An address is
// host:port or unix:///path.
type Config struct {
	PolicyFile string
	Identity   string // unix:///path of a Workload API, or dir:/path
	Inbound    string // DefaultInbound if empty; not opened where the policy has no app:
	Admin      string // DefaultAdmin if empty

	Audit          string    // the file to append to; "" or "-": AuditWriter
	AuditWriter    io.Writer // where audit records go without a file
	AuditOnFailure string    // "refuse" if empty, or "count"
	AuditPaths     bool      // record paths as received, not only route templates
	AuditAllows    float64   // the share of allowed requests recorded; 0 is all, as 1 is

	Drain   time.Duration // how long Stop lets requests finish; DefaultDrain if zero
	Poll    time.Duration // how often the policy is looked at besides its events; live's own if zero
	Logger  *slog.Logger  // discards if nil
	Version string
	Now     func() time.Time // time.Now if nil

	// InboundListener and AdminListener are used instead of binding Inbound and
	// Admin: for tests, and for sockets that systemd opened. New owns them, and
	// closes them where it fails.
	InboundListener net.Listener
	AdminListener   net.Listener
}

// Sidecar is one running sidecar. Its methods are safe for concurrent use.
type Sidecar struct {
	config   Config
	logger   *slog.Logger
	registry *prometheus.Registry

	file     *live.File
	identity *svid.Source
	audit    *audit.Log
	inbound  *inbound.Server // nil where the policy has no app
	outbound *outbound.Server
	admin    *admin

	inboundListener net.Listener
	adopted         adopted

	teardown  teardown
	life      context.Context // ends when Stop begins
	end       context.CancelFunc
	loops     sync.WaitGroup
	failed    chan error // what ended a loop that should have gone on
	phase     atomic.Int32
	starting  sync.Mutex // held by Start while it may add loops
	stopOnce  sync.Once
	stopped   chan struct{}
	stopError error
}

// New reads the policy, opens the audit log and binds every address. Where any of
// it fails, all of it is undone. A policy that cannot be used is an error that
// wraps [policy.Problems]. Nothing is served before Start.
func New(config Config) (*Sidecar, error) {
	setDefaults(&config)
	s := &Sidecar{
		config:   config,
		logger:   config.Logger,
		registry: prometheus.NewRegistry(),
		failed:   make(chan error, 8),
		stopped:  make(chan struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	if err := s.wire(); err != nil {
		// The reason is the error; that undoing works is shown by Stop's tests.
		return nil, errors.Join(err, s.Stop(context.Background()))
	}
	return s, nil
}

func setDefaults(c *Config) {
	if c.Inbound == "" {
		c.Inbound = DefaultInbound
	}
	if c.Admin == "" {
		c.Admin = DefaultAdmin
	}
	if c.AuditOnFailure == "" {
		c.AuditOnFailure = "refuse"
	}
	if c.Drain <= 0 {
		c.Drain = DefaultDrain
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// wire makes every part, in the order in which they need each other. What is torn
// down last comes first: the admin listener answers through the whole drain.
func (s *Sidecar) wire() error {
	// Listeners that were handed over are ours to close, however far we come.
	if ln := s.config.InboundListener; ln != nil {
		s.teardown.add("closing the inbound listener", func(context.Context) error { return closeListener(ln) })
	}
	if ln := s.config.AdminListener; ln != nil {
		s.teardown.add("closing the admin listener", func(context.Context) error { return closeListener(ln) })
	}
	for _, step := range []func() error{
		s.openPolicy, s.checkIdentity, s.bindAdmin, s.openAudit, s.openIdentity, s.openOutbound, s.openInbound, s.registerMetrics,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sidecar) openPolicy() error {
	file, err := live.Open(live.Config{
		Path:     s.config.PolicyFile,
		Logger:   s.logger,
		Now:      s.config.Now,
		Poll:     s.config.Poll,
		OnChange: func(*policy.Snapshot) { s.adopt() },
	})
	if err != nil {
		return err
	}
	s.file = file
	s.adopted.snapshot.Store(file.Snapshot())
	return nil
}

func (s *Sidecar) openAudit() error {
	onFailure, err := audit.ParseOnFailure(s.config.AuditOnFailure)
	if err != nil {
		return fmt.Errorf("opening the audit log: on failure: %w", err)
	}
	s.audit, err = audit.Open(audit.Config{
		Path:        s.config.Audit,
		Writer:      s.config.AuditWriter,
		OnFailure:   onFailure,
		Registerer:  s.registry,
		AllowSample: s.config.AuditAllows,
		Paths:       s.config.AuditPaths,
		Now:         s.config.Now,
		Logger:      s.logger,
	})
	if err != nil {
		return err
	}
	s.audit.Resolve(s.Policy())
	s.teardown.add("closing the audit log", func(context.Context) error { return s.audit.Close() })
	return nil
}

func (s *Sidecar) openIdentity() error {
	// Not until life ends, but until Close: a drain still needs its handshakes.
	source, err := svid.Open(context.Background(), svid.Config{
		Identity: s.config.Identity,
		Service:  s.Policy().Service,
		Named:    func(td spiffeid.TrustDomain) bool { return s.Policy().NamesTrustDomain(td) },
		Logger:   s.logger,
		Now:      s.config.Now,
	})
	if err != nil {
		return err
	}
	s.identity = source
	s.teardown.add("closing the identity", func(context.Context) error { return source.Close() })
	return nil
}

func (s *Sidecar) openInbound() error {
	if s.Policy().App == nil {
		return nil
	}
	server, err := inbound.New(inbound.Config{
		Policy:  s.Policy,
		TLS:     s.serverTLS(),
		Audit:   s.audit,
		Now:     s.config.Now,
		Logger:  s.logger,
		PeerOf:  svid.PeerOf,
		Recheck: s.identity.Recheck,
		Held:    s.identity.Held,
	})
	if err != nil {
		return err
	}
	ln := s.config.InboundListener
	if ln == nil {
		if ln, err = listen(s.config.Inbound); err != nil {
			return fmt.Errorf("opening the inbound listener: %w (try --inbound with another address)", err)
		}
		s.teardown.add("closing the inbound listener", func(context.Context) error { return closeListener(ln) })
	}
	s.inbound, s.inboundListener = server, ln
	s.teardown.add("draining inbound", s.drained("inbound", server.Stop))
	return nil
}

func (s *Sidecar) openOutbound() error {
	server, err := outbound.New(outbound.Config{
		Policy:  s.Policy,
		TLS:     s.clientTLS,
		Bytes:   s.bytesTLS,
		Recheck: s.identity.Recheck,
		Audit:   s.audit,
		Now:     s.config.Now,
		Logger:  s.logger,
	})
	if err != nil {
		return err
	}
	s.outbound = server
	s.teardown.add("draining outbound", s.drained("outbound", server.Stop))
	return server.Apply(s.Policy())
}

// serverTLS follows the policy's tls: from one handshake to the next.
func (s *Sidecar) serverTLS() *tls.Config {
	current := func() *tls.Config {
		p := s.Policy()
		alpn := p.TLS.ALPN
		if p.App != nil && p.App.Kind == policy.AppTCP {
			alpn = bytesALPN
		}
		return s.identity.ServerConfig(alpn, p.TLS.RequirePQ)
	}
	config := current()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return current(), nil }
	return config
}

func (s *Sidecar) clientTLS(expected spiffeid.ID) *tls.Config {
	t := s.Policy().TLS
	return s.identity.ClientConfig(expected, t.ALPN, t.RequirePQ)
}

// bytesALPN is what is spoken where the app or the call is of bytes.
var bytesALPN = []string{policy.ProtoTCP}

func (s *Sidecar) bytesTLS(expected spiffeid.ID) *tls.Config {
	return s.identity.ClientConfig(expected, bytesALPN, s.Policy().TLS.RequirePQ)
}

// recheck ends what has been open until now and is not allowed any more by what has
// just changed.
func (s *Sidecar) recheck() {
	s.outbound.Recheck()
	if s.inbound != nil {
		s.inbound.Recheck()
	}
}

// Policy is the snapshot in use. It is never nil.
func (s *Sidecar) Policy() *policy.Snapshot { return s.adopted.snapshot.Load() }

// Addr is where the listener of that name is bound: "inbound", "admin", or the
// name of a call. It is nil where there is none.
func (s *Sidecar) Addr(name string) net.Addr {
	switch {
	case name == "admin":
		return s.admin.listener.Addr()
	case name != "inbound":
		return s.outbound.Addr(name)
	case s.inboundListener != nil:
		return s.inboundListener.Addr()
	}
	return nil
}

// Reload reads the policy again, whatever the watcher saw, and reopens the audit
// log: what SIGHUP asks for.
func (s *Sidecar) Reload() error {
	return errors.Join(s.reloadPolicy(), s.audit.Reopen())
}

func closeListener(ln net.Listener) error {
	if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
