package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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

	machine string // that everything ran on
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

// measured says whether there is any figure of a cell.
func (b *bench) measured() bool {
	return slices.ContainsFunc(allMeasures(b.cells), func(m measure) bool { return m != binary() && len(b.results[m.name]) > 0 })
}

func (b *bench) stop() {
	for _, r := range b.up {
		r.stop()
	}
	b.app.stop()
	b.domain.stop()
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
			b.broken = b.broken || r.pair != nil && r.pair.in.tool == own
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
