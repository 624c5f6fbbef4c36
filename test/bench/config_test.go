package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy/file"
)

func testPlace(t *testing.T, features ...string) place {
	t.Helper()
	w := world{Dev: "/dev-domain", Web: "/web", Orders: "/orders", App: "127.0.0.1:8080", Features: features}
	p, err := newPlace(t.TempDir(), "pair", w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rendered(t *testing.T, p place, name string) string {
	t.Helper()
	path, err := p.render(name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConfigs_EveryhopTakesItsPolicies(t *testing.T) {
	for _, name := range []string{"everyhop-out.yaml", "everyhop-in.yaml"} {
		spec, err := file.Parse(name, []byte(rendered(t, testPlace(t), name)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "everyhop-in.yaml" && len(spec.Allow) != len(grants()) {
			t.Errorf("it has %d grants, not %d", len(spec.Allow), len(grants()))
		}
	}
}

func TestConfigs_EnvoysAreYAMLWithAndWithoutChecks(t *testing.T) {
	for _, checks := range []bool{false, true} {
		for _, name := range []string{"envoy-out.yaml", "envoy-in.yaml"} {
			p := testPlace(t, features()...)
			p.Checks = checks
			text := rendered(t, p, name)
			var tree map[string]any
			if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := strings.Contains(text, "access_log"); got != checks {
				t.Errorf("%s with checks %v: it has an access log: %v", name, checks, got)
			}
		}
	}
}

func TestConfigs_EnvoyChecksWhatEveryhopChecks(t *testing.T) {
	const limit, users, judge = "local_ratelimit", "jwt_authn", "filters.http.rbac"
	for _, c := range []struct {
		features   []string
		has, lacks []string
	}{
		{nil, []string{judge}, []string{limit, users}},
		{[]string{"limit"}, []string{judge, limit}, []string{users}},
		{[]string{"limit", "users"}, []string{judge, limit, users}, nil},
	} {
		p := testPlace(t, c.features...)
		p.Checks = true
		text := rendered(t, p, "envoy-in.yaml")
		for _, want := range c.has {
			if !strings.Contains(text, want) {
				t.Errorf("with %v there is no %s", c.features, want)
			}
		}
		for _, other := range c.lacks {
			if strings.Contains(text, other) {
				t.Errorf("with %v there is %s", c.features, other)
			}
		}
		for _, g := range grants() {
			if !strings.Contains(text, g.Name+":") || !strings.Contains(text, "'"+g.Path+"'") {
				t.Errorf("grant %s is missing", g.Name)
			}
		}
	}
}

func TestPairs_EveryTemplateIsThereAndUsed(t *testing.T) {
	used := map[string]bool{"app.nginx": true, "envoy-log.yaml": true}
	for _, p := range pairs() {
		for _, program := range []program{p.in, p.out} {
			place := testPlace(t)
			if program.config != "" {
				used[program.config] = true
				rendered(t, place, program.config)
			}
			for _, arg := range program.args {
				if text, err := place.fill(arg); err != nil || text == "" && arg != "{{.Config}}" || strings.Contains(text, "{{") {
					t.Errorf("%s: %q is filled to %q (%v)", p.name, arg, text, err)
				}
			}
		}
	}
	files, err := fs.Glob(configs, "config/*")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no templates", err)
	}
	for _, path := range files {
		if !used[filepath.Base(path)] {
			t.Errorf("nothing uses %s", path)
		}
	}
}

func TestOrder_IsJSONOfAboutTheSizeThatIsMeant(t *testing.T) {
	if !json.Valid([]byte(order)) || len(order) < 100 || len(order) > 140 || strings.Contains(order, "'") {
		t.Errorf("%d bytes: %s", len(order), order)
	}
}
