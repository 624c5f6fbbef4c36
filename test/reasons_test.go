package test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/everyhop/everyhop/policy"
)

func TestDocs_TheTableOfReasonsIsTheClosedSet(t *testing.T) {
	page, err := os.ReadFile("../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| reason | HTTP | gRPC | because |\n|---|--:|--:|---|\n")
	for _, r := range policy.Reasons() {
		if r != policy.Allowed {
			fmt.Fprintf(&table, "| `%s` | %d | %d | %s |\n", r, r.Status(), r.GRPCStatus(), r.Explain())
		}
	}
	if !strings.Contains(string(page), table.String()) {
		t.Errorf("docs/check.md does not have the table of reasons, which is:\n%s", table.String())
	}
}
