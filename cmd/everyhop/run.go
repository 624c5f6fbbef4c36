package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/everyhop/everyhop/sidecar"
)

const endpointVariable = "SPIFFE_ENDPOINT_SOCKET"

const runHelp = `run is the sidecar. It serves until SIGTERM or SIGINT, then lets requests under
way finish for --drain and exits 0. SIGHUP reads the policy again and reopens
the audit log; the policy file is watched as well.

Every flag is also an environment variable: --audit-on-failure is
EVERYHOP_AUDIT_ON_FAILURE. A flag wins.`

func newRun(w world) *cobra.Command {
	var config sidecar.Config
	var shared, logs string
	cmd := &cobra.Command{
		Use:   "run --policy FILE",
		Short: "be the sidecar of one service",
		Long:  runHelp,
		Example: `  everyhop run --policy policy.yaml --identity unix:///run/spire/sockets/agent.sock
  everyhop run --policy policy.yaml --identity dir:/etc/everyhop/svid --admin unix:///run/everyhop/admin.sock`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := setFromEnvironment(cmd.Flags(), w.env); err != nil {
				return err
			}
			if shared != "" {
				return usage(errors.New("--outbound: one port for all calls is not supported yet: give each call its own local: in the policy"))
			}
			return runSidecar(cmd.Context(), w, config, logs)
		},
	}
	f := cmd.Flags()
	f.StringVar(&config.PolicyFile, "policy", "", "the policy `FILE`")
	f.StringVar(&config.Identity, "identity", "", "where the identity comes from: `ADDRESS` unix:///path or dir:/path (default $"+endpointVariable+")")
	f.StringVar(&config.Inbound, "inbound", sidecar.DefaultInbound, "`ADDRESS` that other sidecars dial")
	f.StringVar(&shared, "outbound", "", "`ADDRESS` that the app dials for calls without local: (not supported yet)")
	f.StringVar(&config.Admin, "admin", sidecar.DefaultAdmin, "`ADDRESS` of the admin listener, host:port or unix:///path")
	f.StringVar(&config.Audit, "audit", "-", "audit log `FILE`; - is standard output")
	f.StringVar(&config.AuditOnFailure, "audit-on-failure", "refuse", "`WHAT` to do while decisions cannot be recorded: refuse or count")
	f.BoolVar(&config.AuditPaths, "audit-paths", false, "record paths as received, not only route templates")
	f.Var(&share{&config.AuditAllows}, "audit-allows", "the `SHARE` of allowed requests to record, 0 to 1; denials always are")
	f.DurationVar(&config.Drain, "drain", sidecar.DefaultDrain, "how long requests under way may take once stopping")
	f.StringVar(&logs, "log", "", "`FORMAT` of the log on standard error: text or json (default: text on a terminal, else json)")
	return cmd
}

// share is a flag from 0 to 1 in the terms of sidecar.Config.AuditAllows, where
// none is not zero.
type share struct{ to *float64 }

func (s *share) Type() string { return "SHARE" }

func (s *share) String() string {
	switch {
	case s.to == nil || *s.to == 0:
		return "1"
	case *s.to < 0:
		return "0"
	}
	return fmt.Sprint(*s.to)
}

func (s *share) Set(text string) error {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || !(value >= 0 && value <= 1) { // not a number is neither
		return errors.New("it is not a number from 0 to 1")
	}
	if value == 0 {
		value = sidecar.NoAllows
	}
	*s.to = value
	return nil
}

// setFromEnvironment gives every flag that was not set its variable's value.
func setFromEnvironment(flags *pflag.FlagSet, env func(string) (string, bool)) error {
	var faults []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "EVERYHOP_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := env(name)
		if f.Changed || f.Name == "help" || !ok {
			return
		}
		if err := f.Value.Set(value); err != nil {
			faults = append(faults, fmt.Errorf("invalid value %q of %s: %w", value, name, err))
		}
	})
	return usage(errors.Join(faults...))
}

// headroom is what may become garbage besides as much as is in use, where GOGC is
// not set. A sidecar lives on a few megabytes and makes garbage with each request:
// by that alone it would be collected dozens of times a second under load, for an
// eighth of all CPU. GOGC=300 would do the same, and let a thousand idle
// connections cost four times what they hold.
const headroom = 4 << 20

func runSidecar(ctx context.Context, w world, config sidecar.Config, logs string) error {
	logger, err := newLogger(w, logs)
	if err != nil {
		return err
	}
	if config.Identity == "" {
		config.Identity, _ = w.env(endpointVariable)
	}
	switch {
	case config.PolicyFile == "":
		return usage(errors.New("--policy is missing: without a policy nothing may pass"))
	case config.Identity == "":
		return usage(errors.New("--identity is missing, and " + endpointVariable + " is not set"))
	}
	config.Drain = max(config.Drain, 1) // zero would be the default, and here it is no time at all
	config.AuditWriter, config.Logger, config.Version, config.Now = w.out, logger, buildVersion(), time.Now
	s, err := sidecar.New(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reloads := make(chan struct{})
	go reloadOnHangup(ctx, w, s, logger, reloads)
	if _, set := w.env("GOGC"); !set {
		// Counted as in use, and never touched: the system gives no memory for it.
		untouched := make([]byte, headroom)
		defer runtime.KeepAlive(untouched)
	}
	err = s.Run(ctx)
	cancel()
	<-reloads
	return err
}

// reloadOnHangup ends with ctx, and closes done when it has.
func reloadOnHangup(ctx context.Context, w world, s *sidecar.Sidecar, logger *slog.Logger, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case <-w.hangup:
			if err := s.Reload(); err != nil {
				logger.Error("reloading on SIGHUP", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// newLogger writes to standard error: standard output may be the audit log.
func newLogger(w world, format string) (*slog.Logger, error) {
	if format == "" {
		format = "json"
		if w.terminal(w.err) {
			format = "text"
		}
	}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w.err, nil)), nil
	case "text":
		return newTextLogger(w.err), nil
	}
	return nil, usage(fmt.Errorf("--log: %q is neither text nor json", format))
}

func newTextLogger(out io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(out, nil)) }
