package inbound_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// RT26, I1, I4: what clients saw, what was recorded and what the app did agree,
// while the app fails every third request.
func TestInbound_ClientsRecordsAndAppReconcile(t *testing.T) {
	h := newHouse(t, nil)
	var mu sync.Mutex
	executed := map[string]int{} // by decision
	h.app.answer = func(c net.Conn, r *http.Request, n int) {
		mu.Lock()
		executed[r.Header.Get("Everyhop-Decision")]++
		mu.Unlock()
		if n%3 == 0 {
			c.Close() // having done it, without a word
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
	const each = 60
	var clients sync.WaitGroup
	statuses := make(chan int, 1000)
	for i, protocol := range []string{"http/1.1", "h2", "http/1.1", "h2"} {
		client := h.dial(web, protocol)
		clients.Go(func() {
			for k := range each {
				target := []string{"/api/x", "/admin/x", "/api//x"}[(i+k)%3]
				got := client.do(request{method: "POST", target: target, header: []string{"Idempotency-Key: 1"}, body: "x"})
				statuses <- got.status
				if !got.open {
					client = h.dial(web, protocol)
				}
			}
		})
	}
	clients.Wait()
	close(statuses)
	count := map[int]int{}
	for status := range statuses {
		count[status]++
	}
	seen := map[string]bool{}
	for range 4 * each {
		r := h.record()
		if count[r.Status]--; seen[r.ID] {
			t.Errorf("%s is recorded twice", r.ID)
		}
		seen[r.ID] = true
		times := executed[r.ID]
		if delete(executed, r.ID); times > 1 || times == 1 && r.Verdict != "allow" || times == 0 && r.Status == 200 {
			t.Errorf("executed %d times: %+v", times, r)
		}
	}
	for status, n := range count {
		if n != 0 {
			t.Errorf("%d answers of %d without a record", n, status)
		}
	}
	if len(executed) != 0 || len(h.records) != 0 {
		t.Errorf("executed without a record: %v; records without a request: %d", executed, len(h.records))
	}
}

// BenchmarkHop is one request after another over mutual TLS on loopback, to an
// app on loopback, with its client and its app in the same process.
func BenchmarkHop(b *testing.B) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		for _, target := range []string{"/public/a", "/admin/x"} {
			b.Run(fmt.Sprint(protocol, target), func(b *testing.B) {
				h := newHouse(b, nil)
				h.sink.silent = true
				client := h.dial(web, protocol)
				b.ReportAllocs()
				for b.Loop() {
					if got := client.do(request{method: "GET", target: target}); got.status == 0 {
						b.Fatal(got)
					}
				}
			})
		}
	}
}
