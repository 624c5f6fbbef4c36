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

// features are what everyhop may have, each with its like in Envoy. A policy that
// uses one that is not there yet is refused as a whole: that is how we know.
func features() []string { return []string{"limit", "users"} }

// everyhopDo runs everyhop to its end, and returns what it printed.
func (b *bench) everyhopDo(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.binary, args...)
	detach(cmd)
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		err = fmt.Errorf("everyhop %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, text)
	}
	return text, err
}

// openDomain starts a development trust domain, which everyhop's sidecars take
// their identity from, and writes SVIDs of it for everyone else.
func (b *bench) openDomain(ctx context.Context) (err error) {
	b.world.Dev = filepath.Join(b.dir, "dev")
	b.domain, err = startProcess(filepath.Join(b.dir, "dev.out"), nil, b.binary, "dev", "identity", "--dir", b.world.Dev, "web", "orders")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for _, name := range []string{"web.sock", "orders.sock"} {
		if err := awaitFile(ctx, filepath.Join(b.world.Dev, name), b.domain); err != nil {
			return err
		}
	}
	if b.world.Web, err = b.writeSVID(ctx, "web"); err != nil {
		return err
	}
	b.world.Orders, err = b.writeSVID(ctx, "orders")
	return err
}

func awaitFile(ctx context.Context, path string, p *process) error {
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		if err := p.ended(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", path, ctx.Err())
		case <-time.After(nap):
		}
	}
}

// writeSVID returns the folder with svid.pem, key.pem, bundle.pem, and both.pem:
// HAProxy wants certificate and key in one file.
func (b *bench) writeSVID(ctx context.Context, name string) (string, error) {
	folder := filepath.Join(b.dir, "svid-"+name)
	if _, err := b.everyhopDo(ctx, "dev", "svid", "--dir", b.world.Dev, "--dns", hostName, "--ttl", "24h", "--out", folder, name); err != nil {
		return "", err
	}
	svid, err1 := os.ReadFile(filepath.Join(folder, "svid.pem"))
	key, err2 := os.ReadFile(filepath.Join(folder, "key.pem"))
	err3 := os.WriteFile(filepath.Join(folder, "both.pem"), append(svid, key...), 0o600)
	return folder, errors.Join(err1, err2, err3)
}

// findFeatures asks everyhop which features its policies may use, and notes what
// it has not. A token is made only where it is verified.
func (b *bench) findFeatures(ctx context.Context) error {
	for _, feature := range features() {
		w := b.world
		w.Features = append(w.Features[:len(w.Features):len(w.Features)], feature)
		if err := b.check(ctx, w, "everyhop-in.yaml"); err != nil {
			b.note("NOT RUN: %s in everyhop's policy, nor its like in envoy-checks: %s", feature, firstProblem(err))
			continue
		}
		b.world.Features = w.Features
		if feature == "users" {
			token, err := b.everyhopDo(ctx, "dev", "token", "--dir", b.world.Dev, "--audience", "orders",
				"--subject", "ada", "--scope", "orders:read", "--lifetime", "1h")
			if err != nil {
				return err
			}
			b.world.Token = token
		}
	}
	return nil
}

// check asks everyhop whether it takes a policy.
func (b *bench) check(ctx context.Context, w world, config string) error {
	p, err := newPlace(b.dir, "check", w)
	if err != nil {
		return err
	}
	defer os.RemoveAll(p.Dir)
	if p.Config, err = p.render(config); err != nil {
		return err
	}
	_, err = b.everyhopDo(ctx, "check", p.Config)
	return err
}

// firstProblem is the line of an error that says what is not there yet.
func firstProblem(err error) string {
	for line := range strings.Lines(err.Error()) {
		if strings.Contains(line, "supported yet") {
			end := strings.LastIndex(line, ".yaml:") + len(".yaml:") // of the path
			return strings.TrimSpace(strings.TrimLeft(line[end:], "0123456789: "))
		}
	}
	return err.Error()
}
