package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
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

func TestToolbox_TakesWhatIsInItsCacheWithItsLibraries(t *testing.T) {
	cache, none := t.TempDir(), t.TempDir()
	t.Setenv("PATH", none)
	lay(t, cache, "h2load/usr/bin/h2load", "echo h2load version: 9")
	lay(t, cache, "h2load/usr/lib/x86_64-linux-gnu/libx.so", "")
	lay(t, cache, "envoy-"+envoyVersion+"/lib/python3.11/site-packages/envoy/_bin/envoy", "echo; echo envoy version: 7")
	lay(t, cache, "ghostunnel-"+ghostunnelVersion, "")
	b := &toolbox{cache: cache, log: io.Discard, found: map[string]tool{}}
	for _, name := range []string{"h2load", "envoy", "ghostunnel"} {
		if got := b.get(context.Background(), name); got.missing != nil || !strings.HasPrefix(got.path, cache) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if env := b.found["h2load"].env; len(env) != 1 || !strings.HasSuffix(env[0], "h2load/usr/lib/x86_64-linux-gnu") {
		t.Errorf("the libraries of h2load are not found: %v", env)
	}
	t.Setenv("PATH", "/bin:/usr/bin")
	if got := strings.Join(b.versions(), "; "); got != "envoy 7; ghostunnel "+ghostunnelVersion+"; h2load 9" {
		t.Errorf("the versions are %q", got)
	}
}

func TestToolbox_SaysOnceWhyAToolIsMissing(t *testing.T) {
	none := t.TempDir()
	lay(t, none, "apt-get", `echo "$1: no network" >&2; exit 1`)
	lay(t, none, "python3", `echo "no venv" >&2; exit 1`)
	t.Setenv("PATH", none)
	var log strings.Builder
	b := &toolbox{cache: t.TempDir(), log: &log, found: map[string]tool{}}
	for name, says := range map[string]string{"h2load": "install: no network", "envoy": "no venv", "other": "no one knows"} {
		first := b.get(context.Background(), name)
		said := log.Len()
		second := b.get(context.Background(), name)
		if first.missing == nil || !strings.Contains(first.missing.Error(), says) {
			t.Errorf("%s: %v", name, first.missing)
		}
		if second.missing != first.missing || log.Len() != said {
			t.Errorf("%s was looked for again", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(b.cache, "h2load", "*")); len(left) > 0 {
		t.Errorf("what was not fetched looks as if it was: %v", left)
	}
}

func TestToolbox_UnpacksADebianPackageWithWhatItNeeds(t *testing.T) {
	fake := t.TempDir()
	lay(t, fake, "apt-get", `for a; do case $a in Dir::Cache::archives=*) dir=${a#*=};; esac; done; : >"$dir/h2load.deb"; : >"$dir/lib.deb"`)
	lay(t, fake, "dpkg-deb", `mkdir -p "$3/usr/bin"; : >"$3/usr/bin/h2load"; echo "$2" >>"$3/unpacked"`)
	t.Setenv("PATH", fake+":/bin:/usr/bin")
	b := &toolbox{cache: t.TempDir(), log: io.Discard, found: map[string]tool{}}
	root := filepath.Join(b.cache, "h2load")
	if err := b.unpack(context.Background(), "nghttp2-client", root); err != nil {
		t.Fatal(err)
	}
	if _, ok := unpacked(root, "h2load"); !ok {
		t.Error("there is no h2load")
	}
	if text, err := os.ReadFile(filepath.Join(root, "unpacked")); err != nil || strings.Count(string(text), ".deb") != 2 {
		t.Errorf("unpacked: %q, %v", text, err)
	}
}
