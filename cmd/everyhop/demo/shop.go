package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/everyhop/everyhop/identity/dev"
	"github.com/everyhop/everyhop/sidecar"
)

const (
	home      = "example.org"
	elsewhere = "partner.test"
	svidLife  = time.Hour
	stopTime  = 2 * time.Second // of a sidecar, for requests under way
)

// shop is the three services and all they stand on, in one directory.
type shop struct {
	dir      string
	domain   *dev.Domain // example.org
	partner  *dev.Domain // partner.test, which nobody here federates with
	services map[string]*service
	callers  map[string]caller
	audits   *trail
	logs     *trail
	undo     []func() error // last made last
}

// service is an app and the sidecar beside it.
type service struct {
	app     *app
	sidecar *sidecar.Sidecar
	policy  string // its file
	text    string // what is in it at first
}

// openShop opens everything and waits until it is ready. Where that fails, all of
// it is undone. ctx bounds the wait.
func openShop(ctx context.Context, dir string) (*shop, error) {
	s := &shop{dir: dir, services: map[string]*service{}, audits: newTrail(), logs: newTrail()}
	for _, step := range []func() error{s.openDomains, s.openServices, s.mintCallers} {
		if err := step(); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *shop) close() error {
	var faults []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		faults = append(faults, s.undo[i]())
	}
	s.undo = nil
	return errors.Join(faults...)
}

func (s *shop) later(undo func() error) { s.undo = append(s.undo, undo) }

// openDomains makes the two trust domains, and the sockets that hand out the
// services' identities.
func (s *shop) openDomains() error {
	open := func(name string) (*dev.Domain, error) {
		d, err := dev.Open(filepath.Join(s.dir, name), dev.Options{
			TrustDomain: name,
			TTL:         svidLife,
			// For curl: it knows host names, and would have to be told to trust
			// anyone. Sidecars look at the SPIFFE ID alone.
			DNSNames: []string{"localhost"},
		})
		if err == nil {
			s.later(d.Close)
		}
		return d, err
	}
	var err error
	if s.domain, err = open(home); err != nil {
		return err
	}
	if s.partner, err = open(elsewhere); err != nil {
		return err
	}
	return s.domain.Serve("web", "orders", "billing")
}

// openServices makes the sidecars in the order in which they call each other, for
// a policy holds the addresses of those that are called.
func (s *shop) openServices() error {
	for _, name := range []string{"orders", "billing", "web"} {
		if err := s.openService(name); err != nil {
			return fmt.Errorf("the service %s: %w", name, err)
		}
	}
	return nil
}

func (s *shop) openService(name string) error {
	a, err := openApp(name)
	if err != nil {
		return err
	}
	s.later(a.close)
	v := &service{app: a, policy: s.path(name + ".yaml")}
	s.services[name] = v
	config, err := s.config(name)
	if err != nil {
		return err
	}
	// A port that was free is sometimes gone by the time that it is opened.
	for range 10 {
		if err = s.openSidecar(v, config); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return err
}

// openSidecar makes the sidecar of v, with a policy of its own free ports.
func (s *shop) openSidecar(v *service, config sidecar.Config) error {
	var ports reservation
	v.text = s.policyText(v.app, ports.free)
	if err := errors.Join(replaceFile(v.policy, v.text), ports.release()); err != nil {
		return err
	}
	made, err := sidecar.New(config)
	if err != nil {
		return err
	}
	v.sidecar = made
	s.later(func() error { return made.Stop(context.Background()) })
	return nil
}

// config is what `everyhop run` would be told by flags.
func (s *shop) config(name string) (sidecar.Config, error) {
	records, err := s.open(s.auditFile(name))
	if err != nil {
		return sidecar.Config{}, err
	}
	logs, err := s.open(s.path("sidecars.log"))
	if err != nil {
		return sidecar.Config{}, err
	}
	return sidecar.Config{
		PolicyFile:  s.services[name].policy,
		Identity:    s.domain.Socket(name),
		Inbound:     "127.0.0.1:0",
		Admin:       "127.0.0.1:0",
		AuditWriter: io.MultiWriter(records, s.audits),
		Drain:       stopTime,
		Logger:      slog.New(slog.NewJSONHandler(io.MultiWriter(logs, s.logs), nil)),
		Version:     "demo",
	}, nil
}

func (s *shop) path(name string) string { return filepath.Join(s.dir, name) }

func (s *shop) auditFile(service string) string { return s.path(service + ".audit.jsonl") }

func (s *shop) open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		s.later(f.Close)
	}
	return f, err
}

// start starts the sidecars side by side, and returns when all are ready.
func (s *shop) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	faults := make(chan error, len(s.services))
	for _, v := range s.services {
		go func() { faults <- v.sidecar.Start(ctx) }()
	}
	var err error
	for range s.services {
		err = errors.Join(err, <-faults)
	}
	return err
}

// addr is a listener of a service's sidecar: "inbound", "admin", or a call.
func (s *shop) addr(service, listener string) (string, error) {
	at := s.services[service].sidecar.Addr(listener)
	if at == nil {
		return "", fmt.Errorf("the sidecar of %s has no listener %q", service, listener)
	}
	return at.String(), nil
}

// port is that listener's port, for a URL with a host name.
func (s *shop) port(service, listener string) (string, error) {
	at, err := s.addr(service, listener)
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(at)
	return port, err
}

// served is how many requests have reached an app.
func (s *shop) served() (n int64) {
	for _, v := range s.services {
		n += v.app.served.Load()
	}
	return n
}

// replaceFile writes a file as editors do, so that no reader sees half of it.
func replaceFile(path, text string) error {
	next := path + ".new"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
