package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/file"
)

const checkHelp = `check reads policies and says everything that is wrong with them, one line each:
file:line:col: what is wrong (what to try). It touches nothing else. It exits 0
if all are good, 1 if not. The file - is standard input.`

func newCheck(w world) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "say everything that is wrong with policies",
		Long:  checkHelp,
		Example: `  everyhop check policy.yaml
  everyhop check --json policies/*.yaml`,
		Args: atLeast(1, "the policy FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return check(w, args, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the problems as a JSON array")
	return cmd
}

func check(w world, paths []string, asJSON bool) error {
	all := policy.Problems{}
	for _, path := range paths {
		s, err := load(w, path)
		all = append(all, problemsOf(path, err)...)
		if err == nil && !asJSON {
			fmt.Fprintf(w.out, "%s: good: %s, %s, %s, %s\n", path, s.Service,
				count(len(s.Grants), "grant"), count(len(s.Calls), "call"), count(len(s.Tests), "test"))
		}
	}
	if asJSON {
		if err := writeProblems(w.out, all); err != nil {
			return err
		}
	}
	switch {
	case len(all) == 0:
		return nil
	case asJSON:
		return quiet(exitFailure)
	}
	return all
}

// load reads, parses and compiles one policy.
func load(w world, path string) (*policy.Snapshot, error) {
	text, err := read(w, path)
	if err != nil {
		return nil, err
	}
	spec, err := file.Parse(path, text)
	if err != nil {
		return nil, err
	}
	return policy.Compile(spec, nil)
}

func read(w world, path string) ([]byte, error) {
	if path == "-" {
		text, err := io.ReadAll(w.in)
		if err != nil {
			return nil, fmt.Errorf("reading the policy from standard input: %w", err)
		}
		return text, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the policy %s: %w", path, cause(err))
	}
	return text, nil
}

// cause is the reason in a file error, whose path is said already.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// problemsOf is what is wrong with one policy; a file that cannot be read is one
// problem, of no place.
func problemsOf(path string, err error) policy.Problems {
	var problems policy.Problems
	switch {
	case err == nil:
		return nil
	case errors.As(err, &problems):
		return problems
	}
	return policy.Problems{{Pos: policy.Pos{File: path}, What: err.Error()}}
}

type problemView struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Col     int    `json:"col,omitempty"`
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
}

func writeProblems(out io.Writer, problems policy.Problems) error {
	views := make([]problemView, len(problems))
	for i, p := range problems {
		views[i] = problemView{p.Pos.File, p.Pos.Line, p.Pos.Col, p.What, p.Hint}
	}
	return writeJSON(out, views)
}

func writeJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func newSchema(w world) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "print the JSON Schema of the policy file, for editors",
		Long: `schema prints the JSON Schema of the policy file. Editors that speak YAML use it
for completion and checks: # yaml-language-server: $schema=everyhop.schema.json`,
		Example: "  everyhop schema > everyhop.schema.json",
		Args:    exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := w.out.Write(file.Schema())
			return err
		},
	}
}
