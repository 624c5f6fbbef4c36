package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
)

// fileMode lets the group read: a log is there to be shipped.
const fileMode = 0o640

// sink is where lines go: a file that follows its path through rotations, or a
// plain writer. Only the writer goroutine uses it.
type sink struct {
	path   string // "" where out is a plain writer
	out    io.Writer
	file   *os.File // nil where out is a plain writer
	logger *slog.Logger

	torn   int  // bytes of the first line that the file has already
	failed bool // the last write was not taken
	adrift bool // the path could not be opened, and it was said
}

func openSink(c Config) (*sink, error) {
	if c.Path == "" || c.Path == "-" {
		if c.Writer == nil {
			return nil, errors.New("neither a path nor a writer is given")
		}
		return &sink{out: c.Writer, logger: c.Logger}, nil
	}
	file, err := openFile(c.Path)
	if err != nil {
		return nil, err
	}
	return &sink{path: c.Path, out: file, file: file, logger: c.Logger}, nil
}

// openFile opens path for whole lines at its end. Without O_NONBLOCK a named pipe
// that nobody reads would hold us here for ever.
func openFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, fileMode)
	if err != nil {
		return nil, err
	}
	if endsTorn(path) {
		// A crash left half a line: it must not swallow the first of ours.
		if _, err := file.Write([]byte{'\n'}); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	return file, nil
}

// endsTorn says whether path is a file whose last line has no end. One that may
// be written but not read is taken to be whole.
func endsTorn(path string) bool {
	stat, err := os.Stat(path)
	if err != nil || !stat.Mode().IsRegular() || stat.Size() == 0 {
		return false
	}
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	var last [1]byte
	_, err = file.ReadAt(last[:], stat.Size()-1)
	return err == nil && last[0] != '\n'
}

// write writes whole lines. On an error it returns those not written yet: the
// first of them may be in the file in part, and is then either continued there or
// begun again in another file.
func (s *sink) write(lines []byte) (rest []byte, err error) {
	if err := s.follow(); err != nil {
		return lines, err
	}
	n, err := s.out.Write(lines[s.torn:])
	n += s.torn
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}
	if err != nil {
		whole := bytes.LastIndexByte(lines[:n], '\n') + 1
		s.torn, s.failed = n-whole, true
		return append(lines[:0], lines[whole:]...), err
	}
	s.torn, s.failed = 0, false
	if s.deleted() {
		// The file went away under the write, and the lines with it.
		if err := s.reopen(); err != nil {
			return lines, err
		}
		return s.write(lines)
	}
	return nil, nil
}

// follow reopens the path where it has become another file, or where the last
// write to it failed: what it names may have been mended.
func (s *sink) follow() error {
	if s.file == nil || !s.moved() && !s.failed {
		return nil
	}
	if stat, err := s.file.Stat(); err == nil && stat.Mode().IsRegular() && stat.Size() < int64(s.torn) {
		s.torn = 0 // truncated since: there is nothing to continue
	}
	err := s.reopen()
	switch {
	case err == nil:
		return nil
	case s.deleted():
		return err
	}
	// Renamed, and its directory takes no new file: the old one is still read by
	// somebody, which is better than nothing.
	if !s.adrift {
		s.logger.Warn("audit log is still written to the file that was moved", "err", err)
		s.adrift = true
	}
	return nil
}

// moved says whether the path names another file than the one that is open.
func (s *sink) moved() bool {
	have, err := s.file.Stat()
	if err != nil {
		return true
	}
	want, err := os.Stat(s.path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(have, want)
}

// deleted says whether the open file has no name any more.
func (s *sink) deleted() bool {
	if s.file == nil {
		return false
	}
	stat, err := s.file.Stat()
	if err != nil || !stat.Mode().IsRegular() {
		return err != nil
	}
	sys, ok := stat.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink == 0
}

// reopen opens the path anew, and leaves all as it is where it cannot.
func (s *sink) reopen() error {
	if s.file == nil {
		return nil
	}
	// A line that the present file has in part is continued there; only another
	// file gets the whole of it.
	if s.torn > 0 && !s.moved() {
		return nil
	}
	file, err := openFile(s.path)
	if err != nil {
		return fmt.Errorf("reopening the audit log: %w", err)
	}
	old := s.file
	s.file, s.out, s.torn, s.adrift = file, file, 0, false
	return old.Close()
}

func (s *sink) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
