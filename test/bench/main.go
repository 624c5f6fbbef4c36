// Command bench measures everyhop beside nginx, HAProxy, Envoy and ghostunnel: the
// processor time of a request, latency at a steady rate, new connections, idle
// memory. It is a program and not a Go benchmark because what counts is a ratio to
// peers that ran in the same minutes on the same machine.
//
// Everything listens on loopback, and ends with the run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	runtime.LockOSThread() // what we start ends with the thread that started it: detach
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the exit code: 0 if everyhop could be measured, whatever the figures are.
func run(ctx context.Context, args []string, out, log io.Writer) int {
	o, err := parseOptions(args, log)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(log, "bench:", err)
		return 2
	}
	b := &bench{
		options: o, log: log, results: samples{},
		tools: &toolbox{cache: o.cache, log: log, found: map[string]tool{}},
	}
	err = b.run(ctx)
	if b.measured() {
		b.report(out)
	} else if err == nil {
		err = errors.New("nothing was measured")
	}
	switch {
	case err != nil:
		fmt.Fprintln(log, "bench:", err)
		return 1
	case b.broken:
		fmt.Fprintln(log, "bench: everyhop failed, see above")
		return 1
	}
	return 0
}
