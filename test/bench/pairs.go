package main

import (
	"embed"
	"slices"
	"strings"
)

//go:embed config
var configs embed.FS

// What a pair carries.
const (
	carriesHTTP = "http"
	carriesTCP  = "tcp"
)

// pair is one kind of proxy twice: out takes the client's plain connections and
// dials the other with mutual TLS, in takes those and dials the app.
type pair struct {
	name    string
	carries string // http or tcp
	checks  bool   // what everyhop checks, it checks too
	out, in program
}

// program is one of the two. Args are templates over a place, and so is the file
// config/NAME, which is written to the place's folder.
type program struct {
	tool   string
	config string
	args   []string
}

const own = "everyhop" // the tool, and the pair that the others are compared with

// pairs are everyhop and its peers.
func pairs() []pair {
	envoy := []string{"--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path", "{{.Config}}"}
	return []pair{
		everyhop(own, carriesHTTP, "everyhop"),
		{
			name: "haproxy", carries: carriesHTTP,
			out: program{"haproxy", "haproxy-out.cfg", []string{"-db", "-f", "{{.Config}}"}},
			in:  program{"haproxy", "haproxy-in.cfg", []string{"-db", "-f", "{{.Config}}"}},
		}, {
			name: "nginx", carries: carriesHTTP,
			out: program{"nginx", "nginx-out.conf", []string{"-e", "stderr", "-p", "{{.Dir}}", "-c", "{{.Config}}"}},
			in:  program{"nginx", "nginx-in.conf", []string{"-e", "stderr", "-p", "{{.Dir}}", "-c", "{{.Config}}"}},
		}, {
			name: "envoy", carries: carriesHTTP,
			out: program{"envoy", "envoy-out.yaml", envoy},
			in:  program{"envoy", "envoy-in.yaml", envoy},
		}, {
			name: "envoy-checks", carries: carriesHTTP, checks: true,
			out: program{"envoy", "envoy-out.yaml", envoy},
			in:  program{"envoy", "envoy-in.yaml", envoy},
		},
		everyhop(own+"-tcp", carriesTCP, "everyhop-tcp"),
		{
			name: "ghostunnel", carries: carriesTCP,
			out: program{"ghostunnel", "", []string{
				"client", "--listen", "{{.Plain}}", "--target", "{{.Hop}}", "--verify-uri", "spiffe://example.org/orders",
				"--override-server-name", "{{.HostName}}", "--quiet", "all", "--shutdown-timeout", "1s",
				"--cert", "{{.Web}}/svid.pem", "--key", "{{.Web}}/key.pem", "--cacert", "{{.Web}}/bundle.pem",
			}},
			in: program{"ghostunnel", "", []string{
				"server", "--listen", "{{.Hop}}", "--target", "{{.App}}", "--allow-uri", "spiffe://example.org/web",
				"--quiet", "all", "--shutdown-timeout", "1s",
				"--cert", "{{.Orders}}/svid.pem", "--key", "{{.Orders}}/key.pem", "--cacert", "{{.Orders}}/bundle.pem",
			}},
		},
	}
}

// everyhop has everything on: identity, policy, metrics, and an audit log.
func everyhop(name, carries, config string) pair {
	run := func(side, service string) []string {
		return []string{
			"run", "--policy", "{{.Config}}", "--identity", "unix://{{.Dev}}/" + service + ".sock", "--inbound", "{{.Hop}}",
			"--admin", "unix://{{.Dir}}/" + side + ".sock", "--audit", "{{.Dir}}/" + side + ".log", "--log", "text", "--drain", "1s",
		}
	}
	return pair{
		name: name, carries: carries, checks: true,
		out: program{own, config + "-out.yaml", run("out", "web")},
		in:  program{own, config + "-in.yaml", run("in", "orders")},
	}
}

// pairNames are the names of all pairs, in their order.
func pairNames() []string {
	var names []string
	for _, p := range pairs() {
		names = append(names, p.name)
	}
	return names
}

// peerNames are the pairs that are not everyhop's.
func peerNames() []string {
	return slices.DeleteFunc(pairNames(), func(name string) bool { return strings.HasPrefix(name, own) })
}

// ours is the pair of everyhop's that does what the cell measures.
func ours(carries string) string {
	if carries == carriesTCP {
		return own + "-tcp"
	}
	return own
}

// takes says whether a pair can be measured in a cell that needs carries; a cell
// that says nothing of it takes all.
func (p *pair) takes(carries string) bool { return carries == "" || p.carries == carries }

// grant is one thing that the policy of the service orders allows: in everyhop's
// words, and as a regular expression for Envoy.
type grant struct {
	Name, From, Kind, Method, Route, Path string
}

// Caller is From in Envoy's words: a whole SPIFFE ID, or what it begins with.
func (g grant) Caller() string { return strings.TrimSuffix(g.From, "**") }

// grants are ten, and what is measured is allowed by the last two.
func grants() []grant {
	const segment = "[A-Za-z0-9._~-]+" // a bound on its length is more than RE2 takes in Envoy
	service := func(name, from, method, route, path string) grant {
		return grant{name, "spiffe://example.org/" + from, "exact", method, route, path}
	}
	under := func(name, from, method, route, path string) grant {
		return grant{name, "spiffe://example.org/" + from + "/**", "prefix", method, route, path}
	}
	return []grant{
		service("g00", "billing", "POST", "/orders/{id}/invoice", "/orders/"+segment+"/invoice"),
		service("g01", "billing", "GET", "/orders/{id}/invoice", "/orders/"+segment+"/invoice"),
		service("g02", "stock", "PUT", "/orders/{id}/state", "/orders/"+segment+"/state"),
		service("g03", "stock", "GET", "/stock/{id}", "/stock/"+segment),
		under("g04", "ops", "DELETE", "/orders/{id}", "/orders/"+segment),
		under("g05", "ops", "GET", "/reports/{d:date}", "/reports/[0-9]{4}-[0-9]{2}-[0-9]{2}"),
		service("g06", "web", "POST", "/orders", "/orders"),
		service("g07", "web", "GET", "/customers/{id}", "/customers/"+segment),
		service("g08", "web", "GET", "/orders/{id}", "/orders/"+segment),
		service("g09", "web", "GET", "/files/{name}", "/files/"+segment),
	}
}
