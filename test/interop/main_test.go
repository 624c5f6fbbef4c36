package interop

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/test/tools"
)

// EVERYHOP_LONG=1 runs everything at its full size.
var long = os.Getenv("EVERYHOP_LONG") == "1"

// patient is longer than anything takes that is no fault.
const patient = 30 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = sync.OnceValues(func() (string, error) { return build(filepath.Join(dir, "everyhop")) })
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// binary builds everyhop, once.
var binary func() (path string, err error)

func build(path string) (string, error) {
	out, err := exec.Command("go", "build", "-o", path, "github.com/everyhop/everyhop/cmd/everyhop").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building everyhop: %w\n%s", err, out)
	}
	return path, nil
}

func everyhop(t testing.TB) string {
	t.Helper()
	path, err := binary()
	must(t, err)
	return path
}

// scale is how much of something to do: all of it costs minutes, and the race
// detector makes everything several times as slow.
func scale(short, full int) int {
	switch {
	case long:
		return full
	case raced:
		return short / 4
	}
	return short
}

// need is a foreign program. Without it the test is skipped, except on CI, which
// must provide it.
func need(t testing.TB, name string) tools.Tool {
	t.Helper()
	cache, err := tools.DefaultCache()
	must(t, err)
	tool, err := (&tools.Box{Cache: cache}).Find(name)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("CI must provide it: %v", err)
	default:
		t.Skipf("NOT RUN: %v: bash test/interop/install.sh gets it", err)
	}
	return tool
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
