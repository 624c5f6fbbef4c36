// Package file reads a policy file: bytes in, a [policy.Spec] or every problem
// out, each with its place and what to try.
//
// It is strict. The YAML it takes is the part that every reader reads alike:
// one document, no anchors, aliases, merge keys or tags, no key twice, nothing
// that YAML 1.1 takes for a boolean or a number where text is meant. Empty is
// never a wildcard but a problem. A Spec is returned only where there is no
// problem at all; what is in it parsed, though names may still point nowhere,
// which [policy.Compile] finds.
//
// It touches neither the disk nor the clock. Time and memory are bounded by
// limits on the size of the file and on the number of its values.
package file

import (
	"cmp"
	"crypto/sha256"
	_ "embed" // for the schema
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/everyhop/everyhop/policy"
)

// MaxSize is the largest policy file that is read, in bytes.
const MaxSize = 1 << 20

// maxProblems is how many problems are reported: those after it are counted.
const maxProblems = 100

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema (draft 2020-12) of the policy file, for editors. It
// refuses a part of what Parse refuses, and nothing that Parse takes.
func Schema() []byte { return slices.Clone(schema) }

// Parse reads the policy in text. The name is the file's path as given: it goes
// into positions, and relative sockets are below its folder. The error is of
// type [policy.Problems]: all of them, in the order of the file.
func Parse(name string, text []byte) (*policy.Spec, error) {
	r := newReader(name)
	spec := &policy.Spec{File: name, Digest: digest(text), Timeouts: policy.DefaultTimeouts()}
	spec.TLS.ALPN = []string{policy.ProtoH2, policy.ProtoHTTP1}
	if r.check(text) {
		if root := r.tree(text); root != nil && r.structure(root) {
			policyTable.read(r, root, spec)
		}
	}
	if len(r.problems) > 0 {
		return nil, r.sorted()
	}
	return spec, nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// sorted is the problems in the order of the file, without those that say the
// same of the same place.
func (r *reader) sorted() policy.Problems {
	slices.SortStableFunc(r.problems, func(a, b policy.Problem) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	all := slices.Compact(r.problems)
	if more := len(all) - maxProblems; more > 0 {
		all = append(all[:maxProblems:maxProblems], policy.Problem{
			Pos:  all[maxProblems].Pos,
			What: fmt.Sprintf("at least %d more problems from here on", more),
			Hint: "mend those above first",
		})
	}
	return all
}
