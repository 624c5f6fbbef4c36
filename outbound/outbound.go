// Package outbound is the hop away from the local app: it speaks plain HTTP/1.1,
// or HTTP/2 with prior knowledge, to a local port of each declared call, and
// mutual TLS to whoever the call says must answer.
//
// The peer is sent the call's own address as Host, whatever the app said: the
// local port has no name of the peer's. A connection is kept only for the call,
// the expected SPIFFE ID and the addresses it was made for. The zero Config is
// refused by New, and without a policy no port is open.
package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/audit"
	"github.com/everyhop/everyhop/sidecar/hop"
	"github.com/everyhop/everyhop/sidecar/lease"
	"github.com/everyhop/everyhop/sidecar/wire"
)

// Config is what a [Server] is given.
type Config struct {
	// Policy is the snapshot to judge by; it is asked once for each request.
	Policy func() *policy.Snapshot
	// TLS is how the peer with this SPIFFE ID, and no other, is spoken to.
	TLS func(expected spiffeid.ID) *tls.Config
	// Bytes is the same for calls of bytes. Nil: they reach nobody.
	Bytes func(expected spiffeid.ID) *tls.Config
	// Recheck is nil while the peer of an open connection would still be accepted.
	// Nil: it is not asked.
	Recheck func(tls.ConnectionState) error
	Audit   *audit.Log
	Now     func() time.Time // time.Now if nil
	Logger  *slog.Logger     // discards if nil
}

// Server serves the local ports of the policy's calls. Its methods are safe for
// concurrent use.
type Server struct {
	config  Config
	hop     hop.Config
	peers   peers
	links   *links
	tunnels *hop.Tunnels
	sockets hop.Sockets

	mu      sync.Mutex // guards what follows
	ports   map[portKey]*port
	serving bool
	stopped bool

	closing sync.WaitGroup  // ports that a policy change closed
	life    context.Context // of those
	cut     context.CancelFunc
	failed  chan error    // why a port stopped that should not have
	end     chan struct{} // closed by Stop
}

// New makes a server. It opens nothing until Apply.
func New(config Config) (*Server, error) {
	if config.Policy == nil || config.TLS == nil || config.Audit == nil {
		return nil, errors.New("making the outbound hop: it needs a policy, TLS configurations and an audit log")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	life, cut := context.WithCancel(context.Background())
	s := &Server{
		life:   life,
		cut:    cut,
		config: config,
		ports:  make(map[portKey]*port),
		failed: make(chan error, 1),
		end:    make(chan struct{}),
	}
	s.links = newLinks(&s.config)
	s.peers = peers{tls: config.TLS, now: config.Now, links: s.links}
	s.hop = hop.Config{
		Direction: audit.Outbound, Audit: config.Audit, Logger: config.Logger, Now: config.Now,
		Policy: config.Policy, Judge: s.judge, Leases: lease.NewBook(lease.Config{Now: config.Now}), Sockets: &s.sockets,
	}
	s.tunnels = hop.NewTunnels(s.hop, wire.WriterOf)
	return s, nil
}

// Apply opens the local ports that the snapshot's calls have and closes those
// they no longer have, which finish what they carry. Where one cannot be opened
// nothing changes. The snapshot is not kept: requests are judged by what
// Config.Policy says.
func (s *Server) Apply(snapshot *policy.Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("applying the policy to the outbound hop: it is stopped")
	}
	wanted, err := wantedPorts(snapshot)
	if err != nil {
		return err
	}
	opened, err := s.open(wanted, snapshot)
	if err != nil {
		return err
	}
	// Nothing below this line may fail.
	for key, p := range s.ports {
		if _, still := wanted[key]; !still {
			delete(s.ports, key)
			s.retire(p)
		}
	}
	for key, p := range opened {
		s.ports[key] = p
		if s.serving {
			p.start()
		}
	}
	s.peers.keep(snapshot)
	return nil
}

// open opens those of the wanted ports that are not open yet: all of them or none.
func (s *Server) open(wanted map[portKey]*policy.CallRule, snapshot *policy.Snapshot) (map[portKey]*port, error) {
	opened := make(map[portKey]*port)
	var faults []error
	for key, call := range wanted {
		if _, open := s.ports[key]; open {
			continue
		}
		p, err := s.openPort(key, snapshot.Timeouts)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: opening the local port of call %s: %w", call.Local.Pos, call.Name, err))
			continue
		}
		opened[key] = p
	}
	if len(faults) == 0 {
		return opened, nil
	}
	for _, p := range opened {
		_ = p.listener.Close() // it was never served; the faults are what matters
	}
	return nil, errors.Join(faults...)
}

// retireTime is how long a port that the policy has closed may finish requests.
const retireTime = 30 * time.Second

func (s *Server) retire(p *port) {
	s.closing.Go(func() {
		ctx, cancel := context.WithTimeout(s.life, retireTime)
		defer cancel()
		if err := p.stop(ctx); err != nil {
			s.config.Logger.Warn("a local port was closed with requests under way", "address", p.listener.Addr().String(), "err", err)
		}
	})
}

// Serve serves the ports that Apply opened and those it will open, until Stop,
// and then returns nil. Before it, connections wait.
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.serving {
		s.mu.Unlock()
		return errors.New("serving outbound: it is served already")
	}
	s.serving = true
	for _, p := range s.ports {
		p.start()
	}
	s.mu.Unlock()
	select {
	case err := <-s.failed:
		return err
	case <-s.end:
		return nil
	}
}

// Addr is where the call of that name is served, nil if it has no local port.
func (s *Server) Addr(call string) net.Addr {
	rule := s.config.Policy().Call(call)
	if rule == nil || rule.Local == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports[keyOf(rule)]; p != nil {
		return p.listener.Addr()
	}
	return nil
}

// Refresh makes new requests use new connections, which show the SVID of now.
// Requests under way end on the connections they are on.
func (s *Server) Refresh() { s.peers.refresh() }

// Stop closes all ports, and waits for what is under way until ctx ends; then it
// is cut. It may be called again.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	ports := s.ports
	s.ports = nil
	if !s.stopped {
		s.stopped = true
		close(s.end)
	}
	s.mu.Unlock()
	rest := s.sockets.Drain(ctx)
	defer rest()
	faults := make(chan error, len(ports))
	for _, p := range ports {
		go func() { faults <- p.stop(ctx) }()
	}
	var err error
	for range ports {
		err = errors.Join(err, <-faults)
	}
	err = errors.Join(err, s.tunnels.Stop(ctx))
	stop := context.AfterFunc(ctx, s.cut)
	s.closing.Wait()
	stop()
	s.cut()
	s.peers.close()
	return err
}
