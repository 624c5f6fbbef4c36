package sidecar

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/everyhop/everyhop/sidecar/listener"
)

const socketMode = 0o600 // only our own user

// listen binds host:port, or a unix socket that only this user may use.
func listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return listener.Bind("unix", path, socketMode)
	}
	return listener.Bind("tcp", address, 0)
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
