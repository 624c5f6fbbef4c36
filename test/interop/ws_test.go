package interop

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/everyhop/everyhop/test/tools"
)

// node is Node with the modules of testdata/ws, which npm installs from its lock
// file into the cache, once.
func node(t testing.TB) tools.Tool {
	t.Helper()
	tool := need(t, "node")
	npm, err := exec.LookPath("npm")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI must provide npm: %v", err)
		}
		t.Skipf("NOT RUN: %v: install npm to run it", err)
	}
	cache, err := tools.DefaultCache()
	must(t, err)
	lock, err := os.ReadFile(filepath.Join("testdata", "ws", "package-lock.json"))
	must(t, err)
	sum := sha256.Sum256(lock)
	folder := filepath.Join(cache, "npm", hex.EncodeToString(sum[:8]))
	modules := filepath.Join(folder, "node_modules")
	if _, err := os.Stat(modules); err != nil {
		install(t, npm, cache, folder)
	}
	tool.Env = append(tool.Env, "NODE_PATH="+modules)
	return tool
}

// install has npm fill the folder, or leaves none.
func install(t testing.TB, npm, cache, folder string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(folder), 0o755))
	fresh, err := os.MkdirTemp(cache, "npm")
	must(t, err)
	defer os.RemoveAll(fresh)
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", "ws", name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(fresh, name), text, 0o644))
	}
	command := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	command.Dir = fresh
	if out, err := command.CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
		t.Skipf("NOT RUN: npm ci: %v\n%s", err, out)
	}
	if err := os.Rename(fresh, folder); err != nil { // or another test was faster
		_, err = os.Stat(folder)
		must(t, err)
	}
}

// chat is two sidecars with WebSocket open between them, and a server of npm's ws
// behind them.
type chat struct {
	*pair
	node   tools.Tool
	server *process
	app    string
}

const closedRoom = `service: spiffe://example.org/orders
app: http://%s
tls: {alpn: [%s]}
allow:
  - {name: room, from: spiffe://example.org/web, to: "GET /rooms/{id}"%s}
`

func newChat(t *testing.T, alpn string) *chat {
	c := &chat{node: node(t), app: freeAddress(t)}
	m := newMesh(t)
	c.server = start(t, filepath.Join(m.dir, "server.log"), c.node, filepath.Join("testdata", "ws", "server.js"), c.app)
	c.server.awaitPort(t, c.app)
	c.pair = &pair{mesh: m, local: freeAddress(t)}
	c.orders = m.join("orders", fmt.Sprintf(closedRoom, c.app, alpn, ", upgrade: websocket"))
	c.inbound = c.orders.Addr("inbound").String()
	c.web = m.join("web", fmt.Sprintf(`service: spiffe://example.org/web
tls: {alpn: [%s]}
calls:
  orders:
    as: spiffe://example.org/orders
    at: %s
    local: %s
    allow: "GET /**"
    upgrade: websocket
`, alpn, c.inbound, c.local))
	return c
}

// client starts a client of npm's ws, and returns what it prints until it ends.
func (c *chat) client(more ...string) *process {
	c.t.Helper()
	log, err := os.CreateTemp(c.dir, "client")
	must(c.t, err)
	must(c.t, log.Close())
	return start(c.t, log.Name(), c.node, append([]string{filepath.Join("testdata", "ws", "client.js"), "ws://" + c.local + "/rooms/7"}, more...)...)
}

func (p *process) said() string {
	text, _ := os.ReadFile(p.log) // what is not there was not said
	return string(text)
}

// Client and server of npm's ws, and both sidecars in between.
func TestWS_ClientAndServerTalkThroughTwoSidecars(t *testing.T) {
	for _, alpn := range []string{"h2", "http/1.1"} {
		t.Run(alpn, func(t *testing.T) {
			c := newChat(t, alpn)
			client := c.client()
			<-client.done
			if got := client.said(); got != "talked\nclosed 4001 as asked\n" {
				t.Errorf("the client said %q", got)
			}
			if got := c.server.said(); !strings.HasPrefix(got, "open /rooms/7 spiffe://example.org/web nothing\nping are you there\n") {
				t.Errorf("the server said %q", got)
			}
			for _, s := range []*member{c.web, c.orders} {
				records := s.stopAndRead()
				if len(records) != 1 || records[0].Verdict != "allow" || records[0].Reason != "allowed" {
					t.Errorf("%+v", records)
				}
			}
		})
	}
}

// U12: an edit of the policy ends what it does not open any more, for both ends.
func TestWS_PolicyThatClosesTheRoomClosesTheSocket(t *testing.T) {
	for _, alpn := range []string{"h2", "http/1.1"} {
		t.Run(alpn, func(t *testing.T) {
			c := newChat(t, alpn)
			client := c.client("waits")
			await(t, "the client's talk", func() bool { return client.said() == "talked\n" })
			must(t, os.WriteFile(filepath.Join(c.dir, "orders.yaml"), fmt.Appendf(nil, closedRoom, c.app, alpn, ""), 0o600))
			<-client.done
			if got := client.said(); got != "talked\nclosed 1008 \n" {
				t.Errorf("the client said %q", got)
			}
			await(t, "the server's end", func() bool { return strings.HasSuffix(c.server.said(), "close 1008\n") })

			again := c.client()
			<-again.done
			if got := again.said(); got != "refused 403\n" {
				t.Errorf("the second client said %q", got)
			}
			records := c.orders.stopAndRead()
			if len(records) != 2 || records[0].Reason != "upgrade_undeclared" || records[0].Verdict != "allow" || records[1].Verdict != "deny" {
				t.Errorf("%+v", records)
			}
		})
	}
}
