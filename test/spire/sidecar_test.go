//go:build linux

package spire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sidecar is everyhop run, as a process of a user of its own.
type sidecar struct {
	*process
	t     *testing.T
	dir   string // its own, and its user's
	admin *http.Client
}

// join starts the sidecar of a service as that user. It does not wait until it is
// ready.
func (d *domain) join(e entry, policy string) *sidecar {
	d.t.Helper()
	name, user := e.name, int(e.user)
	s := &sidecar{t: d.t, dir: d.path(name)}
	d.write(name+".yaml", policy)
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Chown(s.dir, user, user); err != nil {
		d.t.Fatal(err)
	}
	s.admin = unixClient(d.t, s.path("admin.sock"))
	s.process = start(d.t, d.path(name+".log"), e.user, everyhop, "run", "--policy", d.path(name+".yaml"),
		"--identity", "unix://"+d.path("agent.sock"), "--inbound", "127.0.0.1:0", "--admin", "unix://"+s.path("admin.sock"),
		"--audit", s.path("audit"), "--log", "json", "--drain", "5s")
	s.process.name = name + "'s sidecar"
	return s
}

// orders is a service with an app behind it, that answers with who asked for what.
func (d *domain) orders(e entry, callers ...string) *sidecar {
	d.t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", r.RequestURI, r.Header.Get("Everyhop-Caller"))
	}))
	d.t.Cleanup(app.Close)
	return d.join(e, fmt.Sprintf(`service: %s
app: %s
allow:
  - {from: [%s], to: "GET /orders/{id}"}
`, d.id(e.name), app.URL, strings.Join(callers, ", ")))
}

// web is a service that calls others, each by its SPIFFE ID and its address.
func (d *domain) web(e entry, calls map[string]*sidecar) *sidecar {
	d.t.Helper()
	policy := fmt.Sprintf("service: %s\ncalls:\n", d.id(e.name))
	for id, at := range calls {
		call := id[strings.LastIndex(id, "/")+1:]
		policy += fmt.Sprintf("  %s: {as: %s, at: %s, local: %q, allow: [\"GET /orders/{id}\"]}\n",
			call, id, at.inbound(), "unix://"+filepath.Join(d.path(e.name), call+".sock"))
	}
	return d.join(e, policy)
}

// What most tests register.
var (
	webEntry    = entry{name: "web", user: webUser}
	ordersEntry = entry{name: "orders", user: ordersUser}
)

// pair is web calling orders, both registered and ready: a whole hop.
func (d *domain) pair() (web, orders *sidecar) {
	d.t.Helper()
	return d.pairOf(webEntry, ordersEntry)
}

func (d *domain) pairOf(caller, called entry) (web, orders *sidecar) {
	d.t.Helper()
	d.register(caller)
	d.register(called)
	orders = d.orders(called, d.id(caller.name))
	orders.awaitReady()
	web = d.web(caller, map[string]*sidecar{d.id(called.name): orders})
	web.awaitReady()
	return web, orders
}

func (s *sidecar) path(name string) string { return filepath.Join(s.dir, name) }

// caller is the app's client of a call of the sidecar.
func (s *sidecar) caller(call string) *http.Client { return unixClient(s.t, s.path(call+".sock")) }

func unixClient(t *testing.T, socket string) *http.Client {
	transport := &http.Transport{
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// get asks once, and reads the answer to its end.
func get(c *http.Client, path string) (status int, body string, err error) {
	answer, err := c.Get("http://localhost" + path)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// readiness is what /readyz says; status 0 where nobody answers.
func (s *sidecar) readiness() (status int, says string) {
	status, says, _ = get(s.admin, "/readyz")
	return status, says
}

func (s *sidecar) awaitReady() {
	s.t.Helper()
	await(s.t, s.name+" to be ready", func() bool {
		s.mustRun()
		status, _ := s.readiness()
		return status == http.StatusOK
	})
}

// awaitUnready waits until it is not ready, and says why.
func (s *sidecar) awaitUnready() (says string) {
	s.t.Helper()
	await(s.t, s.name+" not to be ready", func() bool {
		s.mustRun()
		var status int
		status, says = s.readiness()
		return status == http.StatusServiceUnavailable
	})
	return says
}

func (s *sidecar) mustRun() {
	s.t.Helper()
	if s.ended() {
		s.t.Fatalf("%s ended:\n%s", s.name, s.logTail())
	}
}

// identity is what /identity says of the SVID in use.
type identity struct {
	ID        string         `json:"id"`
	Serial    string         `json:"serial"`
	NotAfter  time.Time      `json:"not_after"`
	Domains   map[string]int `json:"trust_domains"`
	Updates   int            `json:"updates"`
	LastError string         `json:"last_error"`
}

func (s *sidecar) identity() (i identity) {
	s.t.Helper()
	status, text, err := get(s.admin, "/identity")
	if err == nil {
		err = json.Unmarshal([]byte(text), &i)
	}
	if err != nil {
		s.t.Fatalf("asking %s for its identity: %d %q, %v\n%s", s.name, status, text, err, s.logTail())
	}
	return i
}

// awaitRenewal waits until another SVID than that one is in use.
func (s *sidecar) awaitRenewal(old identity) identity {
	s.t.Helper()
	fresh := old
	await(s.t, s.name+" to have a newer SVID", func() bool {
		fresh = s.identity()
		return fresh.Serial != "" && fresh.Serial != old.Serial
	})
	return fresh
}

// inbound is where the sidecar, which is ready, can be dialled.
func (s *sidecar) inbound() string {
	s.t.Helper()
	var address string
	await(s.t, s.name+" to say where it listens", func() bool {
		for lines := bufio.NewScanner(strings.NewReader(s.said())); lines.Scan(); {
			var line struct{ Msg, Inbound string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
				address = line.Inbound
			}
		}
		return address != ""
	})
	return address
}

// record is what the tests read of an audit record.
type record struct {
	Time    time.Time `json:"time"`
	Caller  string    `json:"caller"`
	Serial  string    `json:"caller_serial"`
	Verdict string    `json:"verdict"`
	Reason  string    `json:"reason"`
	Status  int       `json:"status"`
}

// stopAndRead stops the sidecar as an operator does, so that every record is
// written, and reads them.
func (s *sidecar) stopAndRead() []record {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatalf("stopping %s: %v", s.name, err)
	}
	<-s.done
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("%s ended with %d", s.name, code)
	}
	text, err := os.ReadFile(s.path("audit"))
	if err != nil {
		s.t.Fatal(err)
	}
	var records []record
	for line := range bytes.Lines(text) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			s.t.Fatalf("audit line %q: %v", line, err)
		}
		records = append(records, r)
	}
	return records
}
