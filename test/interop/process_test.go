package interop

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/everyhop/everyhop/test/tools"
)

// process is a foreign program that ends with the test.
type process struct {
	cmd  *exec.Cmd
	log  string        // the path of all that it printed
	done chan struct{} // closed when it has ended
}

// start starts a program. What it prints goes to log.
func start(t testing.TB, log string, tool tools.Tool, args ...string) *process {
	t.Helper()
	out, err := os.Create(log)
	must(t, err)
	defer out.Close() // the process has its own descriptor
	p := &process{cmd: exec.Command(tool.Path, args...), log: log, done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append(os.Environ(), tool.Env...), out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, p.cmd.Start())
	go p.wait()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", filepath.Base(tool.Path), p.tail())
		}
	})
	return p
}

// wait ends with the process, and stop makes sure that it does.
func (p *process) wait() {
	_ = p.cmd.Wait() // how it ended is in its log
	close(p.done)
}

// stop ends the process with all that it has started.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group is its own: start
		<-p.done
	}
}

func (p *process) tail() string {
	text, _ := os.ReadFile(p.log) // what is not there was not said
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// awaitPort waits until the process takes connections at an address.
func (p *process) awaitPort(t testing.TB, address string) {
	t.Helper()
	await(t, p.cmd.Path+" at "+address, func() bool {
		select {
		case <-p.done:
			t.Fatalf("%s has ended: %s", p.cmd.Path, p.tail())
		default:
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}

// place is what the configuration of a foreign program is filled in with.
type place struct {
	Dir      string // its own folder
	Root     bool   // it is started by root, and must not become someone else
	HostName string
	Listen   string // its address
	To       string // where it forwards to
	SVID     string // the folder with its SVID
	Modules  string // Apache's
	H2       bool
}

// configure fills in testdata/NAME, and returns its path and the place.
func (m *mesh) configure(name string, p place) (path string, _ place) {
	m.t.Helper()
	dir, err := os.MkdirTemp(m.dir, name)
	must(m.t, err)
	must(m.t, os.Chmod(dir, 0o777))
	p.Dir, p.Root, p.HostName = dir, os.Geteuid() == 0, hostName
	if p.Listen == "" {
		p.Listen = freeAddress(m.t)
	}
	split := func(part int) func(string) (string, error) {
		return func(address string) (string, error) {
			host, port, err := net.SplitHostPort(address)
			return []string{host, port}[part], err
		}
	}
	t, err := template.New(name).Funcs(template.FuncMap{"host": split(0), "port": split(1)}).ParseFiles(filepath.Join("testdata", name))
	must(m.t, err)
	var text bytes.Buffer
	must(m.t, t.Execute(&text, p))
	path = filepath.Join(dir, name)
	must(m.t, os.WriteFile(path, text.Bytes(), 0o644))
	return path, p
}

// foreign starts a program with its configuration, and returns when it takes
// connections.
func (m *mesh) foreign(name, config string, p place) place {
	m.t.Helper()
	tool := need(m.t, name)
	if name == "apache2" {
		p.Modules = filepath.Join(tool.Root, "usr/lib/apache2/modules")
	}
	path, p := m.configure(config, p)
	args := map[string][]string{
		"nginx":   {"-e", "stderr", "-p", p.Dir, "-c", path},
		"haproxy": {"-db", "-f", path},
		"envoy":   {"--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path", path},
		"apache2": {"-X", "-d", p.Dir, "-f", path},
		"node":    {path, p.Listen, filepath.Join(p.Dir, "access.log")},
	}[name]
	if name == "apache2" {
		args = append([]string{"-D", "FOREGROUND"}, args[1:]...)
	}
	start(m.t, filepath.Join(p.Dir, "out"), tool, args...).awaitPort(m.t, p.Listen)
	return p
}

// run runs a foreign program to its end, and returns what it printed.
func run(t testing.TB, tool tools.Tool, args ...string) (stdout string) {
	t.Helper()
	stdout, err := try(t, tool, args...)
	must(t, err)
	return stdout
}

func try(t testing.TB, tool tools.Tool, args ...string) (stdout string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool.Path, args...)
	cmd.Env = append(os.Environ(), tool.Env...)
	var out, diagnostics bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diagnostics
	if err := cmd.Run(); err != nil {
		said := diagnostics.String()
		return out.String(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(tool.Path), strings.Join(args, " "), err, said[max(0, len(said)-2000):])
	}
	return out.String(), nil
}
