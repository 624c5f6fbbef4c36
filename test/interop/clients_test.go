package interop

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// depot is an app that has one large file, and says what it is sent.
func (m *mesh) depot(size int64) (address, sum string) {
	m.t.Helper()
	path := filepath.Join(m.dir, "large")
	file, err := os.Create(path)
	must(m.t, err)
	defer file.Close()
	digest := sha256.New()
	_, err = io.CopyN(io.MultiWriter(file, digest), rand.Reader, size)
	must(m.t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("/a/large", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	mux.HandleFunc("/a/sum", func(w http.ResponseWriter, r *http.Request) {
		digest := sha256.New()
		n, err := io.Copy(digest, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%d %s length %d", n, hexOf(digest), r.ContentLength)
	})
	return m.serve(mux, false), hexOf(digest)
}

func hexOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// way is one of the ways that a client has to a sidecar.
type way struct {
	name, base string
	flags      []string
}

// ways are those of curl: mutual TLS to the inbound port as a client that is no
// sidecar, and the plain port of a call, in both protocols each.
func (p *pair) ways() []way {
	svid := p.svid("web")
	secure := []string{"--cert", svid + "/svid.pem", "--key", svid + "/key.pem", "--cacert", svid + "/bundle.pem", "--resolve"}
	_, port, _ := strings.Cut(p.inbound, ":")
	secure = append(secure, hostName+":"+port+":127.0.0.1")
	inbound := "https://" + hostName + ":" + port
	return []way{
		{"inbound http/1.1", inbound, append(slices.Clip(secure), "--http1.1")},
		{"inbound h2", inbound, append(slices.Clip(secure), "--http2")},
		{"outbound http/1.1", "http://" + p.local, []string{"--http1.1"}},
		{"outbound h2c", "http://" + p.local, []string{"--http2-prior-knowledge"}},
	}
}

const mebibyte = 1 << 20

func TestHop_CarriesWhatCurlDoes(t *testing.T) {
	curl := need(t, "curl")
	m := newMesh(t)
	size := int64(scale(100, 100)) * mebibyte
	app, sum := m.depot(size)
	p := m.pair("http://" + app)
	dir := t.TempDir()
	upload := bytes.Repeat([]byte("0123456789abcdef"), 2*mebibyte/16)
	must(t, os.WriteFile(filepath.Join(dir, "upload"), upload, 0o600))
	uploaded := sha256.New()
	uploaded.Write(upload)
	large, err := os.ReadFile(filepath.Join(m.dir, "large"))
	must(t, err)
	for _, w := range p.ways() {
		t.Run(w.name, func(t *testing.T) {
			ask := func(t *testing.T, path string, flags ...string) string {
				t.Helper()
				return run(t, curl, slices.Concat([]string{"--silent", "--show-error", "--fail", "--max-time", "60"}, w.flags, flags, []string{w.base + path})...)
			}
			t.Run("a large answer", func(t *testing.T) {
				if got := sha256.Sum256([]byte(ask(t, "/a/large"))); hex.EncodeToString(got[:]) != sum {
					t.Error("the answer is not the file")
				}
			})
			t.Run("a range", func(t *testing.T) {
				const from, to = 70_001, 250_000
				if got := ask(t, "/a/large", "--range", fmt.Sprintf("%d-%d", from, to)); got != string(large[from:to+1]) {
					t.Errorf("%d bytes that are not those of the range", len(got))
				}
			})
			t.Run("HEAD", func(t *testing.T) {
				head := strings.ToLower(ask(t, "/a/large", "--head"))
				if !strings.Contains(head, fmt.Sprintf("content-length: %d\r\n", size)) {
					t.Errorf("the head does not say the length: %s", head)
				}
			})
			t.Run("an upload of unknown length", func(t *testing.T) {
				want := fmt.Sprintf("%d %s length -1", len(upload), hexOf(uploaded))
				if got := ask(t, "/a/sum", "--request", "POST", "--header", "Transfer-Encoding: chunked", "--header", "Expect:",
					"--data-binary", "@"+dir+"/upload"); got != want && !strings.Contains(w.name, "h2") {
					t.Errorf("%q, want %q", got, want)
				} else if !strings.HasPrefix(got, want[:60]) {
					t.Errorf("%q, want %q", got, want[:60])
				}
			})
			t.Run("Expect 100-continue with 2 MiB", func(t *testing.T) {
				want := fmt.Sprintf("%d %s length %d", len(upload), hexOf(uploaded), len(upload))
				if got := ask(t, "/a/sum", "--expect100-timeout", "20", "--header", "Expect: 100-continue", "--data-binary", "@"+dir+"/upload"); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			})
			t.Run("many on one connection", func(t *testing.T) {
				if w.name == "outbound h2c" {
					t.Skip("curl 7.88 itself fails the second request of a connection with prior knowledge, whatever server it asks")
				}
				got := ask(t, "/a/sum?q=[1-40]", "--data-binary", "small", "--write-out", "\n%{http_code} %{num_connects}\n")
				if n := strings.Count(got, "\n200 0\n"); n != 39 {
					t.Errorf("%d of 39 later requests were answered by 200 on the connection of the first: %s", n, got)
				}
			})
		})
	}
}

func TestHop_AnswersEveryRequestOfH2load(t *testing.T) {
	h2load := need(t, "h2load")
	m := newMesh(t)
	app, _ := m.depot(100)
	p := m.pair("http://" + app)
	for scheme, base := range map[string]string{
		"http":  p.local,
		"https": originate(t, p.inbound, m.tls("web", "h2")), // h2load has no client certificates
	} {
		t.Run(scheme, func(t *testing.T) {
			n := scale(10_000, 100_000)
			out := run(t, h2load, "-n", fmt.Sprint(n), "-c", "2", "-m", "100", "--header", ":scheme: "+scheme, "http://"+base+"/a/large")
			if want := fmt.Sprintf("status codes: %d 2xx, 0 3xx, 0 4xx, 0 5xx", n); !strings.Contains(out, want) {
				t.Errorf("not %q:\n%s", want, out)
			}
		})
	}
}

var nghttpStatus = regexp.MustCompile(`(?m):status: (\d+)$`)

func TestInbound_AnswersNghttp(t *testing.T) {
	nghttp := need(t, "nghttp")
	m := newMesh(t)
	app, _ := m.depot(100_000)
	p := m.pair("http://" + app)
	svid := p.svid("web")
	url := "https://" + p.inbound + "/a/large"
	out := run(t, nghttp, "--verbose", "--null-out", "--multiply=100", "--window-bits=10", "--no-verify-peer",
		"--cert="+svid+"/svid.pem", "--key="+svid+"/key.pem", url)
	counted := map[string]int{}
	for _, status := range nghttpStatus.FindAllStringSubmatch(out, -1) {
		counted[status[1]]++
	}
	if counted["200"] != 100 || len(counted) != 1 {
		t.Errorf("answers by status: %v, want 100 of 200", counted)
	}
}
