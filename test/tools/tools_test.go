package tools

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lay makes an executable at root/path.
func lay(t *testing.T, root, path, script string) {
	t.Helper()
	file := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestFind_TakesWhatIsInTheCacheWithItsLibraries(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("PATH", t.TempDir())
	lay(t, cache, "nghttp2-client/usr/bin/h2load", "")
	lay(t, cache, "nghttp2-client/usr/lib/x86_64-linux-gnu/libx.so", "")
	lay(t, cache, "envoy-"+envoyVersion+"/lib/python3.11/site-packages/envoy/_bin/envoy", "")
	lay(t, cache, "ghostunnel-"+modules["ghostunnel"].version, "")
	b := &Box{Cache: cache}
	for _, name := range []string{"h2load", "envoy", "ghostunnel"} {
		if got, err := b.Find(name); err != nil || !strings.HasPrefix(got.Path, cache) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, _ := b.Find("h2load"); len(got.Env) != 1 || !strings.HasSuffix(got.Env[0], "nghttp2-client/usr/lib/x86_64-linux-gnu") {
		t.Errorf("the libraries of h2load are not found: %v", got.Env)
	}
}

func TestFind_PrefersWhatIsInstalled(t *testing.T) {
	installed := t.TempDir()
	t.Setenv("PATH", installed)
	lay(t, installed, "wrk", "")
	b := &Box{Cache: t.TempDir()}
	lay(t, b.Cache, "wrk/usr/bin/wrk", "")
	if got, err := b.Find("wrk"); err != nil || got.Path != filepath.Join(installed, "wrk") || got.Root != "/" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestGet_SaysWhyAToolCannotBeHadAndLeavesNoHalfOfIt(t *testing.T) {
	none := t.TempDir()
	for _, name := range []string{"apt-get", "python3", "go"} {
		lay(t, none, name, `echo "`+name+` $1: no network" >&2; exit 1`)
	}
	t.Setenv("PATH", none)
	for name, says := range map[string]string{
		"wrk": "apt-get install: no network", "envoy": "python3 -m: no network", "ghostunnel": "go mod: no network", "other": "no one knows",
	} {
		b := &Box{Cache: t.TempDir()}
		if _, err := b.Get(context.Background(), name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := b.Find(name); err == nil {
			t.Errorf("%s is found, and was not fetched", name)
		}
	}
}

func TestGet_UnpacksADebianPackageWithWhatItNeeds(t *testing.T) {
	fake := t.TempDir()
	lay(t, fake, "apt-get", `for a; do case $a in Dir::Cache::archives=*) dir=${a#*=};; esac; done; : >"$dir/wrk.deb"; : >"$dir/lib.deb"`)
	lay(t, fake, "dpkg-deb", `mkdir -p "$3/usr/bin"; : >"$3/usr/bin/wrk"; echo "$2" >>"$3/unpacked"`)
	lay(t, fake, "mkdir", `exec /bin/mkdir "$@"`)
	t.Setenv("PATH", fake)
	var log strings.Builder
	b := &Box{Cache: t.TempDir(), Log: &log}
	got, err := b.Get(context.Background(), "wrk")
	if err != nil || got.Root != filepath.Join(b.Cache, "wrk") {
		t.Fatalf("%+v, %v", got, err)
	}
	if text, err := os.ReadFile(filepath.Join(got.Root, "unpacked")); err != nil || strings.Count(string(text), ".deb") != 2 {
		t.Errorf("unpacked: %q, %v", text, err)
	}
	if !strings.Contains(log.String(), "+ apt-get install ") {
		t.Errorf("what it did is not shown: %q", log.String())
	}
}

func TestNames_AreAllThatFindKnows(t *testing.T) {
	for _, name := range []string{"nginx", "envoy", "ghostunnel", "grpc-interop-client"} {
		if !slices.Contains(Names(), name) {
			t.Errorf("%s is not named", name)
		}
	}
}
