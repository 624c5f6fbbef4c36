package h2_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// asked answers as its target says, and describes what it was asked.
func asked(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	body, err := io.ReadAll(r.Body)
	var fields []string
	for key, values := range r.Header {
		fields = append(fields, fmt.Sprintf("%s=%q", key, values))
	}
	slices.Sort(fields)
	for key, values := range q {
		if name, is := strings.CutPrefix(key, "h-"); is {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
	}
	w.Header().Set("Content-Type", "text/plain")
	status := 200
	fmt.Sscan(q.Get("status"), &status)
	if q.Has("early") {
		w.WriteHeader(103)
	}
	if q.Has("trailer") {
		w.Header().Set("Trailer", "X-Late")
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "%s %s %s %s %s %d %x %v\n", r.Method, r.RequestURI, r.Host, r.URL.Path, r.Proto, r.ContentLength, sha256.Sum256(body), err)
	fmt.Fprintln(w, strings.Join(fields, "\n"))
	var chunk, chunks int
	fmt.Sscan(q.Get("chunk"), &chunk)
	fmt.Sscan(q.Get("chunks"), &chunks)
	for i := range chunks {
		w.Write(bytes.Repeat([]byte{byte('a' + i%26)}, chunk))
		if q.Has("flush") {
			http.NewResponseController(w).Flush()
		}
	}
	w.Header().Set("X-Late", "late")
}

// generated is a request of that seed.
func generated(t testing.TB, seed uint64) *http.Request {
	g := rand.New(rand.NewPCG(seed, 1))
	pick := func(of ...string) string { return of[g.IntN(len(of))] }
	method := pick("GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE")
	target := "http://" + pick("h.test", "h.test:8443", "[::1]:80", "10.0.0.1") + pick("/", "/a", "/a/b%2fc", "/%7euser", "/a//b", "/a;b")
	target += fmt.Sprintf("?status=%s&chunk=%d&chunks=%d", pick("200", "200", "201", "204", "304", "404", "500"), g.IntN(40_000), g.IntN(5))
	for _, more := range []string{"flush", "early", "trailer", "h-x-a=1", "h-x-a=2", "h-set-cookie=a", "h-etag=%22x%22"} {
		if g.IntN(4) == 0 {
			target += "&" + more
		}
	}
	var body io.Reader
	if g.IntN(2) == 0 {
		body = bytes.NewReader(make([]byte, g.IntN(100_000)))
		if g.IntN(2) == 0 {
			body = io.MultiReader(body) // of unknown length
		}
	}
	r := request(t, method, target, body)
	r.Header.Set("User-Agent", "test")
	for range g.IntN(8) {
		r.Header.Add(pick("Accept", "X-A", "x-b", "Cookie", "Te", "Authorization", "Traceparent", "Grpc-Timeout"), pick("trailers", "a", "b=c", "", "caf\xe9"))
	}
	if r.Header["Cookie"] != nil {
		r.Header["Cookie"] = []string{"a=1; b=2"} // x/net's client rewrites others
	}
	return r
}

// The same handler behind net/http and behind us answers alike, to its client
// and to ours.
func TestDifferential_AnswersEqualNetHTTPs(t *testing.T) {
	own, foreign := ownServer(t, http.HandlerFunc(asked)), foreignServer(t, http.HandlerFunc(asked))
	reference := foreignClient(t, foreign)
	pairs := map[string]http.RoundTripper{
		"net/http to ours": foreignClient(t, own), "ours to ours": ownClient(t, own), "ours to net/http": ownClient(t, foreign),
	}
	requests := uint64(400)
	if long() {
		requests = 20_000
	}
	for seed := range requests {
		want := described(t, reference, generated(t, seed))
		for name, pair := range pairs {
			if got := described(t, pair, generated(t, seed)); got != want {
				t.Fatalf("seed %d, %s:\n%s\nwant\n%s", seed, name, got, want)
			}
		}
	}
}

// described is an answer in one text, without what each server says of itself.
func described(t testing.TB, to http.RoundTripper, r *http.Request) string {
	t.Helper()
	if te := r.Header["Te"]; len(te) > 0 { // x/net's client sends it as it is, and its server takes it
		r.Header.Set("Te", "trailers")
	}
	answer, body := exchange(t, to, r)
	var lines []string
	for key, values := range answer.Header {
		if key != "Date" && key != "Content-Length" {
			lines = append(lines, fmt.Sprintf("%s=%q", key, values))
		}
	}
	for key, values := range answer.Trailer {
		if r.Method == "HEAD" || answer.StatusCode == 204 || answer.StatusCode == 304 {
			break // net/http sends them for one of the three; we for none
		}
		lines = append(lines, fmt.Sprintf("trailer %s=%q", key, values))
	}
	slices.Sort(lines)
	if len(body) > 2000 {
		body = fmt.Sprintf("%s… %x", body[:1000], sha256.Sum256([]byte(body)))
	}
	return fmt.Sprintf("%s\n%s\n%s", answer.Status, strings.Join(lines, "\n"), body)
}
