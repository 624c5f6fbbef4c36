package live

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// maxHops bounds a chain of symlinks, as the kernel does.
const maxHops = 40

// watch wakes up when something changes in one of the folders where a change of
// the file would show: its own, and those that its symlinks lead to. The file
// itself is not watched: a rename over it would take the watch away.
type watch struct {
	path    string
	logger  *slog.Logger
	watcher *fsnotify.Watcher // nil: there is none, and the poll is all
	woken   chan struct{}
	done    chan struct{}
	failed  bool // logged already
}

func newWatch(path string, logger *slog.Logger) *watch {
	w := &watch{path: path, logger: logger, woken: make(chan struct{}, 1), done: make(chan struct{})}
	var err error
	if w.watcher, err = fsnotify.NewWatcher(); err != nil {
		w.watcher = nil
		w.failure(err)
		close(w.done)
		return w
	}
	go w.drain()
	return w
}

// drain turns events into one wake-up: what they say is not needed, and the
// kernel's queue must not fill. An overflow of it is a change like any other.
func (w *watch) drain() {
	defer close(w.done)
	for {
		select {
		case _, ok := <-w.watcher.Events:
			if !ok {
				return
			}
		case _, ok := <-w.watcher.Errors:
			if !ok {
				return
			}
		}
		select {
		case w.woken <- struct{}{}:
		default:
		}
	}
}

func (w *watch) changes() <-chan struct{} { return w.woken }

// follow watches the folders where they are now.
func (w *watch) follow() {
	if w.watcher == nil {
		return
	}
	folders := folders(w.path)
	for _, folder := range w.watcher.WatchList() {
		if !slices.Contains(folders, folder) {
			_ = w.watcher.Remove(folder) // it may be gone already
		}
	}
	for _, folder := range folders {
		// A folder that was made anew has to be added anew, even if the list
		// still has one of its name.
		if err := w.watcher.Add(folder); err != nil && !os.IsNotExist(err) {
			w.failure(err)
		}
	}
}

func (w *watch) failure(err error) {
	if w.failed {
		return
	}
	w.failed = true
	w.logger.Warn("policy file cannot be watched, so it is only polled", "file", w.path, "err", err)
}

func (w *watch) close() {
	if w.watcher != nil {
		_ = w.watcher.Close() // nothing is left to do about it
	}
	<-w.done
}

// folders are those in which a change of the file at path would show.
func folders(path string) []string {
	var all []string
	add := func(folder string) {
		if !slices.Contains(all, folder) {
			all = append(all, folder)
		}
	}
	for range maxHops {
		add(filepath.Dir(path))
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	// Folders on the way may be symlinks too, as ..data of a ConfigMap is.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		add(filepath.Dir(real))
	}
	return all
}
