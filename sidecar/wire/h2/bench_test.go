package h2_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func usual() []string {
	return append(plain("GET", "/orders/7"), "user-agent", "curl/8.5", "accept", "*/*", "traceparent",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "everyhop-caller", "spiffe://example.org/web", "x-request-id", "0f8b1c62")
}

// BenchmarkHop is one request over a connection in memory's speed: loopback TCP,
// our two ends against net/http's.
func BenchmarkHop(b *testing.B) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = []string{"application/json"}
		w.Header()["Content-Length"] = []string{"120"}
		w.Write(make([]byte, 120))
	})
	for _, pair := range []struct {
		name   string
		server func(testing.TB, http.Handler) string
		client func(testing.TB, string) http.RoundTripper
	}{{"ours", ownServer, ownClient}, {"net/http", foreignServer, foreignClient}} {
		for _, streams := range []int{1, 8, 32, 96} {
			b.Run(pair.name+"/"+itoa(streams), func(b *testing.B) {
				to := pair.client(b, pair.server(b, handler))
				b.ReportAllocs()
				b.SetParallelism((streams + 1) / 2) // of two processors
				if streams == 1 {
					for b.Loop() {
						hopOnce(b, to)
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						hopOnce(b, to)
					}
				})
			})
		}
	}
}

func itoa(n int) string {
	return strings.TrimLeft(string([]byte{byte('0' + n/10), byte('0' + n%10)}), "0")
}

func hopOnce(b *testing.B, to http.RoundTripper) {
	r, err := http.NewRequestWithContext(context.Background(), "GET", "http://h.test/orders/7", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header["Traceparent"] = []string{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	r.Header["User-Agent"] = []string{"curl/8.5"}
	answer, err := to.RoundTrip(r)
	if err != nil {
		b.Fatal(err)
	}
	io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
}

// BenchmarkBulk is a body of 1 MiB each way.
func BenchmarkBulk(b *testing.B) {
	body := make([]byte, 1<<20)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	for _, pair := range []struct {
		name   string
		server func(testing.TB, http.Handler) string
		client func(testing.TB, string) http.RoundTripper
	}{{"ours", ownServer, ownClient}, {"net/http", foreignServer, foreignClient}} {
		b.Run(pair.name, func(b *testing.B) {
			to := pair.client(b, pair.server(b, handler))
			b.SetBytes(2 << 20)
			b.ReportAllocs()
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r, _ := http.NewRequest("POST", "http://h.test/", bytes.NewReader(body))
					answer, err := to.RoundTrip(r)
					if err != nil {
						b.Error(err)
						return
					}
					if n, err := io.Copy(io.Discard, answer.Body); n != 1<<20 || err != nil {
						b.Error(n, err)
					}
					answer.Body.Close()
				}
			})
		})
	}
}

var sink atomic.Pointer[http2.MetaHeadersFrame]

// BenchmarkReadMetaHeaders is what BenchmarkDecode is to be held against.
func BenchmarkReadMetaHeaders(b *testing.B) {
	var block, frames bytes.Buffer
	enc := hpack.NewEncoder(&block)
	fields := usual()
	for range 2 { // the second uses the table
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		http2.NewFramer(&frames, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	}
	second := frames.Bytes()[frames.Len()-block.Len()-9:]
	from := bytes.NewReader(frames.Bytes())
	fr := http2.NewFramer(nil, from)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	b.ReportAllocs()
	for b.Loop() {
		f, err := fr.ReadFrame()
		if err != nil {
			b.Fatal(err)
		}
		sink.Store(f.(*http2.MetaHeadersFrame))
		from.Reset(second)
	}
}
