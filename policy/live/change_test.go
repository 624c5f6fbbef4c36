package live

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The ways in which people and tools change a file. Each makes the policy named
// second the one in the file.
func TestRun_PicksUpEveryWayOfChangingAFile(t *testing.T) {
	second := text("second")
	for _, c := range []struct {
		name   string
		change func(t *testing.T, path string)
	}{
		{"written in place", func(t *testing.T, path string) { write(t, path, second) }},
		{"renamed over it", func(t *testing.T, path string) {
			write(t, path+".new", second)
			must(t, os.Rename(path+".new", path))
		}},
		{"renamed from another folder", func(t *testing.T, path string) {
			from := filepath.Join(t.TempDir(), "policy.yaml")
			write(t, from, second)
			must(t, os.Rename(from, path))
		}},
		{"deleted and made anew", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			write(t, path, second)
		}},
		{"as vim saves", func(t *testing.T, path string) {
			must(t, os.Rename(path, path+"~"))
			write(t, path, second)
			must(t, os.Remove(path+"~"))
		}},
		{"sed -i", func(t *testing.T, path string) { run(t, "sed", "-i", "s/first/second/g", path) }},
		{"cp", func(t *testing.T, path string) {
			from := filepath.Join(t.TempDir(), "policy.yaml")
			write(t, from, second)
			run(t, "cp", from, path)
		}},
		{"a hard link", func(t *testing.T, path string) {
			write(t, path+".new", second)
			must(t, os.Remove(path), os.Link(path+".new", path))
		}},
		{"a symlink in its place", func(t *testing.T, path string) {
			from := filepath.Join(t.TempDir(), "other.yaml")
			write(t, from, second)
			run(t, "ln", "-sfn", from, path)
		}},
		{"with its old time", func(t *testing.T, path string) {
			was, err := os.Stat(path)
			must(t, err)
			write(t, path+".new", second)
			must(t, os.Chtimes(path+".new", was.ModTime(), was.ModTime()), os.Rename(path+".new", path))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t)
			c.change(t, f.path)
			f.wants("second")
		})
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// As Kubernetes does it: the file is a symlink into ..data, which is a symlink to
// a folder that is replaced.
func TestRun_FollowsAConfigMap(t *testing.T) {
	folder := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{folder}, parts...)...) }
	put := func(version, text string) {
		must(t, os.Mkdir(at(version), 0o755))
		write(t, at(version, "policy.yaml"), text)
		must(t, os.Symlink(version, at("..data_tmp")), os.Rename(at("..data_tmp"), at("..data")))
	}
	put("..1", text("first"))
	must(t, os.Symlink(filepath.Join("..data", "policy.yaml"), at("policy.yaml")))
	f := follow(t, at("policy.yaml"), slowPoll)
	put("..2", text("second"))
	must(t, os.RemoveAll(at("..1")))
	f.wants("second")
	put("..3", text("third"))
	must(t, os.RemoveAll(at("..2")))
	f.wants("third")
}

func TestRun_FollowsASymlinkToAnotherFolder(t *testing.T) {
	target := filepath.Join(t.TempDir(), "real.yaml")
	write(t, target, text("first"))
	path := filepath.Join(t.TempDir(), "policy.yaml")
	must(t, os.Symlink(target, path))
	f := follow(t, path, slowPoll)
	write(t, target, text("second"))
	f.wants("second")
}

func TestRun_FollowsAFolderThatIsReplaced(t *testing.T) {
	base := t.TempDir()
	folder := filepath.Join(base, "etc")
	must(t, os.Mkdir(folder, 0o755))
	path := filepath.Join(folder, "policy.yaml")
	write(t, path, text("first"))
	f := follow(t, path, 20*time.Millisecond) // the folder above is not watched
	must(t, os.Rename(folder, folder+".old"), os.Mkdir(folder, 0o755))
	write(t, path, text("second"))
	f.wants("second")
	write(t, path, text("third"))
	f.wants("third")
}

// Case C15: what the watch missed, the poll finds.
func TestRun_PollFindsWhatTheWatchMissed(t *testing.T) {
	base := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(base, "v1"), 0o755), os.MkdirAll(filepath.Join(base, "v2"), 0o755),
		os.Mkdir(filepath.Join(base, "up"), 0o755), os.Symlink("../v1", filepath.Join(base, "up", "now")))
	write(t, filepath.Join(base, "v1", "policy.yaml"), text("first"))
	write(t, filepath.Join(base, "v2", "policy.yaml"), text("second"))
	// A folder on the way is a symlink that is swapped where nothing watches.
	f := follow(t, filepath.Join(base, "up", "now", "policy.yaml"), 20*time.Millisecond)
	must(t, os.Symlink("../v2", filepath.Join(base, "up", "next")),
		os.Rename(filepath.Join(base, "up", "next"), filepath.Join(base, "up", "now")))
	f.wants("second")
}

// Case C11: half a policy is a good one, with fewer grants. It must never be in
// use, however long the writer takes.
func TestRun_HalfAFileIsNeverInUse(t *testing.T) {
	f := start(t)
	w := openToWrite(t, f.path)
	must(t, put(w, text("half")))
	o := observer{file: f.File}
	// Long enough for whatever waits for quiet: the kernel is asked more than a
	// hundred times, and the poll's way is taken too.
	for range 150 {
		if !o.observe(&watch{path: f.path}) {
			t.Fatal("a file that is being written was judged")
		}
	}
	if err := f.Reload(); err == nil || !strings.Contains(err.Error(), "open for writing") {
		t.Errorf("reloaded while it was written: %v", err)
	}
	must(t, w.Truncate(0))
	_, err := w.Seek(0, 0)
	must(t, err, put(w, text("second")), w.Close())
	f.wants("second")
}

// Where the kernel cannot tell, the same content must be seen for a second.
func TestObserve_WithoutLeasesContentMustBeQuiet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, text("first"))
	f, err := Open(Config{Path: path})
	must(t, err)
	f.lease = func(*os.File) (state, func()) { return unknown, func() {} }
	o, w := observer{file: f}, &watch{path: path}
	for _, content := range []string{text("half"), text("more"), text("second")} {
		write(t, path, content)
		for i := range untilQuiet - 1 {
			if !o.observe(w) || f.Status().Generation != 1 {
				t.Fatalf("judged after %d looks", i+1)
			}
		}
	}
	if o.observe(w) || f.Snapshot().Grants[0].Name != "second" {
		t.Errorf("not in use after %d looks: %+v", untilQuiet, f.Status())
	}
	if write(t, path, text("second", "# same\n")); !o.observe(w) {
		t.Error("another file was judged at once")
	}
}

// A process that never closes the file has to be told of.
func TestObserve_AFileHeldOpenIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, text("first"))
	f, err := Open(Config{Path: path})
	must(t, err)
	f.lease = func(*os.File) (state, func()) { return writing, func() {} }
	o := observer{file: f}
	for range untilWritten {
		if f.Status().LastError != nil {
			t.Fatal("told too early")
		}
		o.observe(&watch{path: path})
	}
	if err := f.Status().LastError; err == nil || !strings.Contains(err.Error(), "open for writing") {
		t.Errorf("the status says %v", err)
	}
}

// A reader that holds a lease lets writers wait, and never fail.
func TestRun_WritersAreNotDisturbed(t *testing.T) {
	f := start(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = f.Reload() // it may be written at this moment
			}
		}
	}()
	for range 200 {
		write(t, f.path, text("other"))
		write(t, f.path, text("first"))
	}
	write(t, f.path, text("last"))
	close(stop)
	<-stopped
	must(t, f.Reload())
	if name := f.Snapshot().Grants[0].Name; name != "last" {
		t.Errorf("in use is %s", name)
	}
}

// Cases C13 and C18: whatever is wrong is told once, the last good policy stays,
// and the next good one is taken.
func TestRun_MistakesAreToldOnceAndMended(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		told  string
	}{
		{"not good", func(t *testing.T, path string) { write(t, path, text("x", "alow: 1\nbann: 2\n")) }, "did you mean ban?"},
		{"gone", func(t *testing.T, path string) { must(t, os.Remove(path)) }, "no such file"},
		{"a folder", func(t *testing.T, path string) { must(t, os.Remove(path), os.Mkdir(path, 0o755)) }, "it is a folder"},
		{"a FIFO", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			run(t, "mkfifo", path)
		}, "it is a FIFO"},
		{"dangling", func(t *testing.T, path string) { must(t, os.Remove(path), os.Symlink("nowhere", path)) }, "no such file"},
		{"too large", func(t *testing.T, path string) { write(t, path, strings.Repeat("#", 1<<20+1)) }, "more than 1 MiB"},
		{"another service", func(t *testing.T, path string) {
			write(t, path, strings.ReplaceAll(text("x"), "org/orders", "org/x"))
		}, "restart to become another service"},
		{"not readable", func(t *testing.T, path string) {
			if os.Getuid() == 0 {
				t.Skip("root reads everything")
			}
			must(t, os.Chmod(path, 0))
		}, "permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "policy.yaml")
			write(t, path, text("first"))
			f := follow(t, path, 10*time.Millisecond)
			first := f.Snapshot()
			c.spoil(t, path)
			f.log.wait(c.told)
			if f.Snapshot() != first || f.Status().LastError == nil || f.Status().Generation != 1 {
				t.Errorf("status %+v", f.Status())
			}
			// Seen many times more, and not told again.
			o := observer{file: f.File}
			for range 3 * untilError {
				o.observe(&watch{path: path})
			}
			must(t, os.RemoveAll(path))
			write(t, path, text("second"))
			f.wants("second")
			if n := f.log.count(c.told); n != 1 {
				t.Errorf("told %d times:\n%s", n, f.log)
			}
		})
	}
}

func TestRun_EveryProblemIsLogged(t *testing.T) {
	f := start(t)
	write(t, f.path, text("x", "alow: 1\nbann: 2\n"))
	f.log.wait("policy.yaml:5:1")
	f.log.wait("policy.yaml:6:1")
	write(t, f.path, text("first"))
	f.log.wait("policy file is good again")
	if err := f.Status().LastError; err != nil {
		t.Error(err)
	}
}

func TestRun_ChangesOfOthersInTheFolderDoNotHoldItUp(t *testing.T) {
	f := start(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(filepath.Join(filepath.Dir(f.path), "noise"), []byte("x"), 0o644)
			}
		}
	}()
	write(t, f.path, text("second"))
	f.wants("second")
	close(stop)
	<-stopped
}
