package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tempDir is where the demo makes its directory. t.TempDir has a path that is too
// long for sockets.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	return dir
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestRun_EveryTryComesBackAsItMust(t *testing.T) {
	dir := tempDir(t)
	var out bytes.Buffer
	if err := Run(t.Context(), Config{Out: &out, Check: true}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	mustBeEmpty(t, dir)
	goleak.VerifyNone(t)
	text := out.String()
	if n := strings.Count(text, "\nok "); n < 24 {
		t.Errorf("%d tries are marked as right, fewer than there are:\n%s", n, text)
	}
	if !regexp.MustCompile(`\n(\d+) tries, \d+ as they must be in \d+\.\d s\n$`).MatchString(text) {
		t.Errorf("no sum at the end:\n%s", text)
	}
	if strings.ContainsRune(text, '\x1b') {
		t.Error("escape codes where no colour is wanted")
	}
	for line := range strings.Lines(text) {
		if len([]rune(line)) > 111 { // with its end
			t.Errorf("wider than 110 columns: %s", line)
		}
	}
}

func TestRun_AWrongAnswerIsMarkedAndIsTheError(t *testing.T) {
	good := try{by: "web", to: "orders", ask: "GET /orders/7", want: allowed("web")}
	wants := map[string]want{
		"nothing at all":   {},
		"another status":   {status: 204, reason: "allowed", caller: "spiffe://example.org/web"},
		"another reason":   {status: 200, reason: "caller_banned", caller: "spiffe://example.org/web"},
		"another caller":   allowed("billing"),
		"a refusal":        refused(policy.RouteUndeclared),
		"a TLS alert":      cut("TLS alert", ""),
		"an app untouched": {status: 200, reason: "allowed"},
		"another why":      {status: 200, reason: "allowed", why: "by chance", caller: "spiffe://example.org/web"},
		"something unseen": allowed("web", "get /orders/7"),
	}
	wrong := section{title: "wrong", tries: []try{good}}
	for name, w := range wants {
		t := good
		t.note, t.want = name, w
		wrong.tries = append(wrong.tries, t)
	}
	denied := try{by: "mallory", to: "orders", ask: "GET /orders/7", want: allowed("mallory")}
	letIn := try{by: "web*", to: "orders", ask: "GET /orders/7", want: cut("TLS alert: bad certificate", "")}
	wrong.tries = append(wrong.tries, denied, letIn)

	tempDir(t)
	s := open(t)
	var out bytes.Buffer
	err := s.present(t.Context(), newTable(&out, true), []section{wrong}, true)
	if err == nil || err.Error() != "11 of 13 tries did not come back as they must" {
		t.Errorf("got error %v\n%s", err, out.String())
	}
	if n := strings.Count(out.String(), "WRONG: expected "); n != 11 {
		t.Errorf("%d are marked, not 11:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), "\x1b[1;31m13 tries, 2 as they must be, 11 WRONG\x1b[0m") {
		t.Errorf("the sum does not say so in red:\n%s", out.String())
	}
}

func open(t *testing.T) *shop {
	t.Helper()
	dir, err := makeDir()
	if err != nil {
		t.Fatal(err)
	}
	s, err := openShop(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// screen is an output that can be waited for.
type screen struct {
	mu   sync.Mutex
	text string
	more chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += string(p)
	close(s.more)
	s.more = make(chan struct{})
	return len(p), nil
}

func (s *screen) await(t *testing.T, text string, ended <-chan error) string {
	t.Helper()
	for {
		s.mu.Lock()
		got, more := s.text, s.more
		s.mu.Unlock()
		if strings.Contains(got, text) {
			return got
		}
		select {
		case <-more:
		case err := <-ended:
			t.Fatalf("it ended before it said %q: %v\n%s", text, err, got)
		case <-time.After(time.Minute):
			t.Fatalf("it never said %q:\n%s", text, got)
		}
	}
}

// start runs the demo; the function ends it, and returns its error.
func start(t *testing.T, check bool) (*screen, chan error, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := &screen{more: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Config{Out: out, Check: check}) }()
	t.Cleanup(cancel)
	return out, ended, func() error { cancel(); return <-ended }
}

func TestRun_ItsCurlLinesWorkWhenPasted(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("NOT TESTED: there is no curl here to paste the lines to")
	}
	dir := tempDir(t)
	out, ended, stop := start(t, false)
	text := out.await(t, "Ctrl-C ends it", ended)
	lines := regexp.MustCompile(`(?m)^  curl .*$`).FindAllString(text, -1)
	want := []string{`^HTTP/\S+ 200\b`, `^HTTP/\S+ 403\b`, `^HTTP/1.1 200\b`, `"generation": \d`}
	if len(lines) != len(want) {
		t.Fatalf("it printed %q", lines)
	}
	for i, line := range lines {
		paste := exec.CommandContext(t.Context(), "sh", "-c", line+" --silent --show-error --max-time 20")
		got, err := paste.CombinedOutput()
		if err != nil || !regexp.MustCompile(want[i]).Match(got) {
			t.Errorf("%s\nprinted %s (%v), without %s", line, got, err, want[i])
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	mustBeEmpty(t, dir)
}

func TestRun_EndsWhereverItIsInterrupted(t *testing.T) {
	for _, at := range []string{"three services", "\nok ", "identities change"} {
		t.Run(strings.TrimSpace(at), func(t *testing.T) {
			dir := tempDir(t)
			out, ended, stop := start(t, false)
			out.await(t, at, ended)
			if err := stop(); err != nil {
				t.Error(err)
			}
			mustBeEmpty(t, dir)
		})
	}
}

func TestRun_ACheckThatIsInterruptedHasFailed(t *testing.T) {
	dir := tempDir(t)
	out, ended, stop := start(t, true)
	out.await(t, "\nok ", ended)
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	mustBeEmpty(t, dir)
}

func TestRun_AReaderThatWentAwayEndsIt(t *testing.T) {
	dir := tempDir(t)
	r, w := io.Pipe()
	r.Close()
	if err := Run(t.Context(), Config{Out: w}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	mustBeEmpty(t, dir)
}

func TestRun_TheZeroConfigIsRefused(t *testing.T) {
	if err := Run(t.Context(), Config{}); err == nil {
		t.Error("it ran")
	}
}
