package main

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseStat_FindsTheParentBehindAnyName(t *testing.T) {
	for _, c := range []struct {
		stat        string
		pid, parent int
	}{
		{"12 (nginx) S 7 12 12 0 -1", 12, 7},
		{"12 (nginx: worker (x) y) S 7 12", 12, 7},
		{"1 (a) b) R 3) S 0 1 1", 1, 0},
		{"12 () S 7\n", 12, 7},
	} {
		pid, parent, err := parseStat(c.stat)
		if err != nil || pid != c.pid || parent != c.parent {
			t.Errorf("parseStat(%q) = %d, %d, %v, want %d, %d", c.stat, pid, parent, err, c.pid, c.parent)
		}
	}
}

func TestParseStat_RefusesWhatIsCutOff(t *testing.T) {
	for _, stat := range []string{"", "12", "12 (nginx", "12 (nginx)", "12 (nginx) S", "x (nginx) S 7", "12 (nginx) S x", ") 12 (S 7"} {
		if pid, parent, err := parseStat(stat); err == nil {
			t.Errorf("parseStat(%q) = %d, %d", stat, pid, parent)
		}
	}
}

func TestParseRSS_ReadsOnlyItsLine(t *testing.T) {
	got, err := parseRSS([]byte("Name:\tx\nVmHWM:\t  99 kB\nVmRSS:\t   1234 kB\nRssAnon:\t 5 kB\n"))
	if err != nil || got != 1234 {
		t.Errorf("got %g, %v", got, err)
	}
	for _, status := range []string{"", "Name:\tx\n", "VmRSS:\t12 MB\n", "VmRSS:\t-1 kB\n", "VmRSS: kB\n", "VmRSS:\t12\n"} {
		if got, err := parseRSS([]byte(status)); err == nil {
			t.Errorf("parseRSS(%q) = %g", status, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("12 (nginx) S 7 12 12 0 -1")
	f.Add(") (")
	f.Fuzz(func(t *testing.T, stat string) {
		if pid, _, err := parseStat(stat); err == nil && !strings.Contains(stat, "(") {
			t.Errorf("%q is process %d", stat, pid)
		}
	})
}

func FuzzParseRSS(f *testing.F) {
	f.Add([]byte("VmRSS:\t   1234 kB\n"))
	f.Fuzz(func(t *testing.T, status []byte) {
		if kib, err := parseRSS(status); err == nil && !(kib >= 0) {
			t.Errorf("%q is %g", status, kib)
		}
	})
}

// The kernel's account of ourselves before and after brackets what the clock says:
// it is of user and system time of all threads, whatever has been burnt where.
func TestCPUTime_IsTheKernelsAccountOfAllThreads(t *testing.T) {
	const much, rounding = 50 * time.Millisecond, 10 * time.Millisecond
	start := ownTime(t)
	burnt := make(chan struct{})
	go burn(start+much, burnt)
	<-burnt

	before := ownTime(t)
	got, err := cpuTime([]int{os.Getpid()})
	after := ownTime(t)
	if err != nil || got < before-rounding || got > after+rounding {
		t.Errorf("the clock says %s (%v), the kernel %s to %s", got, err, before, after)
	}
	twice, err := cpuTime([]int{os.Getpid(), os.Getpid()})
	if err != nil || twice < 2*before-2*rounding {
		t.Errorf("two processes of %s have %s (%v)", before, twice, err)
	}
}

// burn works until the process has had so much processor time.
func burn(until time.Duration, done chan<- struct{}) {
	defer close(done)
	for n := 0; ; n++ {
		if now, err := usage(); err != nil || now > until {
			return
		}
	}
}

func usage() (time.Duration, error) {
	var r syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), err
}

func ownTime(t *testing.T) time.Duration {
	t.Helper()
	d, err := usage()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCPUTime_OfNoProcessIsAnError(t *testing.T) {
	if got, err := cpuTime([]int{1 << 28}); err == nil {
		t.Errorf("got %s", got)
	}
}

func TestFamily_HasTheChildren(t *testing.T) {
	p, err := startProcess(t.TempDir()+"/log", nil, "sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	pids, err := family(os.Getpid())
	if err != nil || pids[0] != os.Getpid() || !slices.Contains(pids, p.cmd.Process.Pid) {
		t.Errorf("%d is not among %v (%v)", p.cmd.Process.Pid, pids, err)
	}
	if kib, err := residentKiB(pids); err != nil || kib < 500 {
		t.Errorf("all of them have %g KiB (%v)", kib, err)
	}
}
