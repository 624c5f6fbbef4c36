package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
)

// maxSocketPath is what fits in a unix socket's address with its final NUL.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// endpoint is the Workload API on one socket, for one workload.
type endpoint struct {
	d        *Domain
	id       spiffeid.ID
	server   *grpc.Server
	listener *listener

	// Guarded by d.mu.
	svid    *SVID
	renewAt time.Time
	pushed  *workload.X509SVIDResponse // instead of svid, if not nil
	failure error                      // instead of any answer, if not nil
	svids   signal                     // what FetchX509SVID answers is another
	bundles signal                     // what the bundle streams answer is another
}

// Serve opens a Workload API socket for each name, which answers at once, and
// keeps it until [Domain.Stop] or [Domain.Close]. A name that is served already
// is left alone. After an error none of the new ones is served.
func (d *Domain) Serve(names ...string) error {
	var begun []string
	for _, name := range names {
		fresh, err := d.serve(name)
		if err != nil {
			return errors.Join(fmt.Errorf("serving the identity of %q: %w", name, err), d.Stop(begun...))
		}
		if fresh {
			begun = append(begun, name)
		}
	}
	return nil
}

// serve is false for a name that is served already.
func (d *Domain) serve(name string) (fresh bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.claim(); err != nil {
		return false, err
	}
	if d.endpoints[name] != nil {
		return false, nil
	}
	e, err := d.open(name)
	if err != nil {
		return false, err
	}
	d.endpoints[name] = e
	d.owned.Go(e.accept)
	d.opt.Logger.Info("serving identity", "id", e.id.String(), "socket", e.listener.path)
	return true, nil
}

// claim makes us the one process that serves the directory.
func (d *Domain) claim() error {
	if d.closed {
		return errClosed
	}
	if d.serving != nil {
		return nil
	}
	serving, err := lockServing(d.dir)
	if err != nil {
		return err
	}
	d.serving = serving
	d.owned.Go(d.rotateWhenDue)
	return nil
}

// open makes the endpoint of a name, its socket included; d.mu is held.
func (d *Domain) open(name string) (*endpoint, error) {
	id, err := d.ID(name)
	if err != nil {
		return nil, err
	}
	for other, e := range d.endpoints {
		if e.listener.path == d.socketPath(name) {
			return nil, fmt.Errorf("its socket %s is that of %q, for slashes become dots: choose another name", e.listener.path, other)
		}
	}
	e := &endpoint{d: d, id: id, svids: newSignal(), bundles: newSignal()}
	if err := e.renew(); err != nil {
		return nil, err
	}
	if e.listener, err = listen(d.socketPath(name)); err != nil {
		return nil, err
	}
	// Waiting for handlers makes Stop the end of all that we started.
	e.server = grpc.NewServer(grpc.WaitForHandlers(true), grpc.UnaryInterceptor(requireHeader), grpc.StreamInterceptor(requireHeaderOfStream))
	workload.RegisterSpiffeWorkloadAPIServer(e.server, &workloadAPI{e: e})
	return e, nil
}

func (e *endpoint) accept() {
	if err := e.server.Serve(e.listener); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, grpc.ErrServerStopped) {
		e.d.opt.Logger.Error("serving identity ended", "id", e.id.String(), "error", err)
	}
}

// Stop ends the sockets of the names, as an agent's that was killed: clients see
// their streams break and then nobody to connect to. [Domain.Serve] begins anew.
func (d *Domain) Stop(names ...string) error {
	for _, name := range names {
		e, err := d.remove(name)
		if err != nil {
			return err
		}
		e.server.Stop() // not under the lock, which its handlers take
	}
	return nil
}

func (d *Domain) remove(name string) (*endpoint, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.served(name)
	if err != nil {
		return nil, err
	}
	delete(d.endpoints, name)
	// Here and not when the server stops: the socket's file goes with it, and
	// by then there may be the next one's in its place.
	return e, e.listener.Close()
}

// served is the endpoint of a name; d.mu is held.
func (d *Domain) served(name string) (*endpoint, error) {
	if d.closed {
		return nil, errClosed
	}
	e := d.endpoints[name]
	if e == nil {
		return nil, fmt.Errorf("identity %q is not served here", name)
	}
	return e, nil
}

// Socket is the address of name's Workload API, as SPIFFE_ENDPOINT_SOCKET takes
// it (SPIFFE Workload Endpoint section 4), whether or not it is served now.
func (d *Domain) Socket(name string) string { return "unix://" + d.socketPath(name) }

func (d *Domain) socketPath(name string) string {
	return filepath.Join(d.dir, strings.ReplaceAll(name, "/", ".")+socketSuffix)
}

// listener is a unix socket whose connections can be cut.
type listener struct {
	*net.UnixListener
	path string

	mu    sync.Mutex
	conns []net.Conn
}

// listen opens the socket, removing what a killed process left there. That it
// is nobody's is known: the caller holds the directory's serving lock.
func listen(path string) (*listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("its socket %s has %d bytes, and a unix socket may have %d: use a directory with a shorter path, such as one in /tmp", path, len(path), maxSocketPath)
	}
	stat, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case stat.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is in the way and is no socket: remove it", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &listener{UnixListener: l, path: path}, nil
}

// Accept is the next client.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.UnixListener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	return &tracked{Conn: conn, l: l}, nil
}

func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		_ = conn.Close() // it is to break; how is all the same
	}
}

func (l *listener) forget(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = slices.DeleteFunc(l.conns, func(c net.Conn) bool { return c == conn })
}

type tracked struct {
	net.Conn
	l *listener
}

func (t *tracked) Close() error {
	t.l.forget(t.Conn)
	return t.Conn.Close()
}

// signal wakes all who wait for the next change.
type signal struct{ next chan struct{} }

func newSignal() signal { return signal{next: make(chan struct{})} }

func (s *signal) fire() {
	close(s.next)
	s.next = make(chan struct{})
}
