package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func (b *bench) setUp(ctx context.Context) error {
	b.machine = describeMachine()
	fmt.Fprintln(b.log, b.machine)
	if err := b.build(ctx); err != nil {
		return err
	}
	b.tools.found[own] = tool{path: b.binary}
	if b.gomaxprocs > 0 {
		b.tools.found[own] = tool{path: b.binary, env: []string{fmt.Sprintf("GOMAXPROCS=%d", b.gomaxprocs)}}
	}
	if err := b.openDomain(ctx); err != nil {
		return err
	}
	if err := b.startApp(ctx); err != nil {
		return err
	}
	if err := b.findFeatures(ctx); err != nil {
		return err
	}
	for _, p := range pairs() {
		if err := b.setUpPair(ctx, &p); err != nil {
			return err
		}
	}
	return nil
}

// build makes everyhop as it is released, from the module that we are in.
func (b *bench) build(ctx context.Context) error {
	if b.given != "" {
		path, err := filepath.Abs(b.given)
		b.binary = path
		return errors.Join(err, b.weigh())
	}
	b.binary = filepath.Join(b.dir, own)
	strip := "-ldflags=-s -w"
	if b.profile != "" {
		strip = "-ldflags=" // perf needs the symbols
	}
	if err := b.tools.do(ctx, "", []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-tags=grpcnotrace", strip, "-o", b.binary,
		"github.com/everyhop/everyhop/cmd/everyhop"); err != nil {
		return err
	}
	return b.weigh()
}

func (b *bench) weigh() error {
	file, err := os.Stat(b.binary)
	if err == nil && (b.given != "" || b.profile == "") { // with symbols it is not what is released
		b.results.add(binary().name, own, 0, float64(file.Size())/1e6)
	}
	return err
}

// startApp starts what is behind every pair, and waits until it answers.
func (b *bench) startApp(ctx context.Context) error {
	t := b.tools.get(ctx, "nginx")
	if t.missing != nil {
		return fmt.Errorf("there is no app to put behind the pairs: %w", t.missing)
	}
	place, err := newPlace(b.dir, "app", b.world)
	if err != nil {
		return err
	}
	if place.App, err = freeAddress(); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(place.Dir, "files"), 0o755); err != nil {
		return err
	}
	for path, size := range sizes() {
		if name, isFile := strings.CutPrefix(path, "/files/"); isFile {
			if err := os.WriteFile(filepath.Join(place.Dir, "files", name), slices.Repeat([]byte("0123456789abcdef"), int(size/16)), 0o644); err != nil {
				return err
			}
		}
	}
	config, err := place.render("app.nginx")
	if err != nil {
		return err
	}
	b.app, err = startProcess(filepath.Join(place.Dir, "out"), t.env, t.path, "-e", "stderr", "-p", place.Dir, "-c", config)
	if err != nil {
		return err
	}
	b.world.App, place.Plain = place.App, place.App
	r := &running{pair: &pair{name: "the app"}, place: place, in: b.app, out: b.app}
	return r.await(ctx)
}

// setUpPair starts a pair that is wanted. One that cannot run is noted; without
// everyhop there is nothing to measure.
func (b *bench) setUpPair(ctx context.Context, p *pair) error {
	if !b.wants(p) {
		return nil
	}
	if p.name == ours(carriesTCP) {
		for _, config := range []string{p.in.config, p.out.config} {
			if err := b.check(ctx, b.world, config); err != nil {
				b.note("NOT RUN: %s: not there yet: %s", p.name, firstProblem(err))
				return ctx.Err()
			}
		}
	}
	r, err := b.start(ctx, p)
	switch {
	case err == nil:
		b.up = append(b.up, r)
		fmt.Fprintf(b.log, "%s is up\n", p.name)
	case ctx.Err() != nil:
		return ctx.Err()
	case p.name == own:
		return fmt.Errorf("%s: %w", p.name, err)
	case p.in.tool == own:
		b.broken = true
		b.note("FAILED: %s: %v", p.name, err)
	default:
		b.note("NOT RUN: %s: %v", p.name, err)
	}
	return nil
}

// wants says whether a pair was asked for, and takes part in any cell that was.
func (b *bench) wants(p *pair) bool {
	takes := func(c cell) bool { return p.takes(c.carries) }
	if !slices.ContainsFunc(b.cells, takes) {
		return false
	}
	switch p.name {
	case ours(carriesHTTP):
		return true
	case ours(carriesTCP): // for its own cells only: the others have everyhop already
		return slices.ContainsFunc(b.cells, func(c cell) bool { return c.carries == carriesTCP })
	}
	return slices.Contains(b.pairs, p.name)
}
