package listener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Bind opens network ("tcp" or "unix") at address. A unix socket gets mode: it has
// it before anyone can connect where the system allows that. One that a dead
// process left is replaced; one that answers, and a file that is no socket, is
// somebody else's and an error.
func Bind(network, address string, mode fs.FileMode) (net.Listener, error) {
	if network == "unix" {
		return bindUnix(address, mode)
	}
	ln, err := net.Listen(network, address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another process", address)
	}
	return ln, err
}

func bindUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// On Linux the socket has its mode before it has its name, so that there is
		// no moment in which others may connect. Elsewhere this does nothing, and
		// the chmod below has to do.
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
	}}
	ln, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
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
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("%s is in use by another process", path), c.Close())
	case !errors.Is(err, syscall.ECONNREFUSED): // we cannot tell whether it answers
		return err
	}
	return os.Remove(path)
}
