package live

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/everyhop/everyhop/policy/file"
)

// state is whether a file is being written. The zero state is that nobody can
// tell.
type state uint8

const (
	unknown state = iota
	written       // no process had it open for writing while it was read
	writing       // a process has
)

// read is the content of a regular file of at most [file.MaxSize] bytes. It never
// blocks: not on a FIFO that nobody writes, and not on a device.
func read(path string, lease func(*os.File) (state, func())) (text []byte, s state, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unknown, fmt.Errorf("reading policy %q: %w", path, cause(err))
	}
	defer func() { _ = f.Close() }() // nothing was written, and nothing is left to do
	before, err := f.Stat()
	switch {
	case err != nil:
		return nil, unknown, fmt.Errorf("reading policy %q: %w", path, cause(err))
	case !before.Mode().IsRegular():
		return nil, unknown, fmt.Errorf("reading policy %q: it is %s, and not a file", path, kind(before.Mode()))
	case before.Size() > file.MaxSize:
		return nil, unknown, fmt.Errorf("reading policy %q: it has %d bytes, which is more than 1 MiB", path, before.Size())
	}
	s, release := lease(f)
	defer release()
	if s == writing {
		return nil, writing, nil
	}
	text, err = io.ReadAll(io.LimitReader(f, file.MaxSize+1))
	if err != nil {
		return nil, unknown, fmt.Errorf("reading policy %q: %w", path, cause(err))
	}
	// Without a lease a writer may have come and gone: that shows in the times.
	after, err := f.Stat()
	if err != nil || after.Size() != int64(len(text)) || !after.ModTime().Equal(before.ModTime()) {
		return text, writing, nil
	}
	return text, s, nil
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "something special"
}

// cause is the reason in a file error, whose path is said already.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
