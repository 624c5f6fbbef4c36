package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lay makes an executable at root/path.
func lay(t *testing.T, root, path, script string) string {
	t.Helper()
	file := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestToolbox_TellsTheVersionsOfWhatItHas(t *testing.T) {
	dir := t.TempDir()
	b := &toolbox{found: map[string]tool{
		own:          {path: "everyhop"},
		"h2load":     {path: lay(t, dir, "h2load", "echo h2load version: 9")},
		"envoy":      {path: lay(t, dir, "envoy", "echo; echo envoy version: 7")},
		"nginx":      {path: lay(t, dir, "nginx", "[ $1 = -v ] && echo nginx 1.22 >&2")},
		"ghostunnel": {path: "/cache/ghostunnel-v1"},
		"haproxy":    {missing: os.ErrNotExist},
	}}
	if got := strings.Join(b.versions(), "; "); got != "envoy 7; ghostunnel v1; h2load 9; nginx nginx 1.22" {
		t.Errorf("the versions are %q", got)
	}
}

func TestToolbox_SaysOnceWhyAToolIsMissing(t *testing.T) {
	none := t.TempDir()
	lay(t, none, "apt-get", `echo "$1: no network" >&2; exit 1`)
	t.Setenv("PATH", none)
	var log strings.Builder
	b := &toolbox{cache: t.TempDir(), log: &log, found: map[string]tool{}}
	first := b.get(context.Background(), "wrk")
	said := log.Len()
	second := b.get(context.Background(), "wrk")
	if first.missing == nil || !strings.Contains(first.missing.Error(), "install: no network") {
		t.Errorf("wrk: %v", first.missing)
	}
	if second.missing != first.missing || log.Len() != said {
		t.Error("wrk was looked for again")
	}
}
