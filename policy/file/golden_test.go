package file

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/everyhop/everyhop/policy"
)

var update = flag.Bool("update", false, "write what was found into testdata")

// input and output are the two sections of a golden file.
const (
	inputSection    = "policy.yaml"
	specSection     = "spec"
	problemsSection = "problems"
)

func TestParse_GoodPoliciesBecomeThisSpec(t *testing.T) {
	golden(t, "good", specSection, func(t *testing.T, text []byte) string {
		spec, err := Parse(inputSection, text)
		if err != nil {
			t.Fatal(err)
		}
		return dump(spec)
	})
}

func TestParse_BadPoliciesHaveTheseProblems(t *testing.T) {
	count := golden(t, "bad", problemsSection, func(t *testing.T, text []byte) string {
		spec, err := Parse(inputSection, text)
		if err == nil {
			_, err = policy.Compile(spec, nil)
		}
		if err == nil {
			t.Fatal("there is no problem")
		}
		if _, ok := err.(policy.Problems); !ok {
			t.Fatalf("the error is of type %T", err)
		}
		return err.Error() + "\n"
	})
	if count < 70 {
		t.Errorf("%d bad policies are not 70", count)
	}
}

// golden compares what found makes of every policy in the folder with the
// section that is kept beside it.
func golden(t *testing.T, folder, section string, found func(t *testing.T, text []byte) string) int {
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("there is nothing in %s: %v", folder, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := found(t, content(archive, inputSection))
			if *update {
				write(t, path, archive, section, got)
			}
			if diff := cmp.Diff(string(content(archive, section)), got); diff != "" {
				t.Errorf("%s is not what is kept (-kept +found); -update keeps it:\n%s", section, diff)
			}
		})
	}
	return len(paths)
}

func content(archive *txtar.Archive, name string) []byte {
	for _, f := range archive.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func write(t *testing.T, path string, archive *txtar.Archive, section, text string) {
	t.Helper()
	kept := archive.Files[:0:0]
	for _, f := range archive.Files {
		if f.Name != section {
			kept = append(kept, f)
		}
	}
	archive.Files = append(kept, txtar.File{Name: section, Data: []byte(text)})
	if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// dump is the spec one field a line, without what is zero, positions as line:col.
func dump(spec *policy.Spec) string {
	var b bytes.Buffer
	shown := *spec
	shown.Digest = ""
	dumpValue(&b, "", reflect.ValueOf(shown))
	return b.String()
}

func dumpValue(b *bytes.Buffer, path string, v reflect.Value) {
	if v.IsZero() {
		return
	}
	if pos, ok := v.Interface().(policy.Pos); ok {
		fmt.Fprintf(b, "%s %d:%d\n", path, pos.Line, pos.Col)
		return
	}
	_, route := v.Interface().(policy.Route) // its String leaves the place out
	if s, ok := v.Interface().(fmt.Stringer); ok && v.Kind() != reflect.Pointer && !route {
		fmt.Fprintf(b, "%s %s\n", path, s)
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		dumpValue(b, path, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			dumpValue(b, strings.TrimPrefix(path+"."+v.Type().Field(i).Name, "."), v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			dumpValue(b, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.String:
		fmt.Fprintf(b, "%s %q\n", path, v)
	default:
		fmt.Fprintf(b, "%s %v\n", path, v)
	}
}
