package file

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// tables are the keys that the parser knows, by the name of their definition in
// the schema.
func tables() map[string][]string {
	return map[string][]string{
		"policy": policyTable.names(), "issuer": issuerTable.names(), "tls": tlsTable.names(),
		"serviceLimit": serviceLimitTable.names(), "timeouts": timeoutsTable.names(),
		"grant": grantTable.names(), "input": inputTable.names(), "user": userTable.names(),
		"body": bodyTable.names(), "cors": corsTable.names(), "grantLimit": grantLimitTable.names(),
		"when": whenTable.names(), "call": callTable.names(), "callLimit": callLimitTable.names(),
		"retry": retryTable.names(), "test": testTable.names(), "never": neverTable.names(),
	}
}

type definition struct {
	Description string
	Required    []string
	Properties  map[string]struct{ Description string }
	Additional  any `json:"additionalProperties"`
}

func TestSchema_HasTheKeysOfTheParserAndNoOthers(t *testing.T) {
	var s struct {
		Defs map[string]definition `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for name, d := range s.Defs {
		if d.Properties == nil {
			continue
		}
		if d.Description == "" || d.Additional != false {
			t.Errorf("%s has no description, or takes unknown keys", name)
		}
		for key, p := range d.Properties {
			found[name] = append(found[name], key)
			if p.Description == "" {
				t.Errorf("%s of %s has no description", key, name)
			}
		}
		slices.Sort(found[name])
	}
	known := tables()
	for _, keys := range known {
		slices.Sort(keys)
	}
	if diff := cmp.Diff(known, found); diff != "" {
		t.Errorf("the parser and the schema differ (-parser +schema):\n%s", diff)
	}
	required := map[string][]string{
		"policy": policyTable.required, "issuer": issuerTable.required, "grant": grantTable.required,
		"user": userTable.required, "cors": corsTable.required, "call": callTable.required,
		"retry": retryTable.required, "test": testTable.required, "never": neverTable.required,
	}
	for name, d := range s.Defs {
		if diff := cmp.Diff(required[name], d.Required); diff != "" {
			t.Errorf("%s requires other keys (-parser +schema):\n%s", name, diff)
		}
	}
}

func compiledSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchema_TakesEveryGoodPolicy(t *testing.T) {
	s := compiledSchema(t)
	for name, text := range policies(t, "good") {
		if err := s.Validate(asJSON(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range examples(t) {
		if _, err := Parse(name, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Validate(asJSON(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What an editor can tell while a policy is typed.
func TestSchema_RefusesWhatIsBadInForm(t *testing.T) {
	s := compiledSchema(t)
	bad := policies(t, "bad")
	for _, name := range []string{
		"yaml-braces", "yaml-scalar", "yaml-list", "yaml-nulls", "top-unknown", "top-no-service", "many",
		"service-trust-domain", "service-case", "service-scheme-case", "service-no-scheme", "service-wildcard", "service-slash", "service-number",
		"app-scheme", "app-bare", "app-no-port", "app-path", "app-unix-empty", "app-list",
		"tls", "limit-service", "timeouts", "timeouts-more", "ban", "types", "allow-map", "allow-text",
		"users-missing", "users-keys-http", "users-algorithms", "users-algorithms-empty", "users-other", "users-list",
		"grant-missing", "grant-unknown", "grant-from", "grant-from-empty", "grant-to", "grant-to-map", "grant-booleans",
		"grant-user", "grant-query", "grant-body", "grant-body-max-kb", "grant-body-max-negative", "grant-body-max-huge",
		"grant-cors", "grant-cors-missing", "grant-limit", "grant-limit-more", "grant-limit-bare", "grant-when",
		"grant-when-zone", "grant-until", "grant-timeout", "grant-upgrade",
		"call-missing", "call-local", "call-as", "call-retry", "call-route", "call-upgrade", "tests", "never",
	} {
		if bad[name] == nil {
			t.Errorf("there is no bad policy %s", name)
		} else if err := s.Validate(asJSON(t, bad[name])); err == nil {
			t.Errorf("%s: the schema takes it", name)
		}
	}
}

// policies are those of a folder of golden files, by name.
func policies(t testing.TB, folder string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("there is nothing in %s: %v", folder, err)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(path), ".txtar")] = content(archive, inputSection)
	}
	return all
}

// examples are the policies that people copy.
func examples(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	root := filepath.Join("..", "..", "examples")
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := fs.ReadFile(os.DirFS(root), path)
		if bytes.Contains(text, []byte("\nservice: ")) || bytes.HasPrefix(text, []byte("service: ")) {
			all[path] = text
		}
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%d examples: %v", len(all), err)
	}
	return all
}

// asJSON is a policy as an editor hands it to a schema: YAML 1.2, whose only
// booleans are true and false, and without dates.
func asJSON(t testing.TB, text []byte) any {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return jsonOf(document.Content[0])
}

func jsonOf(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = jsonOf(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = jsonOf(item)
		}
		return list
	}
	switch {
	case isNull(n):
		return nil
	case isPlain(n) && integers.MatchString(n.Value):
		return json.Number(n.Value)
	case isPlain(n) && (n.Value == "true" || n.Value == "false"):
		return n.Value == "true"
	}
	return n.Value
}
