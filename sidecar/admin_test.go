package sidecar

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// L18.
func TestAdmin_AnswersOnlyWhoMeantToAsk(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, c := range []struct {
		bound, method, host, origin string
		want                        int
	}{
		{"127.0.0.1:15000", "GET", "127.0.0.1:15000", "", 204},
		{"127.0.0.1:15000", "HEAD", "127.0.0.1", "", 204},
		{"127.0.0.1:15000", "GET", "localhost:15000", "", 204},
		{"127.0.0.1:15000", "GET", "LOCALHOST:15000", "", 204},
		{"127.0.0.1:15000", "GET", "[::1]:15000", "", 204},
		{"0.0.0.0:15000", "GET", "10.1.2.3:15000", "", 204},
		{"orders.internal:15000", "GET", "orders.internal:15000", "", 204},
		{"unix:///run/admin.sock", "GET", "anything", "", 204},
		{"127.0.0.1:15000", "GET", "evil.test", "", 403},
		{"127.0.0.1:15000", "GET", "evil.test:15000", "", 403},
		{"127.0.0.1:15000", "GET", "127.0.0.1.evil.test", "", 403},
		{":15000", "GET", "", "", 403},
		{"127.0.0.1:15000", "GET", "127.0.0.1:15000", "https://evil.test", 403},
		{"127.0.0.1:15000", "GET", "127.0.0.1:15000", "null", 403},
		{"127.0.0.1:15000", "POST", "127.0.0.1:15000", "", 405},
		{"127.0.0.1:15000", "DELETE", "127.0.0.1:15000", "", 405},
		{"127.0.0.1:15000", "OPTIONS", "127.0.0.1:15000", "", 405},
	} {
		r := httptest.NewRequest(c.method, "/readyz", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		readOnly(c.bound, served).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s on %s, host %q, origin %q: got %d, want %d", c.method, c.bound, c.host, c.origin, w.Code, c.want)
		}
	}
}

// L14.
func TestListen_UnixSocketIsForThisUserOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := listen("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", stat.Mode(), err)
	}
}

func TestListen_StaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	first, err := listen("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen("unix://" + path); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("while it answers: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as a process that was killed leaves it
	first.Close()
	second, err := listen("unix://" + path)
	if err != nil {
		t.Fatalf("once it is stale: %v", err)
	}
	second.Close()
}

func TestListen_FileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen("unix://" + path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "x" {
		t.Errorf("the file was touched: %q, %v", text, err)
	}
}

func TestReadiness_SaysItsReasonsOneALine(t *testing.T) {
	for _, c := range []struct {
		r    readiness
		want string
	}{
		{readiness{}, "ready\n"},
		{readiness{degraded: []string{"a"}}, "ready, degraded\na\n"},
		{readiness{reasons: []string{"a", "b"}, degraded: []string{"c"}}, "not ready\na\nb\nc\n"},
	} {
		if got := c.r.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestAdmin_TellsHowItIs(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	shop.want(shop.client("web"), orderURL(s), 200)
	plain := shop.client("")
	for path, want := range map[string][]string{
		"/livez":    {"alive\n"},
		"/readyz":   {"ready\n"},
		"/policy":   {`"service": "spiffe://example.org/orders"`, `"generation": 1`, `"name": "read-order"`, s.Policy().Digest},
		"/identity": {`"id": "spiffe://example.org/orders"`, `"example.org": 1`, `"not_after"`},
		"/metrics": {
			`everyhop_decisions_total{direction="inbound",grant="read-order",reason="allowed",verdict="allow"} 1`,
			"everyhop_ready 1", "everyhop_policy_generation 1", "everyhop_policy_last_reload_successful 1",
			`everyhop_policy_info{digest="` + s.Policy().Digest + `"} 1`, "everyhop_svid_not_after_seconds 1.",
			`everyhop_build_info{goversion="go`, "go_goroutines", "process_open_fds",
		},
	} {
		body := shop.want(plain, adminURL(s, path), 200)
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("no %s in %s:\n%s", text, path, body)
			}
		}
	}
	shop.want(plain, adminURL(s, "/debug/pprof/"), 404)
	var view map[string]any
	for _, path := range []string{"/policy", "/identity"} {
		if err := json.Unmarshal([]byte(shop.want(plain, adminURL(s, path), 200)), &view); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestMetrics_PassTheLinter(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	problems, err := testutil.GatherAndLint(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestAdmin_IsNotServedOnTheDataPath(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	for _, path := range []string{"/metrics", "/readyz", "/livez", "/policy", "/identity", "/debug/pprof/", "/quitquitquit"} {
		shop.want(shop.client("web"), "https://"+s.Addr("inbound").String()+path, 403)
	}
}

func TestAudit_BrokenLogRefusesRequestsAndReadiness(t *testing.T) {
	shop := newShop(t)
	shop.config.Audit = "/dev/full"
	s := shop.start()
	web := shop.client("web")
	until(t, "refused", func() bool { status, _, err := get(web, orderURL(s)); return err == nil && status == 503 })
	if body := shop.want(shop.client(""), adminURL(s, "/readyz"), 503); !strings.Contains(body, "no space left on device") {
		t.Errorf("readyz: %q", body)
	}
	if err := s.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "closing the audit log") {
		t.Errorf("stop: %v", err)
	}
}
