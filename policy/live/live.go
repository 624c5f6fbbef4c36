// Package live keeps the policy in use the same as the policy in the file.
//
// [Open] reads the first one and fails if it is not good. [File.Run] follows the
// file after that: it watches the folders in which a change could show, and reads
// the file itself now and then in case the watch missed one. A file that cannot
// be read or is not good changes nothing: the last good policy stays, and the
// mistake is logged once and kept for [File.Status].
//
// A file that is being written is left alone: half a policy can be a good one,
// with fewer grants than it will have, or without its ban. On Linux the kernel
// is asked whether any process has the file open for writing, so that a writer
// may take as long as it likes. Where it cannot be asked (the file belongs to
// another user, or the file system has no leases), the content must have been the
// same for a second; so write elsewhere and rename, as editors, ConfigMaps and
// configuration tools do.
//
// The zero File denies all.
package live

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/file"
)

// DefaultPoll is how often the file is read where no change was seen.
const DefaultPoll = 5 * time.Second

// Config is what a File is opened with.
type Config struct {
	Path   string           // of the policy file, or of a symlink to it
	Logger *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now
	Poll   time.Duration    // how often to read it in any case; 0: DefaultPoll
	// OnChange is called with a policy after it came into use: by Run only, one
	// at a time and in order. One that another overtook is left out. It is not
	// called for the first.
	OnChange func(*policy.Snapshot)
}

// File is a policy file that is followed. Its methods are safe for concurrent
// use, and Run is called once.
type File struct {
	config    Config
	snapshot  atomic.Pointer[policy.Snapshot]
	status    atomic.Pointer[Status]
	lease     func(*os.File) (state, func())
	reloaded  chan struct{} // Reload changed the snapshot: Run is to say so
	announced *policy.Snapshot

	mu   sync.Mutex // one load at a time
	told string     // the mistake that was logged last, empty after a good load
}

// Status is how the file and the policy in use stand to one another.
type Status struct {
	Generation uint64    // of the policy in use
	Digest     string    // of the policy in use
	LoadedAt   time.Time // when it came into use
	// LastError is why what is in the file is not in use, nil where it is: a
	// [policy.Problems], or an error of reading.
	LastError      error
	LastErrorSince time.Time // when the policy in use was first not what is in the file
}

// Open reads the policy for the first time. The error is of type
// [policy.Problems] where the file can be read.
func Open(c Config) (*File, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Poll <= 0 {
		c.Poll = DefaultPoll
	}
	f := &File{config: c, lease: lease, reloaded: make(chan struct{}, 1)}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	f.announced = f.Snapshot()
	<-f.reloaded
	return f, nil
}

// Snapshot is the policy in use. It is never nil.
func (f *File) Snapshot() *policy.Snapshot {
	if s := f.snapshot.Load(); s != nil {
		return s
	}
	return &policy.Snapshot{}
}

// Status is how the file and the policy in use stand to one another.
func (f *File) Status() Status {
	if s := f.status.Load(); s != nil {
		return *s
	}
	return Status{}
}

// Reload reads the file now, for one who knows that it is complete: it waits for
// nothing, except that a file which is open for writing is refused. The error
// says why the policy in use stays.
func (f *File) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, state, err := read(f.config.Path, f.lease)
	if err == nil && state == writing {
		err = f.stillWritten()
	}
	if err == nil {
		err = f.load(text)
	}
	if err != nil {
		f.keep(err)
	}
	return err
}

func (f *File) stillWritten() error {
	return fmt.Errorf("reading policy %q: a process has it open for writing: let it finish, or write elsewhere and rename", f.config.Path)
}

// load makes the policy in text the one in use. All that can fail comes first.
func (f *File) load(text []byte) error {
	was := f.snapshot.Load()
	if was != nil && was.Digest == digest(text) {
		f.good(was)
		return nil
	}
	spec, err := file.Parse(f.config.Path, text)
	if err != nil {
		return err
	}
	next, err := policy.Compile(spec, was)
	if err != nil {
		return err
	}
	if was != nil && was.Service != next.Service {
		return fmt.Errorf("reading policy %q: service: changed from %s to %s: restart to become another service",
			f.config.Path, was.Service, next.Service)
	}
	// Nothing after this line may fail.
	f.snapshot.Store(next)
	f.status.Store(&Status{Generation: next.Generation, Digest: next.Digest, LoadedAt: f.config.Now()})
	f.told = ""
	if was != nil { // the first is for whoever opened the file to announce
		f.config.Logger.Info("policy loaded", "file", f.config.Path, "generation", next.Generation, "digest", next.Digest)
	}
	select {
	case f.reloaded <- struct{}{}:
	default:
	}
	return nil
}

// good notes that the file holds the policy in use, whatever it held in between.
func (f *File) good(s *policy.Snapshot) {
	if f.told == "" {
		return
	}
	f.told = ""
	status := f.Status()
	status.LastError, status.LastErrorSince = nil, time.Time{}
	f.status.Store(&status)
	f.config.Logger.Info("policy file is good again", "file", f.config.Path, "generation", s.Generation, "digest", s.Digest)
}

// keep notes why the policy in use stays. The same mistake is told once.
func (f *File) keep(err error) {
	if f.told == err.Error() {
		return
	}
	f.told = err.Error()
	status := f.Status()
	if status.LastError == nil {
		status.LastErrorSince = f.config.Now()
	}
	status.LastError = err
	f.status.Store(&status)
	if f.snapshot.Load() == nil {
		return // Open returns it
	}
	logger := f.config.Logger.With("file", f.config.Path, "generation", status.Generation, "digest", status.Digest)
	var problems policy.Problems
	if !errors.As(err, &problems) {
		logger.Error("policy not loaded, the last good one stays", "err", err)
		return
	}
	logger.Error("policy not loaded, the last good one stays", "problems", len(problems))
	for _, p := range problems {
		logger.Error("policy problem", "problem", p.Error())
	}
}

// announce says that the policy in use changed.
func (f *File) announce() {
	s := f.Snapshot()
	if s == f.announced {
		return
	}
	f.announced = s
	if f.config.OnChange != nil {
		f.config.OnChange(s)
	}
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Run follows the file until ctx ends. It returns nil.
func (f *File) Run(ctx context.Context) error {
	w := newWatch(f.config.Path, f.config.Logger)
	defer w.close()
	poll := time.NewTicker(f.config.Poll)
	defer poll.Stop()
	look := time.NewTimer(0) // it may have changed since Open
	defer look.Stop()
	looking, o := true, observer{file: f}
	for {
		change := false
		select {
		case <-ctx.Done():
			return nil
		case <-f.reloaded:
			f.announce()
			continue
		case <-w.changes():
			change = true
		case <-look.C:
			looking = false
		case <-poll.C:
		}
		// A change is waited for to be over, but not for the folder to be quiet:
		// in one where others write all the time it never would be.
		if again := change || o.observe(w); again && !looking {
			looking = true
			look.Reset(settle)
		}
	}
}
