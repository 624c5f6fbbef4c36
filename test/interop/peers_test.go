package interop

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
)

// peer is a foreign program at one end of the hop, with its configuration there.
type peer struct {
	name, config string
	h2           bool
}

// nginx 1.22 speaks no HTTP/2 to a server.
var servers = []peer{
	{"nginx", "nginx-server.conf", false}, {"nginx", "nginx-server.conf", true},
	{"haproxy", "haproxy-server.cfg", false}, {"haproxy", "haproxy-server.cfg", true},
	{"envoy", "envoy-server.yaml", false}, {"envoy", "envoy-server.yaml", true},
}

var clients = []peer{
	{"nginx", "nginx-client.conf", false},
	{"haproxy", "haproxy-client.cfg", false}, {"haproxy", "haproxy-client.cfg", true},
	{"envoy", "envoy-client.yaml", false}, {"envoy", "envoy-client.yaml", true},
}

func (p peer) String() string {
	if p.h2 {
		return p.name + " h2"
	}
	return p.name + " http1.1"
}

func TestOutbound_IsAnsweredByForeignServers(t *testing.T) {
	for _, server := range servers {
		t.Run(server.String(), func(t *testing.T) {
			m := newMesh(t)
			app, sum := m.depot(5 * mebibyte)
			at := m.foreign(server.name, server.config, place{To: app, SVID: m.svid("orders"), H2: server.h2}).Listen
			local := freeAddress(t)
			m.join("web", webPolicy(at, local))
			exercise(t, "http://"+local, sum)
		})
	}
}

// A server that is not who the call says is not spoken to, whatever its chain.
func TestOutbound_RefusesAForeignServerOfAnotherName(t *testing.T) {
	m := newMesh(t)
	app, _ := m.depot(1)
	at := m.foreign("nginx", "nginx-server.conf", place{To: app, SVID: m.svid("web")}).Listen
	local := freeAddress(t)
	m.join("web", webPolicy(at, local))
	status, _, err := ask(http.DefaultTransport, "GET", "http://"+local+"/a/sum", nil)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	must(t, err)
	if status != http.StatusBadGateway {
		t.Errorf("answered by %d, want 502", status)
	}
}

func TestInbound_AnswersForeignClients(t *testing.T) {
	for _, client := range clients {
		t.Run(client.String(), func(t *testing.T) {
			m := newMesh(t)
			app, sum := m.depot(5 * mebibyte)
			orders := m.join("orders", ordersPolicy("http://"+app))
			plain := m.foreign(client.name, client.config, place{To: orders.Addr("inbound").String(), SVID: m.svid("web"), H2: client.h2}).Listen
			exercise(t, "http://"+plain, sum)
		})
	}
}

// Python's web server answers in HTTP/1.0, without keep-alive.
func TestInbound_PassesAnswersOfHTTP10(t *testing.T) {
	python := need(t, "python3")
	m := newMesh(t)
	_, sum := m.depot(5 * mebibyte)
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	site := t.TempDir()
	// The folder /a of the site is where the depot's file is.
	must(t, os.Symlink(m.dir, path.Join(site, "a")))
	start(t, path.Join(t.TempDir(), "log"), python, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", site, port).awaitPort(t, address)
	p := m.pair("http://" + address)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for i := range 10 {
		if err := fetched(transport, "http://"+p.local+"/a/large", sum); err != nil {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	if status, _, err := ask(transport, "HEAD", "http://"+p.local+"/a/large", nil); err != nil || status != http.StatusOK {
		t.Errorf("HEAD is answered by %d, %v", status, err)
	}
	if status, _, err := ask(transport, "POST", "http://"+p.local+"/a/large", strings.NewReader("x")); err != nil || status != http.StatusNotImplemented {
		t.Errorf("POST is answered by %d, %v, not as the app does", status, err)
	}
}

// nginx speaks HTTP/1.0 to what it forwards to, if nothing else is said.
func TestOutbound_AnswersAppsThatSpeakHTTP10(t *testing.T) {
	m := newMesh(t)
	app, sum := m.depot(5 * mebibyte)
	p := m.pair("http://" + app)
	exercise(t, "http://"+m.foreign("nginx", "nginx-plain.conf", place{To: p.local}).Listen, sum)
}

// exercise asks a depot for everything that it does, many times at once.
func exercise(t *testing.T, base, sum string) {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	body := bytes.Repeat([]byte("0123456789abcdef"), mebibyte/16)
	digest := sha256.New()
	digest.Write(body)
	steps := map[string]func() error{
		"a large answer": func() error { return fetched(transport, base+"/a/large", sum) },
		"a HEAD": func() error {
			return answered(http.StatusOK, "")(ask(transport, "HEAD", base+"/a/large", nil))
		},
		"a path that the app does not have": func() error {
			return answered(http.StatusNotFound, "404 page not found\n")(ask(transport, "GET", base+"/a/none", nil))
		},
		"an upload of known length": func() error {
			return answered(http.StatusOK, fmt.Sprintf("%d %s", len(body), hexOf(digest)))(ask(transport, "POST", base+"/a/sum", bytes.NewReader(body)))
		},
		"an upload of unknown length": func() error {
			return answered(http.StatusOK, fmt.Sprintf("%d %s", len(body), hexOf(digest)))(ask(transport, "PUT", base+"/a/sum", io.MultiReader(bytes.NewReader(body))))
		},
		"a small answer": func() error {
			return answered(http.StatusOK, "0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")(ask(transport, "GET", base+"/a/sum?q=1", nil))
		},
	}
	var asking sync.WaitGroup
	for name, step := range steps {
		var first sync.Once
		for range 4 {
			asking.Go(func() {
				for range 5 {
					if err := step(); err != nil {
						first.Do(func() { t.Errorf("%s: %v", name, err) })
					}
				}
			})
		}
	}
	asking.Wait()
}

// ask asks once, and reads the answer's body to its end.
func ask(by http.RoundTripper, method, url string, body io.Reader) (status int, text string, err error) {
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		return 0, "", err
	}
	answer, err := by.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(all), err
}

// answered is an error unless an answer is the one that is wanted, or begins as it.
func answered(status int, begins string) func(int, string, error) error {
	return func(got int, text string, err error) error {
		if err == nil && (got != status || !strings.HasPrefix(text, begins)) {
			err = fmt.Errorf("answered by %d %.200q, want %d %q", got, text, status, begins)
		}
		return err
	}
}

// fetched is an error unless the answer is the file of that sum.
func fetched(by http.RoundTripper, url, sum string) error {
	status, text, err := ask(by, "GET", url, nil)
	if err != nil {
		return err
	}
	if got := sha256.Sum256([]byte(text)); status != http.StatusOK || fmt.Sprintf("%x", got) != sum {
		return fmt.Errorf("answered by %d and %d bytes that are not the file", status, len(text))
	}
	return nil
}
