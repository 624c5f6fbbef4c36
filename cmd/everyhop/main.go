// Command everyhop is a zero-trust sidecar in one process: it proves who is on
// both ends of every hop, and lets a request pass only if a local policy file
// declares it.
//
// This package holds the commands, their flags, signals and exit codes, and no
// more: 0 is success, 1 a failure, 2 a command line that makes no sense, and 3 the
// denial that explain explains.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// version is set at link time for a release.
var version string

func main() { os.Exit(run()) }

// run gives the command line the outside world, and nothing else here touches it.
func run() int {
	// A reader of our output that goes away is an error to handle, not a death:
	// the audit log may be that output.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal means it
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	return execute(ctx, os.Args[1:], world{
		in:       os.Stdin,
		out:      os.Stdout,
		err:      os.Stderr,
		env:      os.LookupEnv,
		hangup:   hangup,
		terminal: isTerminal,
	})
}

// world is what a command sees of the outside.
type world struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) (string, bool)
	hangup   <-chan os.Signal // read the policy again, reopen the audit log
	terminal func(io.Writer) bool
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
