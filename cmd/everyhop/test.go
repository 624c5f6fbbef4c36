package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/everyhop/everyhop/policy"
)

const testHelp = `test runs the examples that policies give in tests:, by the same evaluator as the
sidecar. It exits 0 if all hold, and 1 if one does not or none is there.`

func newTest(w world) *cobra.Command {
	return &cobra.Command{
		Use:     "test FILE...",
		Short:   "run the examples that policies give in tests:",
		Long:    testHelp,
		Example: "  everyhop test policy.yaml",
		Args:    atLeast(1, "the policy FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return runTests(w, args) },
	}
}

func runTests(w world, paths []string) error {
	var problems policy.Problems
	ran, failed := 0, 0
	for _, path := range paths {
		s, err := load(w, path)
		if err != nil {
			problems = append(problems, problemsOf(path, err)...)
			continue
		}
		results := policy.RunTests(s, time.Now())
		ran += len(results)
		failed += printResults(w, path, results)
	}
	switch {
	case len(problems) > 0:
		return problems
	case failed > 0:
		return fmt.Errorf("%d of %s do not hold", failed, count(ran, "test"))
	case ran == 0:
		return hinted(errors.New("there is no test to run"), "give examples: tests: [{as: spiffe://example.org/web, do: GET /orders/7, expect: allow}]")
	}
	return nil
}

// printResults says which do not hold, and returns how many those are.
func printResults(w world, path string, results []policy.TestResult) int {
	failed := 0
	for _, r := range results {
		if r.OK {
			continue
		}
		failed++
		fmt.Fprintf(w.out, "%s: %s: expected %s, got %s: %s\n", r.Pos, plain(r.Asked), expectation(r.Want), expectation(r.Got), r.Got.Explain())
	}
	if failed == 0 {
		fmt.Fprintf(w.out, "%s: %s, all hold\n", path, count(len(results), "test"))
	}
	return failed
}

// expectation is a reason as tests: say it.
func expectation(r policy.Reason) string {
	if r == policy.Allowed {
		return "allow"
	}
	return r.String()
}
