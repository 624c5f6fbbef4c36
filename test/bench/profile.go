package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

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
			if r.pair.in.tool != own || !r.takes(c.carries) || c.name == "idle" || !b.equipped(ctx, c) {
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
