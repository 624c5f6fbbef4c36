package sidecar

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
