package sidecar

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

func TestProbe_SaysWhatReadyzSays(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		says   string
		ready  bool
	}{
		{"ready", 200, "ready\n", true},
		{"degraded", 200, "ready, degraded\nwhy\n", true},
		{"not ready", 503, "not ready\nwhy\n", false},
		{"somebody else's redirect", 302, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := filepath.Join(t.TempDir(), "a")
			ln, err := net.Listen("unix", address)
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/readyz" || r.Host != "localhost" {
					t.Errorf("asked %s of %s", r.URL.Path, r.Host)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.says))
			})}
			done := make(chan struct{})
			go func() { defer close(done); _ = server.Serve(ln) }()
			defer func() { _ = server.Close(); <-done }()
			ready, says, err := Probe(context.Background(), "unix://"+address)
			if err != nil || ready != c.ready || says != c.says {
				t.Errorf("Probe = %v, %q, %v", ready, says, err)
			}
		})
	}
}

func TestProbe_NobodyThereIsAnError(t *testing.T) {
	if ready, _, err := Probe(context.Background(), "unix://"+filepath.Join(t.TempDir(), "a")); err == nil || ready {
		t.Errorf("Probe = %v, %v", ready, err)
	}
}
