package live

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lease keeps writers away from f, which is open for reading, until release. The
// kernel gives a read lease only where no process has the file open for writing,
// and lets one that comes later wait until the lease is given back (fcntl(2),
// F_SETLEASE): what is read in between is what some writer left when it was done.
// We hold it for as long as it takes to read a mebibyte.
//
// It is not given on files of other users without CAP_LEASE, and not by every
// file system; that tells nothing.
func lease(f *os.File) (s state, release func()) {
	raw, err := f.SyscallConn()
	if err != nil {
		return unknown, func() {}
	}
	set := func(kind int) (err error) {
		if broken := raw.Control(func(fd uintptr) {
			_, err = unix.FcntlInt(fd, unix.F_SETLEASE, kind)
		}); broken != nil {
			return broken
		}
		return err
	}
	switch err := set(unix.F_RDLCK); {
	case err == nil:
		return written, func() { _ = set(unix.F_UNLCK) } // else it ends with the descriptor
	case errors.Is(err, unix.EAGAIN):
		return writing, func() {}
	}
	return unknown, func() {}
}
