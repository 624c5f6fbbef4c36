package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestStop_EndsTheProcess(t *testing.T) {
	p, err := startProcess(t.TempDir()+"/log", nil, "sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.ended(); err != nil {
		t.Errorf("it runs, and has ended: %v", err)
	}
	p.stop()
	if err := syscall.Kill(p.cmd.Process.Pid, 0); err != syscall.ESRCH {
		t.Errorf("it is still there: %v", err)
	}
	p.stop() // again, as after a failure
	(*process)(nil).stop()
}

func TestEnded_SaysHowAndWhatTheLogSays(t *testing.T) {
	p, err := startProcess(t.TempDir()+"/log", []string{"WORD=broken"}, "sh", "-c", `echo "$WORD config" >&2; exit 3`)
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	if err := p.ended(); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "broken config") {
		t.Errorf("got: %v", err)
	}
}

func TestStartProcess_OfNothingIsAnError(t *testing.T) {
	if _, err := startProcess(t.TempDir()+"/log", nil, "/nowhere/nothing"); err == nil {
		t.Error("it was started")
	}
}

func TestTail_IsTheEnd(t *testing.T) {
	path := t.TempDir() + "/log"
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 10*tailBytes)+"the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(path); len(got) > tailBytes || !strings.HasSuffix(got, "xthe end") {
		t.Errorf("got %q", got)
	}
}
