package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The pages whose console blocks are run: a line that starts with "$ " is a
// command, the lines under it are what it must print, where "..." stands for
// anything. A command that ends in " &" stays up until the page ends.
var pages = []string{
	"docs/check.md",
	"docs/run.md",
	"docs/identity.md",
	"docs/operate.md",
}

func TestDocs_EveryCommandPrintsWhatThePageShows(t *testing.T) {
	requireTool(t, "curl")
	bin := t.TempDir()
	build(t, filepath.Join(bin, "everyhop"))
	for _, page := range pages {
		t.Run(page, func(t *testing.T) {
			commands := consoleBlocks(t, filepath.Join("..", page))
			if len(commands) == 0 {
				t.Fatalf("%s shows no command", page)
			}
			s := newShell(t, bin)
			for _, c := range commands {
				s.run(c)
			}
		})
	}
}

// requireTool skips where a tool that is no part of Go is absent, except on CI,
// which must provide it.
func requireTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI must provide %s: %v", name, err)
		}
		t.Skipf("NOT RUN: this test needs %s: %v", name, err)
	}
}

func build(t *testing.T, out string) {
	t.Helper()
	if text, err := exec.Command("go", "build", "-o", out, "../cmd/everyhop").CombinedOutput(); err != nil {
		t.Fatalf("building everyhop: %v\n%s", err, text)
	}
}

// command is one "$ " line of a page and what it must print.
type command struct {
	place string
	line  string
	want  []string
}

func consoleBlocks(t *testing.T, path string) []command {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []command
	inside := false
	for i, line := range strings.Split(string(page), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case strings.HasPrefix(line, "$ "):
			all = append(all, command{place: fmt.Sprintf("%s:%d", path, i+1), line: line[2:]})
		case len(all) == 0:
			t.Fatalf("%s:%d: output before any command", path, i+1)
		default:
			last := &all[len(all)-1]
			if strings.HasSuffix(last.line, `\`) {
				last.line = strings.TrimSuffix(last.line, `\`) + strings.TrimSpace(line)
			} else if line != "" {
				last.want = append(last.want, line)
			}
		}
	}
	return all
}

// shell is one folder in which a page's commands run. The ports that pages name
// are replaced by free ones, so that tests do not need them free.
type shell struct {
	t     *testing.T
	dir   string
	env   []string
	ports map[string]string
}

func newShell(t *testing.T, bin string) *shell {
	s := &shell{t: t, dir: t.TempDir(), ports: map[string]string{}}
	s.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "NO_COLOR=1")
	if err := os.CopyFS(filepath.Join(s.dir, "examples"), os.DirFS("../examples")); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(s.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(s.freePorts(string(text))), info.Mode())
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// port is the ports that pages and examples name.
var port = regexp.MustCompile(`\b(8443|8080|15000|9001)\b`)

func (s *shell) freePorts(text string) string {
	return port.ReplaceAllStringFunc(text, func(number string) string {
		if s.ports[number] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				s.t.Fatal(err)
			}
			_, s.ports[number], _ = net.SplitHostPort(l.Addr().String())
			l.Close()
		}
		return s.ports[number]
	})
}

func (s *shell) run(c command) {
	s.t.Helper()
	line := s.freePorts(c.line)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	background := strings.HasSuffix(line, "&") && !strings.HasSuffix(line, "&&")
	if background {
		line = "exec " + strings.TrimSuffix(line, "&")
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir, cmd.Env = s.dir, s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out := newOutput()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		cancel()
		s.t.Fatalf("%s: %v", c.place, err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait(); out.end() }()
	if background {
		s.t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
			<-done
			cancel()
		})
	} else {
		<-done
		cancel()
	}
	for !printed(out.text(), s.want(c)) {
		if !out.more() {
			s.t.Fatalf("%s: $ %s\nprinted:\n%s\nthe page shows:\n%s", c.place, line, out.text(), strings.Join(s.want(c), "\n"))
		}
	}
}

func (s *shell) want(c command) []string {
	want := make([]string, len(c.want))
	for i, line := range c.want {
		want[i] = s.freePorts(line)
	}
	return want
}

// printed reports whether text has the lines wanted, in their order.
func printed(text string, want []string) bool {
	lines := strings.Split(text, "\n")
	for _, w := range want {
		parts := strings.Split(strings.TrimRight(w, " "), "...")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern := regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
		for {
			if len(lines) == 0 {
				return false
			}
			line := strings.TrimRight(lines[0], " \r")
			lines = lines[1:]
			if pattern.MatchString(line) {
				break
			}
		}
	}
	return true
}

// output gathers what a process prints and tells a waiting reader of it.
type output struct {
	mu    sync.Mutex
	news  *sync.Cond
	buf   bytes.Buffer
	seen  int
	ended bool
}

func newOutput() *output {
	o := &output{}
	o.news = sync.NewCond(&o.mu)
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.news.Broadcast()
	return o.buf.Write(p)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.news.Broadcast()
}

// more waits for output that text has not returned yet; false: there is no more.
func (o *output) more() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.buf.Len() == o.seen && !o.ended {
		o.news.Wait()
	}
	return o.buf.Len() > o.seen
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = o.buf.Len()
	return o.buf.String()
}
