package main

import (
	"github.com/spf13/cobra"

	"github.com/everyhop/everyhop/cmd/everyhop/demo"
)

const demoHelp = `demo runs three services on this machine, each with its sidecar, on a development
trust domain, and sends them what their policies allow and what they do not: other
paths, other callers, stolen and forged certificates, spoofed headers, a policy
edit, identities that change under load. It prints each try, what came back, and
why. Then it stays up, with curl lines to try, and removes everything at the end.`

func newDemo(w world) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "see it work: three services, every hop verified, on this machine",
		Long:  demoHelp,
		Example: `  everyhop demo
  everyhop demo --check`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), demo.Config{Out: w.out, Color: wantsColor(w), Check: check})
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "end after the tries, with exit 1 if any answer was wrong")
	return cmd
}

// wantsColor is whether the output is a terminal whose user has not said NO_COLOR
// (no-color.org).
func wantsColor(w world) bool {
	none, _ := w.env("NO_COLOR")
	kind, _ := w.env("TERM")
	return none == "" && kind != "dumb" && w.terminal(w.out)
}
