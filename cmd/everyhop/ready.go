package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/everyhop/everyhop/sidecar"
)

const readyHelp = `ready asks the admin listener of a running sidecar what /readyz says, prints it,
and exits 0 where requests may be sent, 1 where they may not. It is for probes:
the image of the sidecar holds no shell and no curl.`

func newReady(w world) *cobra.Command {
	var admin string
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "say whether the sidecar beside it is ready, for probes",
		Long:  readyHelp,
		Example: `  everyhop ready
  everyhop ready --admin unix:///run/everyhop/admin.sock`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := setFromEnvironment(cmd.Flags(), w.env); err != nil {
				return err
			}
			ready, says, err := sidecar.Probe(cmd.Context(), admin)
			if err != nil {
				return err
			}
			fmt.Fprint(w.out, says)
			if !ready {
				return quiet(exitFailure)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&admin, "admin", sidecar.DefaultAdmin, "`ADDRESS` of the admin listener, host:port or unix:///path")
	return cmd
}
