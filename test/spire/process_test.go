//go:build linux

package spire

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// EVERYHOP_SPIRE is the directory of the binaries; EVERYHOP_LONG=1 runs what takes
// minutes as well.
var (
	spireDir = os.Getenv("EVERYHOP_SPIRE")
	long     = os.Getenv("EVERYHOP_LONG") == "1"
)

// Users. One for each sidecar: an entry for root would match every process here.
const (
	root       uint32 = 0
	webUser    uint32 = 42001
	ordersUser uint32 = 42002
	thirdUser  uint32 = 42003
)

// everyhop is the binary that the sidecars run, which every user may.
var everyhop string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if needs() != "" {
		return m.Run() // each test says why it does nothing
	}
	dir, err := os.MkdirTemp("", "everyhop")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	everyhop = filepath.Join(dir, "everyhop")
	out, err := exec.Command("go", "build", "-o", everyhop, "github.com/everyhop/everyhop/cmd/everyhop").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building everyhop: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// needs is why these tests cannot run here, or empty.
func needs() string {
	switch {
	case spireDir == "":
		return "EVERYHOP_SPIRE does not name the directory of spire-server and spire-agent (bash test/spire/run.sh builds them and runs this)"
	case os.Geteuid() != 0:
		return "only root can start sidecars as different users"
	}
	return ""
}

// begin marks a test of this package. They run beside each other: most of their
// time goes by until certificates expire.
func begin(t *testing.T) {
	t.Helper()
	if why := needs(); why != "" {
		t.Skip("NOT RUN: " + why)
	}
	t.Parallel()
}

func spireBinary(name string) string { return filepath.Join(spireDir, name) }

// newDir is a directory that every user may search, with a path short enough for
// sockets: neither holds for t.TempDir.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "spire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// process is one that the test started, and that ends with it.
type process struct {
	name string
	log  string // the path of all that it printed
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// start runs a command as that user. Should the test die before it can clean up,
// the kernel kills what it has started.
func start(t *testing.T, log string, user uint32, name string, args ...string) *process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := &process{name: filepath.Base(name), log: log, cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = "/", out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: user, Gid: user},
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go p.wait()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", p.name, p.logTail())
		}
	})
	return p
}

func (p *process) wait() {
	defer close(p.done)
	_ = p.cmd.Wait() // how it ended is for the log; that it ended early, for ended
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process as a crash does, with no time for farewells.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(err) // root may always kill its own child
	}
	<-p.done
}

func (p *process) said() string {
	text, _ := os.ReadFile(p.log) // what is not there was not said
	return string(text)
}

func (p *process) logTail() string {
	lines := strings.Split(strings.TrimSpace(p.said()), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// await looks again and again until it holds, for at most a minute: whatever has
// not happened by then will not.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// elapsed lets time go by that is itself what is tested: a load or an outage of
// that length.
func elapsed(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
