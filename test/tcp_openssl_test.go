package test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
)

// A client that is no sidecar and knows nothing of SPIFFE.
func TestTCP_OpenSSLIsAClientLikeAnyOther(t *testing.T) {
	requireTool(t, "openssl")
	m := newMesh(t, "db")
	question := bytes.Repeat([]byte("0123456789\n"), 10_000)
	app := newBytesApp(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "220 ready\n")
		n, err := io.CopyN(io.Discard, c, int64(len(question)))
		_, _ = fmt.Fprintf(c, "heard %d bytes, %v\n", n, err)
	})
	db := m.join("db", bytesPolicy(app, ""))
	for name, want := range map[string]string{
		"web":   fmt.Sprintf("220 ready\nheard %d bytes, <nil>\n", len(question)),
		"other": "",
	} {
		files := filepath.Join(m.dir, name)
		if err := m.domain.WriteSVID(name, files); err != nil {
			t.Fatal(err)
		}
		ask := exec.Command("openssl", "s_client", "-connect", db.Addr("inbound").String(), "-quiet", "-verify_quiet",
			"-cert", filepath.Join(files, "svid.pem"), "-key", filepath.Join(files, "key.pem"), "-CAfile", filepath.Join(files, "bundle.pem"))
		ask.Stdin = bytes.NewReader(question)
		answer, err := ask.Output()
		t.Logf("%s: %v", name, err)
		if string(answer) != want {
			t.Errorf("%s heard %q, want %q", name, answer, want)
		}
	}
	if got := reasons(db.stopAndRead()); got != "allow allowed, deny caller_undeclared" {
		t.Errorf("records: %s", got)
	}
}
