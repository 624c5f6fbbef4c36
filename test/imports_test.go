package test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/everyhop/everyhop/"

// Foreign code that a room may be kept from, by the shortest import path that
// names it.
const (
	goSPIFFE   = "github.com/spiffe/go-spiffe/v2"
	spiffeID   = goSPIFFE + "/spiffeid"
	workload   = goSPIFFE + "/proto/spiffe/workload"
	grpc       = "google.golang.org/grpc"
	protobuf   = "google.golang.org/protobuf"
	jwx        = "github.com/lestrrat-go/jwx/v2"
	yaml       = "go.yaml.in/yaml/v3"
	fsnotify   = "github.com/fsnotify/fsnotify"
	prometheus = "github.com/prometheus/client_golang"
	cobra      = "github.com/spf13/cobra"
	pflag      = "github.com/spf13/pflag"
	xNet       = "golang.org/x/net"
	xSys       = "golang.org/x/sys"
	xTerm      = "golang.org/x/term"
)

// room is one package: what it may import directly, and what it must never
// reach, not even through others, each with the reason.
type room struct {
	path    string
	ours    []string
	foreign []string
	never   map[string]string
}

// The wall. A new package gets a row here first.
var rooms = []room{
	{
		path:    "identity",
		foreign: []string{spiffeID},
		never: map[string]string{
			"net/http": "who a peer is must not depend on what it says in a request",
			jwx:        "identity holds values; parsing tokens belongs to a sub-room",
		},
	}, {
		path:    "identity/svid",
		ours:    []string{"identity"},
		foreign: []string{spiffeID, workload, grpc, protobuf, xSys},
		never: map[string]string{
			module + "policy": "a certificate is right or wrong whatever the policy says",
			jwx:               "certificates need no token library",
		},
	}, {
		path:    "identity/dev",
		ours:    []string{"identity"},
		foreign: []string{goSPIFFE, grpc, protobuf, jwx, xSys},
		never: map[string]string{
			module + "policy":  "a development trust domain serves anyone who asks its socket",
			module + "sidecar": "it is what sidecars are tested against, not a part of one",
		},
	}, {
		path:    "policy/match",
		foreign: []string{spiffeID},
		never: map[string]string{
			"net/http":   "a pattern is matched against text, not against a request",
			"crypto/tls": "a pattern does not know where an identity came from",
		},
	}, {
		path:    "policy",
		ours:    []string{"identity", "policy/match"},
		foreign: []string{spiffeID},
		never: map[string]string{
			"net/http":   "the evaluator judges facts; explain and test have no request to give it",
			"crypto/tls": "the evaluator is told who the peer is and cannot ask",
			yaml:         "policy is values; policy/file is the only room that reads text",
			fsnotify:     "policy is pure; policy/live is the only room that watches",
			prometheus:   "policy is pure; sidecar/audit counts",
			jwx:          "policy reads claims as values, never tokens",
		},
	}, {
		path:    "policy/file",
		ours:    []string{"identity", "policy", "policy/match"},
		foreign: []string{spiffeID, yaml},
		never: map[string]string{
			"net/http": "a policy file is the whole policy; nothing is fetched while it is read",
			fsnotify:   "bytes in, values out: the disk is for policy/live",
		},
	}, {
		path:    "policy/live",
		ours:    []string{"policy", "policy/file"},
		foreign: []string{fsnotify, xSys},
		never: map[string]string{
			"net/http":   "a policy comes from a file, and from nowhere else",
			"crypto/tls": "watching a file has nothing to do with connections",
		},
	}, {
		path: "sidecar/listener",
		never: map[string]string{
			module + "policy": "who may connect is decided by whoever made the tls.Config",
			prometheus:        "it reports events; others name the metrics",
		},
	}, {
		path: "sidecar/wire",
		never: map[string]string{
			module + "policy":   "the wire carries a request whatever is decided of it",
			module + "identity": "the wire hands over the connection; who it is is for others",
			xNet:                "names and the seam; what is spoken is for the rooms below",
		},
	}, {
		path: "sidecar/wire/h1",
		ours: []string{"sidecar/wire"},
		never: map[string]string{
			module + "policy":   "the wire carries a request whatever is decided of it",
			module + "identity": "the wire hands over the connection; who it is is for others",
			xNet:                "HTTP/1.1 is read here byte by byte",
		},
	}, {
		path:    "sidecar/wire/h2",
		ours:    []string{"sidecar/wire"},
		foreign: []string{xNet},
		never: map[string]string{
			module + "policy":   "the wire carries a request whatever is decided of it",
			module + "identity": "the wire hands over the connection; who it is is for others",
		},
	}, {
		path: "sidecar/wire/serve",
		ours: []string{"sidecar/wire", "sidecar/wire/h1", "sidecar/wire/h2"},
		never: map[string]string{
			module + "policy":           "the wire carries a request whatever is decided of it",
			module + "identity":         "the wire hands over the connection; who it is is for others",
			module + "sidecar/wire/std": "it is what this is compared with",
		},
	}, {
		path: "sidecar/wire/std",
		ours: []string{"sidecar/wire"},
		never: map[string]string{
			module + "policy":   "the wire carries a request whatever is decided of it",
			module + "identity": "the wire hands over the connection; who it is is for others",
		},
	}, {
		path: "sidecar/forward",
		never: map[string]string{
			module + "policy":   "forwarding must not depend on why it was allowed",
			module + "identity": "it sets the headers it is given and judges no one",
		},
	}, {
		path:    "sidecar/audit",
		ours:    []string{"identity", "policy"},
		foreign: []string{prometheus, xSys},
		never: map[string]string{
			jwx: "a record holds names of claims' subjects, never a token",
		},
	}, {
		path: "sidecar/lease",
		ours: []string{"policy"},
		never: map[string]string{
			"crypto/tls": "it decides when something ends; how is the holder's to know",
			"net/http":   "it decides when something ends; how is the holder's to know",
		},
	}, {
		path:    "sidecar/hop",
		ours:    []string{"identity", "policy", "policy/match", "sidecar/audit", "sidecar/forward", "sidecar/lease", "sidecar/wire"},
		foreign: []string{spiffeID},
		never: map[string]string{
			module + "identity/svid":   "a hop is given peers and cannot ask for keys",
			module + "inbound":         "both directions stand on it; it leans on neither",
			module + "outbound":        "both directions stand on it; it leans on neither",
			module + "sidecar/wire/h1": "it names what is wrong with requests, whoever carries them",
			module + "sidecar/wire/h2": "it names what is wrong with requests, whoever carries them",
		},
	}, {
		path:    "inbound",
		ours:    []string{"identity", "policy", "sidecar/audit", "sidecar/forward", "sidecar/hop", "sidecar/lease", "sidecar/listener", "sidecar/wire", "sidecar/wire/serve"},
		foreign: []string{spiffeID},
		never: map[string]string{
			module + "outbound":      "the two directions share rooms, not each other",
			module + "identity/svid": "a hop is given a tls.Config and cannot ask for keys",
			module + "policy/file":   "a hop is given a snapshot and cannot read another",
			grpc:                     "a hop cannot reach the Workload API, not even by accident",
			jwx:                      "a hop is given a function that verifies a token",
			yaml:                     "a hop is given a snapshot and cannot read another",
			fsnotify:                 "a hop is given a snapshot and cannot watch for another",
		},
	}, {
		path:    "outbound",
		ours:    []string{"identity", "policy", "sidecar/audit", "sidecar/forward", "sidecar/hop", "sidecar/lease", "sidecar/listener", "sidecar/wire", "sidecar/wire/serve"},
		foreign: []string{spiffeID},
		never: map[string]string{
			module + "inbound":       "the two directions share rooms, not each other",
			module + "identity/svid": "a hop is given a tls.Config and cannot ask for keys",
			module + "policy/file":   "a hop is given a snapshot and cannot read another",
			grpc:                     "a hop cannot reach the Workload API, not even by accident",
			jwx:                      "the app's own calls carry no token that we judge",
			yaml:                     "a hop is given a snapshot and cannot read another",
			fsnotify:                 "a hop is given a snapshot and cannot watch for another",
		},
	}, {
		path: "sidecar",
		ours: []string{
			"identity", "identity/svid", "inbound", "outbound", "policy", "policy/live",
			"sidecar/audit", "sidecar/forward", "sidecar/listener", "sidecar/wire",
		},
		foreign: []string{prometheus, spiffeID},
		never: map[string]string{
			module + "identity/dev": "a sidecar in production must not be able to make identities",
			cobra:                   "a sidecar can be run by a test, without a command line",
		},
	}, {
		path:    "cmd/everyhop",
		ours:    []string{"cmd/everyhop/demo", "identity/dev", "policy", "policy/file", "policy/match", "sidecar"},
		foreign: []string{cobra, pflag, spiffeID, xTerm},
	}, {
		path:    "cmd/everyhop/demo",
		ours:    []string{"identity", "identity/dev", "policy", "policy/file", "sidecar"},
		foreign: []string{spiffeID, xTerm},
	},
}

func TestImports_EachRoomReachesOnlyWhatItsRowAllows(t *testing.T) {
	for _, r := range rooms {
		t.Run(r.path, func(t *testing.T) {
			for _, imported := range list(t, "-f", `{{join .Imports "\n"}}`, module+r.path) {
				if !r.mayImport(imported) {
					t.Errorf("%s imports %s, which its row does not allow", r.path, imported)
				}
			}
			reached := list(t, "-deps", module+r.path)
			for banned, reason := range r.never {
				if i := slices.IndexFunc(reached, func(p string) bool { return within(p, banned) }); i >= 0 {
					t.Errorf("%s reaches %s: %s", r.path, reached[i], reason)
				}
			}
		})
	}
}

func TestImports_EveryRoomHasARow(t *testing.T) {
	for _, path := range list(t, module+"...") {
		name := strings.TrimPrefix(path, module)
		if name == "test" || name == "examples" || strings.HasPrefix(name, "test/") {
			continue // tests may see everything that is exported
		}
		if !slices.ContainsFunc(rooms, func(r room) bool { return r.path == name }) {
			t.Errorf("%s has no row in the table of rooms", name)
		}
	}
}

func (r room) mayImport(path string) bool {
	if name, ours := strings.CutPrefix(path, module); ours {
		return slices.Contains(r.ours, name)
	}
	if !strings.Contains(strings.Split(path, "/")[0], ".") {
		return true // the standard library; what is banned of it is in never
	}
	return slices.ContainsFunc(r.foreign, func(f string) bool { return within(path, f) })
}

// within reports whether path is the package or module at root, or below it.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	lines := strings.Fields(string(out))
	if len(lines) == 0 && !slices.Contains(args, "-f") {
		t.Fatalf("go list %s printed nothing", strings.Join(args, " "))
	}
	return lines
}
