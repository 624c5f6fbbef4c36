package live

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slowPoll is a poll that a test does not live to see: what is picked up was seen
// by the watch.
const slowPoll = time.Hour

// text is a good policy whose one grant has the name, with lines after it.
func text(name string, more ...string) string {
	return "service: spiffe://example.org/orders\napp: http://127.0.0.1:8080\nallow:\n" +
		"  - {name: " + name + ", from: spiffe://example.org/web, to: GET /" + name + "}\n" + strings.Join(more, "")
}

// followed is a policy file in a folder of its own that is being followed.
type followed struct {
	*File
	t       *testing.T
	path    string
	changes chan *policy.Snapshot
	log     *lines
}

func follow(t *testing.T, path string, poll time.Duration) *followed {
	t.Helper()
	f := &followed{t: t, path: path, changes: make(chan *policy.Snapshot, 100), log: newLines()}
	var err error
	f.File, err = Open(Config{
		Path: path, Poll: poll, Logger: slog.New(slog.NewTextHandler(f.log, nil)),
		OnChange: func(s *policy.Snapshot) { f.changes <- s },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

// start is a policy whose grant is named first, followed.
func start(t *testing.T) *followed {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, text("first"))
	return follow(t, path, slowPoll)
}

// wants waits for the policy whose grant has the name, and fails if another one
// comes into use before.
func (f *followed) wants(name string) {
	f.t.Helper()
	select {
	case s := <-f.changes:
		if got := s.Grants[0].Name; got != name {
			f.t.Fatalf("the policy in use has the grant %s, not %s", got, name)
		}
		if s != f.Snapshot() {
			f.t.Error("what was announced is not what is in use")
		}
	case <-time.After(20 * time.Second):
		f.t.Fatalf("%s never came into use: %+v\n%s", name, f.Status(), f.log)
	}
	if err := f.Status().LastError; err != nil {
		f.t.Errorf("after a good load: %v", err)
	}
}

// lines is a log that can be waited for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	grew *sync.Cond
}

func newLines() *lines {
	l := &lines{}
	l.grew = sync.NewCond(&l.mu)
	return l
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grew.Broadcast()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// wait waits until the log has the text.
func (l *lines) wait(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !strings.Contains(l.text.String(), text) {
		l.grew.Wait()
	}
}

func (l *lines) count(text string) int { return strings.Count(l.String(), text) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// must fails the test where a step of its own went wrong.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFile_ZeroDeniesAll(t *testing.T) {
	var f File
	d := f.Snapshot().Decide(time.Now(), &policy.Request{Method: "GET", Path: "/"}, nil)
	if d.Verdict != policy.Deny || d.Reason != policy.NoPolicy {
		t.Errorf("decided %v, %v", d.Verdict, d.Reason)
	}
	if s := f.Status(); s != (Status{}) {
		t.Errorf("status %+v", s)
	}
}

func TestOpen_RefusesWhatIsNoGoodPolicy(t *testing.T) {
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, name) }
	write(t, at("bad.yaml"), "service: spiffe://example.org/orders\nap: x\n")
	write(t, at("empty.yaml"), "")
	write(t, at("large.yaml"), strings.Repeat("#", 1<<20+1))
	must(t, syscall.Mkfifo(at("fifo"), 0o644), os.Symlink("loop", at("loop")))
	for _, c := range []struct{ path, want string }{
		{at("bad.yaml"), `bad.yaml:2:1: the policy has no key "ap" (did you mean app?)`},
		{at("empty.yaml"), "empty.yaml:1:1: the policy is empty"},
		{at("large.yaml"), "it has 1048577 bytes, which is more than 1 MiB"},
		{at("fifo"), "it is a FIFO, and not a file"},
		{folder, "it is a folder, and not a file"},
		{"/dev/zero", "it is a device, and not a file"},
		{at("none.yaml"), "no such file or directory"},
		{at("loop"), "too many levels of symbolic links"},
	} {
		if f, err := Open(Config{Path: c.path}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Open(%s) = %v, %v; want %s", c.path, f, err, c.want)
		}
	}
}

func TestOpen_RefusesAFileThatIsBeingWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	w := openToWrite(t, path)
	must(t, put(w, text("first")))
	if _, err := Open(Config{Path: path}); err == nil || !strings.Contains(err.Error(), "open for writing") {
		t.Errorf("opened while it was written: %v", err)
	}
	must(t, w.Close())
	if _, err := Open(Config{Path: path}); err != nil {
		t.Errorf("after it was written: %v", err)
	}
}

// openToWrite truncates the file and keeps it open for writing. The test is
// skipped where the kernel cannot tell that it is.
func openToWrite(t *testing.T, path string) *os.File {
	t.Helper()
	w, err := os.Create(path)
	must(t, err)
	r, err := os.Open(path)
	must(t, err)
	defer r.Close()
	if s, release := lease(r); s != writing {
		release()
		t.Skipf("leases do not tell here: state %d", s)
	}
	return w
}

func put(w *os.File, text string) error {
	_, err := w.WriteString(text)
	return err
}

func TestReload_ErrorLeavesPreviousStateIntact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, text("first"))
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	f, err := Open(Config{Path: path, Now: func() time.Time { return now }})
	must(t, err)
	before, loaded := f.Snapshot(), now
	now = now.Add(time.Minute)
	for _, bad := range []string{
		"", "{}", "---\n", "# x\n", "service: [", text("first", "ban: []\n"), text("first", "never: [{to: GET /x}]\n"),
		strings.ReplaceAll(text("first"), "/orders", "/other"),
		"service: spiffe://example.org/orders\nap", strings.Repeat("#", 1<<20+1),
	} {
		write(t, path, bad)
		err := f.Reload()
		if err == nil {
			t.Fatalf("%.40q was taken", bad)
		}
		s := f.Status()
		if f.Snapshot() != before || s.Generation != 1 || s.Digest != before.Digest || s.LoadedAt != loaded {
			t.Errorf("%.40q changed the state to %+v", bad, s)
		}
		if s.LastError == nil || s.LastError.Error() != err.Error() || s.LastErrorSince != now {
			t.Errorf("%.40q: the status says %v since %v, Reload %v", bad, s.LastError, s.LastErrorSince, err)
		}
	}
	write(t, path, text("first"))
	must(t, f.Reload())
	if s := f.Status(); s.LastError != nil || !s.LastErrorSince.IsZero() || s.Generation != 1 {
		t.Errorf("the first policy again: %+v", s)
	}
	write(t, path, text("second"))
	must(t, f.Reload())
	if s := f.Status(); s.Generation != 2 || s.LoadedAt != now || s.LastError != nil || s.Digest != f.Snapshot().Digest {
		t.Errorf("a second policy: %+v", s)
	}
}

func TestReload_RefusesAnotherService(t *testing.T) {
	f := start(t)
	write(t, f.path, strings.ReplaceAll(text("second"), "example.org/orders", "example.org/other"))
	err := f.Reload()
	const want = "service: changed from spiffe://example.org/orders to spiffe://example.org/other: restart"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestReload_IsAnnouncedByRunInOrder(t *testing.T) {
	f := start(t)
	for i := range 20 {
		name := fmt.Sprintf("n%d", i)
		next := f.path + ".next"
		write(t, next, text(name))
		must(t, os.Rename(next, f.path))
		if err := f.Reload(); err != nil {
			t.Fatal(err)
		}
		f.wants(name)
		if g := f.Status().Generation; g != uint64(i+2) {
			t.Errorf("generation %d, want %d", g, i+2)
		}
	}
}
