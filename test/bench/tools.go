package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/everyhop/everyhop/test/tools"
)

// tool is a foreign program, or why it cannot be had.
type tool struct {
	path    string
	env     []string
	missing error
}

// toolbox finds tools, or fetches them into the cache folder, once each.
type toolbox struct {
	cache string
	log   io.Writer
	found map[string]tool
}

// get is the tool of that name; the reason why it is missing is kept as well.
func (b *toolbox) get(ctx context.Context, name string) tool {
	if t, ok := b.found[name]; ok {
		return t
	}
	box := tools.Box{Cache: b.cache, Log: b.log}
	got, err := box.Get(ctx, name)
	t := tool{path: got.Path, env: got.Env, missing: err}
	b.found[name] = t
	return t
}

// versions are the first line that each foreign tool says of itself.
func (b *toolbox) versions() []string {
	var lines []string
	for name, t := range b.found {
		if t.missing != nil || name == own {
			continue
		}
		if name == "ghostunnel" { // what it says of itself is put in by its own makefile
			lines = append(lines, strings.Replace(filepath.Base(t.path), "-", " ", 1))
			continue
		}
		flag := "--version"
		if name == "nginx" || name == "haproxy" || name == "wrk" {
			flag = "-v"
		}
		cmd := exec.Command(t.path, flag)
		cmd.Env = append(os.Environ(), t.env...)
		out, _ := cmd.CombinedOutput() // wrk exits 1 when asked
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		lines = append(lines, name+" "+lastWords(line))
	}
	slices.Sort(lines)
	return lines
}

// lastWords is what is new in a line: Envoy's begins with its own path.
func lastWords(line string) string {
	if _, rest, ok := strings.Cut(line, "version: "); ok {
		return rest
	}
	return line
}

// do runs a command to its end.
func (b *toolbox) do(ctx context.Context, dir string, env []string, name string, args ...string) error {
	fmt.Fprintf(b.log, "+ %s %s\n", name, strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	detach(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		text := strings.TrimSpace(string(out))
		return fmt.Errorf("%s %s: %w: %s", name, args[0], err, text[max(0, len(text)-tailBytes):])
	}
	return nil
}
