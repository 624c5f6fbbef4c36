package hop

import (
	"context"
	"io"
	"net"
	"sync"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/forward"
)

// Tunnels are the connections of bytes of one direction. It owns the goroutine
// of each until Stop has returned.
type Tunnels struct {
	config Config
	writer func(net.Conn) io.Writer

	mu      sync.Mutex // guards what follows
	open    map[*Tunnel]struct{}
	stopped bool
	running sync.WaitGroup
}

// NewTunnels are none yet. writer is what to write to in a connection's place;
// nil: the connection.
func NewTunnels(config Config, writer func(net.Conn) io.Writer) *Tunnels {
	return &Tunnels{config: config, writer: writer, open: make(map[*Tunnel]struct{})}
}

// Serve takes c over: way goes all its way in a goroutine, and the record is
// written when it returns. After Stop the connection is reset.
func (s *Tunnels) Serve(c net.Conn, way func(*Tunnel)) {
	x := s.newTunnel(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		x.kill()
		forward.Cut(c)
		return
	}
	s.open[x] = struct{}{}
	s.config.Leases.Begin(&x.lease, x)
	s.running.Go(func() { s.run(x, way) })
}

func (s *Tunnels) run(x *Tunnel, way func(*Tunnel)) {
	defer s.forget(x)
	defer x.end()
	way(x)
}

func (s *Tunnels) forget(x *Tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, x)
}

// Count is how many tunnels there are.
func (s *Tunnels) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// all are the tunnels of this moment: judging them takes its time, and no lock.
func (s *Tunnels) all() []*Tunnel {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Tunnel, 0, len(s.open))
	for x := range s.open {
		all = append(all, x)
	}
	return all
}

// Stop takes no more connections, and waits for those that there are until ctx
// ends; then they are cut, and the error is that of ctx. It may be called again.
func (s *Tunnels) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { defer close(done); s.running.Wait() }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	left := s.all()
	for _, x := range left {
		x.Cut(policy.Stopped)
	}
	<-done
	if len(left) == 0 {
		return nil
	}
	return ctx.Err()
}

// Split is ln without the connections that take took.
func Split(ln net.Listener, take func(net.Conn) bool) net.Listener {
	return &split{ln, take}
}

type split struct {
	net.Listener
	take func(net.Conn) bool
}

func (s *split) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil || !s.take(c) {
			return c, err
		}
	}
}
