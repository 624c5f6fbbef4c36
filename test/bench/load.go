package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// loadSlack is how long a load generator may take beyond what it was told.
const loadSlack = 20 * time.Second

// wrk loads a path over conns connections, and returns how many requests were
// answered. An answer that is not 2xx, or a broken connection, is an error: what
// fails fast must not look cheap.
func (b *bench) wrk(ctx context.Context, conns int, url string) (int, error) {
	args := []string{"-t1", fmt.Sprintf("-c%d", conns), fmt.Sprintf("-d%ds", int(b.duration.Seconds()))}
	if b.world.Token != "" {
		args = append(args, "-H", "Authorization: Bearer "+b.world.Token)
	}
	out, err := b.generate(ctx, "wrk", append(args, url)...)
	if err != nil {
		return 0, err
	}
	return parseWrk(out)
}

// h2load is the same over HTTP/2 without TLS, with so many streams on each
// connection.
func (b *bench) h2load(ctx context.Context, conns, streams int, url string) (int, error) {
	args := []string{"-t1", fmt.Sprintf("-c%d", conns), fmt.Sprintf("-m%d", streams), fmt.Sprintf("-D%d", int(b.duration.Seconds()))}
	if b.world.Token != "" {
		args = append(args, "-H", "Authorization: Bearer "+b.world.Token)
	}
	out, err := b.generate(ctx, "h2load", append(args, url)...)
	if err != nil {
		return 0, err
	}
	return parseH2load(out)
}

func (b *bench) generate(ctx context.Context, name string, args ...string) (string, error) {
	t := b.tools.get(ctx, name)
	if t.missing != nil {
		return "", t.missing
	}
	ctx, cancel := context.WithTimeout(ctx, b.duration+loadSlack)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.path, args...)
	cmd.Env = append(os.Environ(), t.env...)
	detach(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(out), nil
}

var (
	wrkTotal  = regexp.MustCompile(`(?m)^\s*(\d+) requests in `)
	wrkErrors = regexp.MustCompile(`(?m)^\s*(Non-2xx or 3xx responses: .*|Socket errors: .*)$`)

	h2loadTotal  = regexp.MustCompile(`(?m)^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored`)
	h2loadStatus = regexp.MustCompile(`(?m)^status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
)

// parseWrk reads the number of requests from what wrk prints.
func parseWrk(out string) (int, error) {
	if bad := wrkErrors.FindString(out); bad != "" {
		return 0, fmt.Errorf("wrk says: %s", bad)
	}
	total := wrkTotal.FindStringSubmatch(out)
	if total == nil {
		return 0, fmt.Errorf("wrk does not say how many requests it made: %q", out)
	}
	return positive(total[1])
}

// parseH2load reads the number of requests that succeeded from what h2load prints.
func parseH2load(out string) (int, error) {
	total, status := h2loadTotal.FindStringSubmatch(out), h2loadStatus.FindStringSubmatch(out)
	if total == nil || status == nil {
		return 0, fmt.Errorf("h2load does not say how many requests it made: %q", out)
	}
	for _, bad := range append(total[2:], status[1:]...) {
		if bad != "0" {
			return 0, fmt.Errorf("h2load says: %s; %s", total[0], status[0])
		}
	}
	return positive(total[1])
}

func positive(digits string) (int, error) {
	n, err := strconv.Atoi(digits)
	if err == nil && n == 0 {
		err = errors.New("no request was answered")
	}
	return n, err
}
