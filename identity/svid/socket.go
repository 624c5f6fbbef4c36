package svid

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// checkDirectories refuses a socket that any local user could replace: one below
// a directory that is world-writable without the sticky bit. What is not there
// yet is no error. A socket that another user owns is normal.
func checkDirectories(path string) error {
	paths := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		paths = append(paths, real)
	}
	for _, p := range paths {
		for dir := filepath.Dir(p); ; dir = filepath.Dir(dir) {
			if err := checkDirectory(dir); err != nil {
				return err
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}

func checkDirectory(dir string) error {
	at, err := os.Stat(dir)
	if err != nil {
		return nil // connecting will say what is wrong
	}
	if at.Mode().Perm()&0o002 != 0 && at.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("anyone may replace the socket: %s is world-writable without the sticky bit (chmod o-w %s)", dir, dir)
	}
	return nil
}

// explainDial says in a person's words why a Workload API could not be reached.
func explainDial(path string, err error) error {
	const running = "is the SPIRE agent running?"
	at, statErr := os.Stat(path)
	switch {
	case errors.Is(statErr, fs.ErrNotExist):
		return fmt.Errorf("the Workload API socket %s is not there (%s is its directory mounted here?)", path, running)
	case statErr == nil && at.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is no socket (name the agent's socket, not its directory or a file)", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens on the Workload API socket %s (%s)", path, running)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("connecting to the Workload API socket %s: permission denied"+
			" (let this user search its directories and write to it)", path)
	}
	return fmt.Errorf("connecting to the Workload API socket %s: %w", path, err)
}
