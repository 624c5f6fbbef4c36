package serve_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

// describe is all that an application can learn of a request, as text.
func describe(r *http.Request) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.Method, r.RequestURI, r.Host, r.Proto, r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.URL.ForceQuery, r.ContentLength, r.TLS != nil)
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(&b, "%d %x %v\n", len(body), sha256.Sum256(body), err)
	describeHeader(&b, r.Header)
	describeHeader(&b, r.Trailer)
	return b.String()
}

func describeHeader(b *strings.Builder, header http.Header) {
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if name != "Date" && !(name == "Connection" && header.Get(name) == "close") {
			fmt.Fprintf(b, "%s: %q\n", name, header[name])
		}
	}
	b.WriteString("\n")
}

// answers answers as the path says.
func answers(w http.ResponseWriter, r *http.Request) {
	told := describe(r)
	w.Header().Set("Content-Type", "text/plain") // net/http would guess one; we add nothing
	switch r.URL.Path {
	case "/empty":
	case "/none":
		w.WriteHeader(http.StatusNoContent)
	case "/unchanged":
		w.Header().Set("Etag", `"a"`)
		w.Header().Del("Content-Type") // net/http does
		w.WriteHeader(http.StatusNotModified)
	case "/error":
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, told)
	case "/pieces":
		for piece := range strings.SplitSeq(told, "\n") {
			io.WriteString(w, piece+"\n")
			http.NewResponseController(w).Flush()
		}
	case "/sized":
		w.Header().Set("Content-Length", fmt.Sprint(len(told)))
		io.WriteString(w, told)
	case "/large":
		w.Write(bytes.Repeat([]byte("0123456789abcdef"), 1<<16))
	case "/trailers":
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, told)
		http.NewResponseController(w).Flush() // or net/http counts it
		w.Header().Set("X-Sum", "1")
		w.Header().Set(http.TrailerPrefix+"X-Late", "2")
	case "/many":
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header().Set("X-Text", "caf\xe9")
		w.Header().Set("Content-Type", "a/b")
	case "/cut":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, told[:10])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		io.WriteString(w, told)
	}
}

// reader hides how long a body is.
type reader struct{ io.Reader }

var exchanges = []struct {
	method, target string
	header         http.Header
	body           func() io.Reader
	trailer        http.Header
}{
	{method: "GET", target: "/"},
	{method: "GET", target: "/a%2fb;c?x=%31&y"},
	{method: "GET", target: "/a?"},
	{method: "OPTIONS", target: "*"},
	{method: "HEAD", target: "/sized"},
	{method: "HEAD", target: "/empty"},
	{method: "GET", target: "/empty"},
	{method: "GET", target: "/none"},
	{method: "DELETE", target: "/none"},
	{method: "GET", target: "/unchanged"},
	{method: "GET", target: "/error"},
	{method: "GET", target: "/pieces"},
	{method: "GET", target: "/sized"},
	{method: "GET", target: "/large"},
	{method: "GET", target: "/trailers", header: http.Header{"Te": {"trailers"}}},
	{method: "GET", target: "/many", header: http.Header{"Cookie": {"a=b; c=d"}, "X-Many": {"1", "2"}, "Accept": {""}}},
	{method: "GET", target: "/cut"},
	{method: "POST", target: "/", body: func() io.Reader { return strings.NewReader("hello") }},
	{method: "POST", target: "/pieces", body: func() io.Reader { return reader{strings.NewReader("hello")} }},
	{method: "PUT", target: "/large", body: func() io.Reader { return bytes.NewReader(make([]byte, 1<<20)) }},
	{method: "PUT", target: "/sized", body: func() io.Reader { return reader{bytes.NewReader(make([]byte, 1<<20+1))} }},
	{method: "POST", target: "/empty"},
	{method: "POST", target: "/", body: func() io.Reader { return reader{strings.NewReader("")} }},
	{method: "POST", target: "/trailers", body: func() io.Reader { return reader{strings.NewReader("x")} }, trailer: http.Header{"X-Up": {"1"}}},
	{method: "PATCH", target: "/error", header: http.Header{"Expect": {"100-continue"}}, body: func() io.Reader { return strings.NewReader("hello") }},
	{method: "CUSTOM", target: "/"},
}

// Whatever pair carries an exchange, both ends see the same of it.
func TestDifferential_EveryPairOfEnginesCarriesTheSame(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		var want []string
		for _, pair := range [][2]engine{{reference, reference}, {ours, ours}, {ours, reference}, {reference, ours}} {
			_, address := pair[1].serve(t, true, serve.ServerConfig{Handler: http.HandlerFunc(answers)})
			to := pair[0].dial(t, serve.TransportConfig{Dial: dialer(address), TLS: trusting(protocol)})
			for i, x := range exchanges {
				got := exchange(t, to, i)
				if pair[0].name == "std" && pair[1].name == "std" {
					want = append(want, got)
				} else if diff := cmp.Diff(want[i], got); diff != "" {
					t.Errorf("%s from %s to %s: %s %s: %s", protocol, pair[0].name, pair[1].name, x.method, x.target, diff)
				}
			}
		}
	}
}

func exchange(t *testing.T, to transport, i int) string {
	t.Helper()
	x := exchanges[i]
	var body io.Reader
	if x.body != nil {
		body = x.body()
	}
	r, err := http.NewRequest(x.method, "https://h.test/", body)
	if err != nil {
		t.Fatal(err)
	}
	path, query, asked := strings.Cut(x.target, "?")
	r.URL.Opaque, r.URL.RawQuery, r.URL.ForceQuery = path, query, asked && query == ""
	r.Header["User-Agent"] = nil
	for name, values := range x.header {
		r.Header[name] = values
	}
	r.Trailer = x.trailer
	answer, err := to.RoundTrip(r)
	if err != nil {
		return "error" // its text is each engine's own
	}
	defer answer.Body.Close()
	var b strings.Builder
	fmt.Fprintln(&b, answer.StatusCode, answer.ContentLength, answer.Proto)
	describeHeader(&b, answer.Header)
	text, err := io.ReadAll(answer.Body)
	if len(text) > 10000 {
		fmt.Fprintf(&b, "%d %x", len(text), sha256.Sum256(text))
	} else {
		b.Write(text)
	}
	fmt.Fprintln(&b, err != nil)
	describeHeader(&b, answer.Trailer)
	return b.String()
}
