// Package examples holds files to copy. Its test compiles every policy and runs
// the examples that the policies themselves give.
package examples

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/file"
)

func TestExamples_EveryPolicyCompilesAndItsTestsHold(t *testing.T) {
	seen := 0
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, p := range policies(string(text)) {
			seen++
			t.Run(path, func(t *testing.T) { holds(t, path, p) })
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 5 {
		t.Fatalf("found %d policies, which are not all", seen)
	}
}

var embedded = regexp.MustCompile(`(?m)^  policy\.yaml: \|\n((?:    .*\n|\n)+)`)

// policies is the policy that text is, or those in the ConfigMaps that it holds.
func policies(text string) []string {
	if strings.Contains(text, "\nservice: ") || strings.HasPrefix(text, "service: ") {
		return []string{text}
	}
	var found []string
	for _, m := range embedded.FindAllStringSubmatch(text, -1) {
		found = append(found, strings.ReplaceAll(m[1], "\n    ", "\n")[4:])
	}
	return found
}

func holds(t *testing.T, path, text string) {
	spec, err := file.Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := policy.Compile(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range policy.RunTests(snapshot, time.Now()) {
		if !r.OK {
			t.Errorf("%+v", r)
		}
	}
}
