package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// quietLoad is the load average above which something else is running.
const quietLoad = 0.5

// cpuClock is the kernel's clock of the processor time, user and system, that all
// threads of a process have had, those that have ended too. It is the sum that
// /proc/PID/stat shows in steps of 10 ms, in nanoseconds: see the macros
// MAKE_PROCESS_CPUCLOCK and CPUCLOCK_SCHED of Linux's posix-timers.h.
func cpuClock(pid int) int32 { return ^int32(pid)<<3 | 2 }

// cpuTime is the processor time of all of the processes together.
func cpuTime(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		var t unix.Timespec
		if err := unix.ClockGettime(cpuClock(pid), &t); err != nil {
			return 0, fmt.Errorf("reading the processor time of process %d: %w (has it ended?)", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// residentKiB is the memory of the processes that is in RAM, by /proc/PID/status.
func residentKiB(pids []int) (float64, error) {
	var sum float64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		kib, err := parseRSS(text)
		if err != nil {
			return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
		}
		sum += kib
	}
	return sum, nil
}

func parseRSS(status []byte) (float64, error) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			number, found := strings.CutSuffix(strings.TrimSpace(string(rest)), " kB")
			kib, err := strconv.ParseUint(number, 10, 53)
			if !found || err != nil {
				return 0, fmt.Errorf("VmRSS: %q is not a number of kB", rest)
			}
			return float64(kib), nil
		}
	}
	return 0, errors.New("there is no VmRSS")
}

// family is a process and all that descend from it: nginx works in a child.
func family(pid int) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended since
		}
		if child, parent, err := parseStat(string(text)); err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids, nil
}

// parseStat reads a process and its parent from /proc/PID/stat. The second field
// is the command's name in parentheses, and a name may have spaces and
// parentheses of its own: the last one ends it.
func parseStat(stat string) (pid, parent int, err error) {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return 0, 0, fmt.Errorf("%q has no name in parentheses", stat)
	}
	rest := strings.Fields(stat[end+1:])
	if len(rest) < 2 {
		return 0, 0, fmt.Errorf("%q ends before the parent", stat)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(stat[:open])); err != nil {
		return 0, 0, err
	}
	parent, err = strconv.Atoi(rest[1])
	return pid, parent, err
}

// describeMachine says what a figure depends on besides the programs. A busy
// machine is said to be one: its figures are not worth keeping.
func describeMachine() string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	line := fmt.Sprintf("Linux %s, %d cores, %s", bytes.TrimSpace(release), runtime.NumCPU(), runtime.Version())
	minute, _, _ := strings.Cut(string(load), " ")
	if busy, err := strconv.ParseFloat(minute, 64); err == nil && busy > quietLoad {
		line += fmt.Sprintf("; BUSY: the load was %s before the run, under %g is quiet", minute, quietLoad)
	}
	return line
}
