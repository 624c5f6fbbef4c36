package forward

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

type instant struct{}

func (instant) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: 200, ContentLength: 2, Body: io.NopCloser(strings.NewReader("ok")),
		Header: http.Header{"Content-Length": {"2"}, "Content-Type": {"text/plain"}, "Server": {"x"}},
	}, nil
}

type sinkhole struct{ header http.Header }

func (w *sinkhole) Header() http.Header         { return w.header }
func (w *sinkhole) Write(p []byte) (int, error) { return len(p), nil }
func (w *sinkhole) WriteHeader(int)             {}

// BenchmarkForward is what forwarding costs beside the wire: selecting the
// header and copying an answer that is there at once.
func BenchmarkForward(b *testing.B) {
	r := &http.Request{
		Method: "GET", RequestURI: "/orders/7", URL: &url.URL{Path: "/orders/7"}, ProtoMajor: 2, Host: "app.test",
		Header: http.Header{"Accept": {"*/*"}, "User-Agent": {"bench"}, "X-Request-Id": {"1"}, "Cookie": {"sid=1; other=2"}, "Traceparent": {"x"}},
	}
	pass := &Pass{Headers: []string{"x-request-id"}, Cookies: []string{"sid"}}
	b.ReportAllocs()
	for b.Loop() {
		header, _, err := pass.Select(r.Header)
		if err != nil {
			b.Fatal(err)
		}
		result := Do(&sinkhole{http.Header{}}, r, &Job{Upstream: instant{}, Scheme: "http", Host: "app.test", Path: "/orders/7", Header: header, Via: "mark"})
		if result.Status != 200 {
			b.Fatal(result)
		}
	}
}
