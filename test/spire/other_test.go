//go:build !linux

package spire

import "testing"

func TestSPIRE_NeedsLinux(t *testing.T) {
	t.Skip("NOT RUN: SPIRE tells the users of processes apart, and the kernel ends what a dead test started, on Linux")
}
