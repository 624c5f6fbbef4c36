// Package demo is everyhop on one machine, in one process: three services, each
// with its sidecar, on a development trust domain. It tries what is allowed and
// what is not over real connections, and says of each try what came back and why.
//
// Nothing in it is simulated but the services themselves. The reasons are those of
// the sidecars' own audit records and logs, not ones that this package expects. The
// zero Config prints nowhere, and Run refuses it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Config says how the demo talks.
type Config struct {
	Out   io.Writer
	Color bool // Out is a terminal that wants it
	Check bool // end after the tries, instead of staying up
}

// tryTimeout bounds one try, so that an answer that never comes is a wrong one.
const tryTimeout = 10 * time.Second

// Run opens the shop, makes every try, and stays up until ctx ends, unless
// config.Check. It leaves nothing behind. The error says how many answers were
// wrong, or what kept it from trying.
func Run(ctx context.Context, config Config) (err error) {
	if config.Out == nil {
		return errors.New("running the demo: there is nowhere to print")
	}
	out := newTable(config.Out, config.Color)
	out.say("three services, each with its sidecar, on the trust domain example.org; nothing leaves 127.0.0.1")
	dir, err := makeDir()
	if err != nil {
		return fmt.Errorf("running the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	err = show(ctx, dir, out, config.Check)
	if !config.Check && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // being ended is how it ends; a check that was ended has checked nothing
	}
	return err
}

// show opens the shop in dir, presents it, and closes it again.
func show(ctx context.Context, dir string, out *table, check bool) (err error) {
	s, err := openShop(ctx, dir)
	if err != nil {
		return fmt.Errorf("opening the demo: %w", err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return s.present(ctx, out, tries(), check)
}

// makeDir makes the demo's directory. Its name is short and without links: the
// path of a socket may have about a hundred bytes, and curl lines are read.
func makeDir() (string, error) {
	dir, err := os.MkdirTemp("", "everyhop-")
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// present makes the tries, and then stays up, unless check.
func (s *shop) present(ctx context.Context, out *table, sections []section, check bool) error {
	began := time.Now()
	if err := s.tryAll(ctx, out, sections); err != nil {
		return err
	}
	out.sum(time.Since(began))
	var wrong error
	if out.wrong > 0 {
		wrong = fmt.Errorf("%d of %d tries did not come back as they must", out.wrong, out.tries)
	}
	if !check && out.err == nil {
		return errors.Join(wrong, s.stay(ctx, out))
	}
	return errors.Join(wrong, out.err)
}

// tryAll makes the tries of every section, each row printed as it is known, and
// the load at the end. A reader that went away ends it.
func (s *shop) tryAll(ctx context.Context, out *table, sections []section) error {
	for _, part := range sections {
		out.head(part.title)
		for _, t := range part.tries {
			r, err := s.try(ctx, t)
			if err != nil {
				return fmt.Errorf("trying %s: %w", t.what(), err)
			}
			if out.row(r); out.err != nil {
				return fmt.Errorf("printing the demo: %w", out.err)
			}
		}
	}
	out.head("identities change while requests run")
	r, err := s.rotateUnderLoad(ctx)
	if err != nil {
		return fmt.Errorf("rotating SVIDs under load: %w", err)
	}
	out.row(r)
	return nil
}
