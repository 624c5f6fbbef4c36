//go:build linux

package spire

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// domain is a trust domain: a SPIRE server and an agent, and what runs in it.
type domain struct {
	t             *testing.T
	name          string
	dir           string // every user may search it
	server, agent *process
}

// ttls are the lives of what a server issues. SPIRE dates certificates back by
// 10 s and renews them when half of their life is left, give or take a tenth: an
// SVID of 20 s about every 5 s. An SVID never outlives the authority that signs it.
type ttls struct{ svid, authority time.Duration }

// newDomain starts a server and an agent that has joined it.
func newDomain(t *testing.T, name string, lives ttls) *domain {
	t.Helper()
	d := &domain{t: t, name: name, dir: filepath.Join(newDir(t), name)}
	for _, dir := range []string{d.dir, d.path("server"), d.path("agent")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if lives.authority == 0 {
		lives.authority = 24 * time.Hour
	}
	port := freePort(t)
	d.write("server.conf", fmt.Sprintf(serverConf, name, port, d.path("server.sock"), d.path("server"), lives.svid, lives.authority))
	d.write("agent.conf", fmt.Sprintf(agentConf, name, port, d.path("agent.sock"), d.path("agent"), d.path("bundle.pem")))
	d.startServer()
	d.startAgent()
	return d
}

// The intervals are a second, where SPIRE's own are five: what is measured here is
// how long the sidecar takes.
const serverConf = `server {
  trust_domain          = %[1]q
  bind_address          = "127.0.0.1"
  bind_port             = "%[2]d"
  socket_path           = %[3]q
  data_dir              = %[4]q
  default_x509_svid_ttl = "%[5]v"
  ca_ttl                = "%[6]v"
  agent_ttl             = "1h"
  log_level             = "INFO"
  ratelimit { attestation = false signing = false }
  experimental { cache_reload_interval = "1s" }
}
plugins {
  DataStore "sql" {
    plugin_data {
      database_type     = "sqlite3"
      connection_string = "%[4]s/datastore.sqlite3"
    }
  }
  KeyManager "disk" {
    plugin_data { keys_path = "%[4]s/keys.json" }
  }
  NodeAttestor "join_token" {
    plugin_data {}
  }
}
`

const agentConf = `agent {
  trust_domain      = %[1]q
  server_address    = "127.0.0.1"
  server_port       = "%[2]d"
  socket_path       = %[3]q
  data_dir          = %[4]q
  trust_bundle_path = %[5]q
  log_level         = "INFO"
  experimental { sync_interval = "1s" }
}
plugins {
  KeyManager "disk" {
    plugin_data { directory = %[4]q }
  }
  NodeAttestor "join_token" {
    plugin_data {}
  }
  WorkloadAttestor "unix" {
    plugin_data {}
  }
}
`

func (d *domain) path(name string) string { return filepath.Join(d.dir, name) }

// id is the SPIFFE ID of a service here.
func (d *domain) id(name string) string { return "spiffe://" + d.name + "/" + name }

func (d *domain) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// startServer starts the server, or starts it again with its old keys.
func (d *domain) startServer() {
	d.t.Helper()
	d.server = start(d.t, d.path("server.log"), root, spireBinary("spire-server"), "run", "-config", d.path("server.conf"))
	d.awaitHealth(d.server, d.path("server.sock"))
}

// startAgent starts the agent, or starts it again. The token is for an agent whose
// own SVID is gone or expired; one that still has it does not use the token.
func (d *domain) startAgent() {
	d.t.Helper()
	d.write("bundle.pem", d.admin("bundle", "show"))
	_, token, _ := strings.Cut(d.admin("token", "generate", "-spiffeID", d.id("agent")), "Token: ")
	d.agent = start(d.t, d.path("agent.log"), root, spireBinary("spire-agent"),
		"run", "-config", d.path("agent.conf"), "-joinToken", strings.TrimSpace(token))
	d.awaitHealth(d.agent, d.path("agent.sock"))
}

// awaitHealth waits until the process says that it serves.
func (d *domain) awaitHealth(p *process, socket string) {
	d.t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	health := grpc_health_v1.NewHealthClient(conn)
	await(d.t, p.name+" to be healthy: see "+p.log, func() bool {
		if p.ended() {
			d.t.Fatalf("%s ended:\n%s", p.name, p.logTail())
		}
		conn.ResetConnectBackoff()
		answer, err := health.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
		return err == nil && answer.Status == grpc_health_v1.HealthCheckResponse_SERVING
	})
}

// admin runs a command of spire-server against this server.
func (d *domain) admin(args ...string) string {
	d.t.Helper()
	out, err := d.tryAdmin("", args...)
	if err != nil {
		d.t.Fatalf("spire-server %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (d *domain) tryAdmin(in string, args ...string) (string, error) {
	cmd := exec.Command(spireBinary("spire-server"), append(args, "-socketPath", d.path("server.sock"))...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// entry is a name for the processes of a user.
type entry struct {
	name          string
	user          uint32
	ttl           time.Duration // of its SVIDs; the server's own if zero
	federatesWith string        // the other trust domain whose bundle it gets, or none
}

// register makes an entry, or changes what it says. The agent knows it a moment later.
func (d *domain) register(e entry) {
	d.t.Helper()
	args := []string{"-entryID", e.name, "-spiffeID", d.id(e.name), "-parentID", d.id("agent"),
		"-selector", fmt.Sprintf("unix:uid:%d", e.user), "-x509SVIDTTL", fmt.Sprintf("%.0f", e.ttl.Seconds())}
	if e.federatesWith != "" {
		args = append(args, "-federatesWith", "spiffe://"+e.federatesWith)
	}
	verb := "create"
	if strings.Contains(d.admin("entry", "show"), d.id(e.name)+"\n") {
		verb = "update"
	}
	d.admin(append([]string{"entry", verb}, args...)...)
}

// unregister takes the identity of that name away.
func (d *domain) unregister(name string) {
	d.t.Helper()
	d.admin("entry", "delete", "-entryID", name)
}

// federate gives both servers the other's bundle as it is now.
func federate(a, b *domain) {
	a.t.Helper()
	for _, pair := range [][2]*domain{{a, b}, {b, a}} {
		bundle := pair[0].admin("bundle", "show", "-format", "spiffe")
		if out, err := pair[1].tryAdmin(bundle, "bundle", "set", "-format", "spiffe", "-id", "spiffe://"+pair[0].name); err != nil {
			a.t.Fatalf("giving %s the bundle of %s: %v\n%s", pair[1].name, pair[0].name, err, out)
		}
	}
}

// freePort is a port that was free a moment ago: a server that comes back must
// come back on the same one.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}
