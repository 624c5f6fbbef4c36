package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, c Config) *Log {
	t.Helper()
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// until waits for the thing itself, and gives up after a time that only a fault
// takes.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

func waitWritten(t *testing.T, path string) {
	t.Helper()
	until(t, "the first record", func() bool { stat, err := os.Stat(path); return err == nil && stat.Size() > 0 })
}

// numbers are the seq of every line of the files, in order. Any line that is not
// one whole record fails the test.
func numbers(t *testing.T, paths ...string) []uint64 {
	t.Helper()
	var all []uint64
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var r struct{ Seq uint64 }
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%s: %v: %.300q", path, err, line)
			}
			all = append(all, r.Seq)
		}
	}
	return all
}

func wantGapless(t *testing.T, got []uint64, n int) {
	t.Helper()
	for i, seq := range got {
		if seq != uint64(i+1) {
			t.Fatalf("record %d has seq %d", i+1, seq)
		}
	}
	if len(got) != n {
		t.Errorf("%d records, want %d", len(got), n)
	}
}

// L08.
func TestWrite_EveryRecordOnceAndInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Config{Path: path})
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 500 {
				l.Write(fullRecord())
			}
		})
	}
	writers.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantGapless(t, numbers(t, path), 4000)
}

func TestWrite_AllocatesNothing(t *testing.T) {
	l := open(t, Config{Writer: io.Discard})
	r := fullRecord()
	r.Shadow = nil
	rule := r.Rule
	l.Resolve(&policy.Snapshot{Grants: []*policy.Rule{rule}})
	for range 20000 { // both buffers have grown
		l.Write(r)
	}
	if n := testing.AllocsPerRun(2000, func() { l.Write(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// L07: rename and signal.
func TestReopen_RenameLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Config{Path: path})
	l.Write(fullRecord())
	waitWritten(t, path)
	rename(t, path, path+".1")
	l.Write(fullRecord())
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Write(fullRecord())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := numbers(t, path+".1", path)
	wantGapless(t, got, 3)
}

// L07: rename without a signal, over and over under load.
func TestWrite_FollowsItsPathThroughRenames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Config{Path: path})
	var files []string
	for i := range 10 {
		for range 100 {
			l.Write(fullRecord())
		}
		until(t, "the new file", func() bool { _, err := os.Stat(path); l.Write(fullRecord()); return err == nil })
		old := path + "." + string(rune('a'+i))
		rename(t, path, old)
		files = append(files, old)
	}
	l.Write(fullRecord())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := numbers(t, append(files, path)...)
	wantGapless(t, got, len(got))
}

// L07: the lines that were in a deleted file went with it; no later one does.
func TestWrite_DeletedFileIsMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Config{Path: path})
	l.Write(fullRecord())
	waitWritten(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l.Write(fullRecord())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := numbers(t, path); len(got) != 1 || got[0] != 2 {
		t.Errorf("got %v", got)
	}
}

// L07: copytruncate.
func TestWrite_TruncatedFileIsWrittenFromItsStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Config{Path: path})
	l.Write(fullRecord())
	waitWritten(t, path)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	l.Write(fullRecord())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := numbers(t, path); len(got) != 1 || got[0] != 2 {
		t.Errorf("got %v", got)
	}
}

// L09.
func TestOpen_LineTornByACrashDoesNotSwallowTheNext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(`{"time":"2026`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, Config{Path: path})
	l.Write(fullRecord())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	lines := strings.Split(string(text), "\n")
	if len(lines) != 3 || !json.Valid([]byte(lines[1])) {
		t.Errorf("got %q", text)
	}
}

// L05, RT15: a full disk, and space again. /dev/full is the kernel's own full disk.
func TestReady_FullDiskRefusesAndRecovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	l := open(t, Config{Path: path})
	if err := l.Ready(); err != nil {
		t.Fatalf("before the first record: %v", err)
	}
	l.Write(fullRecord())
	until(t, "not ready", func() bool { return l.Ready() != nil })
	if err := l.Ready(); !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("got %q", err)
	}
	real := filepath.Join(dir, "real.log")
	next := filepath.Join(dir, "next")
	if err := os.Symlink(real, next); err != nil {
		t.Fatal(err)
	}
	rename(t, next, path)
	until(t, "ready again", func() bool { return l.Ready() == nil })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantGapless(t, numbers(t, real), 1)
}

func TestReady_CountModeNeverRefusesAndCountsWhatIsLost(t *testing.T) {
	l, err := Open(Config{Path: "/dev/full", OnFailure: Count, Queue: 4 * maxLine})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		l.Write(fullRecord())
	}
	if err := l.Ready(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("closing: %v", err)
	}
	if lost := l.lost.Load(); lost != 1000 {
		t.Errorf("%d lost, want all 1000", lost)
	}
}

// gate is a writer that takes nothing until it is opened: a reader of a pipe that
// does not read.
type gate struct {
	open chan struct{}
	bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(b)
}

func TestReady_StuckWriterRefusesAndNoWriteWaits(t *testing.T) {
	var mu sync.Mutex
	now := noon
	g := &gate{open: make(chan struct{})}
	l := open(t, Config{Writer: g, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	l.Write(fullRecord())
	until(t, "the write is under way", func() bool { return l.writing.Load() != 0 })
	if err := l.Ready(); err != nil {
		t.Errorf("at once: %v", err)
	}
	mu.Lock()
	now = now.Add(time.Second)
	mu.Unlock()
	if err := l.Ready(); err == nil || !strings.Contains(err.Error(), "has not taken a write for 1s") {
		t.Errorf("after a second: %v", err)
	}
	l.Write(fullRecord()) // would hang here
	close(g.open)
	until(t, "ready again", func() bool { return l.Ready() == nil })
}

func TestReady_LongQueueRefusesBeforeItIsFull(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	l := open(t, Config{Writer: g, Queue: 8 * maxLine})
	for l.Ready() == nil {
		l.Write(fullRecord())
	}
	if lost := l.lost.Load(); lost != 0 {
		t.Errorf("%d records lost before anything was refused", lost)
	}
	refused := fullRecord()
	refused.Verdict, refused.Reason = policy.Deny, policy.AuditUnavailable
	l.Write(refused)
	if lost := l.lost.Load(); lost != 1 {
		t.Error("a refusal took the room of a request that was let through")
	}
	l.Write(fullRecord())
	if lost := l.lost.Load(); lost != 1 {
		t.Error("a request that was let through is not recorded")
	}
	close(g.open)
}

// flaky takes a few bytes of a line, then fails, then works.
type flaky struct {
	takes []int
	bytes.Buffer
}

func (f *flaky) Write(b []byte) (int, error) {
	if len(f.takes) == 0 {
		return f.Buffer.Write(b)
	}
	n := min(f.takes[0], len(b))
	f.takes = f.takes[1:]
	f.Buffer.Write(b[:n])
	return n, errors.New("broken")
}

func TestSink_LineTakenInPartIsContinued(t *testing.T) {
	f := &flaky{takes: []int{0, 1, 17, 600, 3}}
	s := &sink{out: f}
	var rest []byte
	for seq := range uint64(5) {
		rest = appendRecord(rest, fullRecord(), seq+1, false)
	}
	var err error
	for tries := 0; len(rest) > 0; tries++ {
		if rest, err = s.write(rest); (err == nil) != (tries == 5) {
			t.Fatalf("try %d: %v", tries, err)
		}
	}
	path := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, f.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	wantGapless(t, numbers(t, path), 5)
}

func TestWrite_AllDenialsAndAShareOfTheAllows(t *testing.T) {
	for _, c := range []struct {
		share    float64
		min, max int
	}{{0, 1000, 1000}, {1, 1000, 1000}, {0.1, 60, 140}, {NoAllows, 0, 0}} {
		var out bytes.Buffer
		l := open(t, Config{Writer: &out, AllowSample: c.share})
		for range 1000 {
			r := fullRecord()
			r.ID = l.NewID()
			l.Write(r)
			r.Verdict, r.Reason = policy.Deny, policy.RouteUndeclared
			l.Write(r)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), `"allow"`); n < c.min || n > c.max {
			t.Errorf("share %v: %d allows recorded", c.share, n)
		}
		if n := strings.Count(out.String(), `"deny"`); n != 1000 {
			t.Errorf("share %v: %d denials recorded", c.share, n)
		}
	}
}

func TestOpen_SaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{}, "neither a path nor a writer"},
		{Config{Path: "/no/such/dir/audit.log"}, "open /no/such/dir/audit.log: no such file or directory"},
		{Config{Path: t.TempDir()}, "is a directory"},
		{Config{Writer: io.Discard, AllowSample: 2}, "use 0 to 1"},
	} {
		_, err := Open(c.config)
		if err == nil || !strings.HasPrefix(err.Error(), "opening the audit log: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want …%s…", err, c.want)
		}
	}
}

func TestClose_MayBeCalledAgainAndWriteAfterItIsCounted(t *testing.T) {
	l := open(t, Config{Writer: io.Discard})
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l.Write(fullRecord())
	if l.lost.Load() != 1 {
		t.Error("the record is not counted")
	}
	if err := l.Reopen(); err == nil {
		t.Error("a closed log was reopened")
	}
}

func TestNewID_IsRandomHex(t *testing.T) {
	l := open(t, Config{Writer: io.Discard, Rand: strings.NewReader("0123456789abcdef")})
	if got := l.NewID(); got != "30313233343536373839616263646566" {
		t.Error(got)
	}
	if got := l.NewID(); len(got) != 32 {
		t.Errorf("without randomness: %q", got)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
