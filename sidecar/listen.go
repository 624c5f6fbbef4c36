package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
)

const socketMode = 0o600

// listen binds host:port, or a unix socket that only this user may use.
func listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return listenUnix(path)
	}
	ln, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another process", address)
	}
	return ln, err
}

// listenUnix binds path. A socket that a dead process left there is replaced; one
// that answers, and anything that is not a socket, is not.
func listenUnix(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// On Linux the socket has its mode before it has its name, so that there is
		// no moment in which others may connect. Elsewhere this does nothing, and
		// the chmod below has to do.
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), socketMode) })
	}}
	ln, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

func removeStale(path string) error {
	stat, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case stat.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there already and is no socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		return errors.Join(fmt.Errorf("%s is in use by another process", path), c.Close())
	}
	return os.Remove(path)
}

// checkIdentity stops at what is plainly a mistake before anything is bound: an
// identity source that is not there.
func (s *Sidecar) checkIdentity() error {
	for _, prefix := range []string{"unix://", "dir://", "dir:"} {
		path, ok := strings.CutPrefix(s.config.Identity, prefix)
		if !ok {
			continue
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("opening the identity: %s is not there (is the SPIRE agent running, and is its directory mounted here?)", path)
		}
		return nil
	}
	return nil
}
