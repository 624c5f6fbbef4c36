package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/everyhop/everyhop/policy"
)

// The exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
	exitDenied  = 3
)

const rootHelp = `everyhop is a zero-trust sidecar in one process. It runs beside a service, takes
the service's SPIFFE identity, speaks TLS 1.3 with both certificates on every
hop, and lets a request pass only if a local file declares it.`

// printUsage is no template: text/template calls methods by their names, and the
// linker, which cannot know which, would then keep those of every type there is.
func printUsage(cmd *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s", cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\n\nCommands:")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, "\n  %-*s %s", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	if cmd.HasAvailableLocalFlags() {
		b.WriteString("\n\nFlags:\n" + strings.TrimRightFunc(cmd.LocalFlags().FlagUsages(), unicode.IsSpace))
	}
	if cmd.HasExample() {
		b.WriteString("\n\nExamples:\n" + cmd.Example)
	}
	b.WriteString("\n")
	_, err := io.WriteString(cmd.OutOrStderr(), b.String())
	return err
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, w world) int {
	root := newRoot(w)
	root.SetArgs(args)
	root.SetOut(w.out)
	root.SetErr(w.err)
	ran, err := root.ExecuteContextC(ctx)
	return report(w.err, ran, err)
}

func newRoot(w world) *cobra.Command {
	root := &cobra.Command{
		Use:   "everyhop COMMAND",
		Short: "a zero-trust sidecar in one process",
		Long:  rootHelp,
		Example: `  everyhop demo                                    # see it work, on this machine
  everyhop check policy.yaml                       # is this policy good?
  everyhop run --policy policy.yaml                # be the sidecar`,
		Args: noCommand,
		RunE: func(*cobra.Command, []string) error {
			return usage(errors.New("no command is given"))
		},
		SilenceErrors: true, // report says them, once and in our words
		SilenceUsage:  true,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetUsageFunc(printUsage)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(
		newRun(w), newReady(w), newCheck(w), newExplain(w), newTest(w), newSchema(w),
		newDev(w), newDemo(w), newVersion(w),
	)
	bareUsage(root)
	return root
}

// bareUsage keeps cobra from adding words of its own to usage lines.
func bareUsage(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	for _, sub := range cmd.Commands() {
		bareUsage(sub)
	}
}

// noCommand is what is wrong with a word that is no command.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("there is no command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return hinted(usage(err), "did you mean "+strings.Join(near, " or ")+"?")
	}
	return usage(err)
}

// usageError is a command line that makes no sense: exit 2, and a hint to --help.
type usageError struct{ error }

func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

func (e usageError) Unwrap() error { return e.error }

// hintError is an error with what to try.
type hintError struct {
	error
	hint string
}

func hinted(err error, hint string) error { return hintError{err, hint} }

func (e hintError) Unwrap() error { return e.error }

// quiet is an exit code of which everything is said already.
type quiet int

func (q quiet) Error() string { return fmt.Sprintf("exit %d", int(q)) }

// report says what went wrong, then what to try, and returns the exit code. The
// problems of a policy are one line each, as editors and terminals link them.
func report(out io.Writer, cmd *cobra.Command, err error) int {
	var (
		code     quiet
		problems policy.Problems
		misused  usageError
		hint     hintError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &problems):
		reportProblems(out, problems)
		return exitFailure
	}
	fmt.Fprintf(out, "everyhop: error: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	if errors.As(err, &hint) {
		fmt.Fprintf(out, "everyhop: hint: %s\n", hint.hint)
	}
	if errors.As(err, &misused) {
		fmt.Fprintf(out, "everyhop: hint: try %s --help\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailure
}

// reportProblems says one problem a line, and how many there are of those that
// have a place. A file that could not be read has none, and is an error itself.
func reportProblems(out io.Writer, problems policy.Problems) {
	placed := 0
	for _, p := range problems {
		if p.Pos.Line == 0 {
			fmt.Fprintf(out, "everyhop: error: %s\n", p.What)
			continue
		}
		placed++
		fmt.Fprintln(out, p.Error())
	}
	if placed > 0 {
		fmt.Fprintf(out, "everyhop: error: the policy cannot be used: %s\n", count(placed, "problem"))
	}
}

// count is "1 problem", "2 problems".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// exactly and atLeast are cobra's own checks in our words.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return usage(fmt.Errorf("%s is missing", what))
		}
		return nil
	}
}

func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usage(fmt.Errorf("%q is one argument too many", args[n]))
		}
		return atLeast(n, what)(cmd, args)
	}
}
