package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	stopGrace = 5 * time.Second // between the polite signal and the other one
	tailBytes = 600             // of a log, in an error
)

// process is a program that runs until stop. Its output goes to a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// detach puts a command in a group of its own, so that Ctrl-C reaches only us and
// we end it in our order. Should we be killed, the kernel ends it: for that every
// command is started by the main goroutine, which main locks to its thread.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// startProcess starts path; its output goes to the file log.
func startProcess(log string, env []string, path string, args ...string) (*process, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the process has its own descriptor
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), file, file
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go p.wait()
	return p, nil
}

// wait ends with the process: stop makes sure that it does.
func (p *process) wait() {
	_ = p.cmd.Wait() // how it ended is in its log
	close(p.done)
}

// stop ends the process, and returns when it has ended.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(stopGrace):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group is its own: detach
	<-p.done
}

// ended says why a process is no longer there, or nil.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended (%s): %s", p.cmd.Path, p.cmd.ProcessState, tail(p.log))
	default:
		return nil
	}
}

// tail is the last that a log says.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-tailBytes):]))
}
