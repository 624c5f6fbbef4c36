package tools

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// findDebian takes what is installed, or else what was unpacked.
func (b *Box) findDebian(name string) (Tool, error) {
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return Tool{Path: found, Root: "/"}, nil
		}
	}
	root := filepath.Join(b.Cache, packages[name])
	for _, folder := range []string{"usr/sbin", "usr/bin"} {
		path := filepath.Join(root, folder, name)
		if _, err := os.Stat(path); err == nil {
			libraries, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*"))
			return Tool{Path: path, Env: []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}, Root: root}, nil
		}
	}
	return Tool{}, fmt.Errorf("%s of Debian's package %s is neither installed nor in %s", name, packages[name], root)
}

// unpack downloads a package with what of its dependencies is not installed, and
// unpacks all of it into one folder, which is there only when it is whole.
func (b *Box) unpack(ctx context.Context, pkg string) error {
	root := filepath.Join(b.Cache, pkg)
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
	files, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := b.do(ctx, "", nil, "dpkg-deb", "--extract", file, fresh); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(archives); err != nil {
		return err
	}
	if err := os.RemoveAll(root); err != nil { // of an older layout
		return err
	}
	return os.Rename(fresh, root)
}
