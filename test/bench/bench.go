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

const straight = "direct" // what the app is called without a pair before it

// bench is one run.
type bench struct {
	options
	log    io.Writer // what is being done
	dir    string    // everything that the run writes
	binary string    // everyhop
	tools  *toolbox
	domain *process
	app    *process
	world  world

	up      []*running
	results samples
	notes   []string // what could not be run, and what failed
	broken  bool     // everyhop itself failed
}

// note keeps a line for the end, where it is printed beside the table.
func (b *bench) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if slices.Contains(b.notes, line) {
		return
	}
	b.notes = append(b.notes, line)
	fmt.Fprintln(b.log, line)
}

// run does everything from the build to the last round. What it started it has
// stopped when it returns, whatever happened.
func (b *bench) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.timeout, fmt.Errorf("-timeout %s is over", b.timeout))
	defer cancel()
	if b.dir, err = os.MkdirTemp("", "everyhop-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	defer b.stop()
	err = b.setUp(ctx)
	for round := 0; err == nil && round < b.rounds; round++ {
		err = b.round(ctx, round)
	}
	if err == nil && b.profile != "" {
		err = b.profiles(ctx)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (b *bench) stop() {
	for _, r := range b.up {
		r.stop()
	}
	b.app.stop()
	b.domain.stop()
}

func (b *bench) setUp(ctx context.Context) error {
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
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", b.binary, "github.com/everyhop/everyhop/cmd/everyhop"}
	if b.profile != "" {
		args = slices.DeleteFunc(args, func(s string) bool { return strings.HasPrefix(s, "-ldflags") }) // perf needs the symbols
	}
	if err := b.tools.do(ctx, "", []string{"CGO_ENABLED=0"}, "go", args...); err != nil {
		return err
	}
	return b.weigh()
}

func (b *bench) weigh() error {
	file, err := os.Stat(b.binary)
	if err == nil && b.profile == "" {
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

// setUpPair starts a pair that is wanted. One that cannot run is noted; only ours
// must.
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
	case p.in.tool == own:
		return fmt.Errorf("%s: %w", p.name, err)
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

// round measures each cell of each pair once. The pairs' order turns from round to
// round, so that none is always the first after a pause.
func (b *bench) round(ctx context.Context, round int) error {
	for _, c := range b.cells {
		if !b.equipped(ctx, c) {
			continue
		}
		if c.direct {
			b.measure(ctx, round, c, &running{place: place{Plain: b.world.App}})
		}
		turn := 0
		if len(b.up) > 0 {
			turn = round % len(b.up)
		}
		for _, r := range slices.Concat(b.up[turn:], b.up[:turn]) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if why := c.except[r.name]; why != "" {
				b.note("NOT RUN: %s on %s: %s", c.name, r.name, why)
			} else if r.takes(c.carries) {
				b.measure(ctx, round, c, r)
			}
		}
	}
	return nil
}

// equipped says whether the tools of a cell are there.
func (b *bench) equipped(ctx context.Context, c cell) bool {
	for _, name := range c.tools {
		if t := b.tools.get(ctx, name); t.missing != nil {
			b.note("NOT RUN: %s: %v", c.name, t.missing)
			return false
		}
	}
	return true
}

func (b *bench) measure(ctx context.Context, round int, c cell, r *running) {
	name := straight
	if r.pair != nil {
		name = r.name
	}
	values, err := c.run(ctx, b, r)
	if r.pair != nil {
		err = errors.Join(err, r.forget())
	}
	if err != nil {
		if ctx.Err() == nil {
			b.note("FAILED: %s on %s in round %d: %v", c.name, name, round+1, err)
			b.broken = b.broken || r.pair != nil && r.in != nil && r.pair.in.tool == own
		}
		return
	}
	line := fmt.Sprintf("round %d/%d  %-12s %-13s", round+1, b.rounds, c.name, name)
	for i, v := range values {
		b.results.add(c.measures[i].name, name, round, v)
		line += fmt.Sprintf("  %.1f %s", v, c.measures[i].unit)
	}
	fmt.Fprintln(b.log, line)
}

// profiles records where everyhop's processor time goes, each cell once more and
// apart from the rounds, for perf report.
func (b *bench) profiles(ctx context.Context) error {
	perf, err := exec.LookPath("perf")
	if err != nil {
		b.note("NOT RUN: -profile: %v", err)
		return nil
	}
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return err
	}
	for _, r := range b.up {
		for _, c := range b.cells {
			if r.in == nil || r.pair.in.tool != own || !r.takes(c.carries) || c.name == "idle" || !b.equipped(ctx, c) {
				continue
			}
			if err := b.profileOne(ctx, perf, r, c); err != nil {
				b.note("FAILED: profile of %s on %s: %v", c.name, r.name, err)
			}
		}
	}
	return ctx.Err()
}

func (b *bench) profileOne(ctx context.Context, perf string, r *running, c cell) error {
	pids := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(r.pids())), ","), "[]")
	path := filepath.Join(b.profile, r.name+"-"+c.name+".perf")
	p, err := startProcess(filepath.Join(b.dir, "perf.out"), nil, perf, "record", "-F", "999", "-g", "-o", path, "-p", pids)
	if err != nil {
		return err
	}
	defer p.stop()
	time.Sleep(500 * time.Millisecond) // perf does not say when it has begun
	if _, err := c.run(ctx, b, r); err != nil {
		return errors.Join(err, p.ended())
	}
	fmt.Fprintf(b.log, "profile: perf report -i %s\n", path)
	return errors.Join(p.ended(), r.forget())
}
