package forward_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/everyhop/everyhop/sidecar/forward"
)

// A request that is withdrawn before there is an answer is the caller's to answer;
// afterwards gRPC is told why, and anybody else sees that it is not the end.
func TestRein_EndsARequestWhereverItIs(t *testing.T) {
	for _, c := range []struct {
		name, kind, answer string
		status             int
		told               string
	}{
		{"before the answer", "text/plain", "", 0, ""},
		{"in the midst of one", "text/plain", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 200, ""},
		{"in the midst of one of gRPC", "application/grpc", "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 200, "7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked, hold := make(chan struct{}), make(chan struct{})
			u := newUpstream(t, func(conn net.Conn, _ *http.Request, _ []byte) {
				io.WriteString(conn, c.answer)
				close(asked)
				<-hold
			})
			defer close(hold)
			rein := &forward.Rein{}
			h := newHop(t, "h2", u, func(job *forward.Job) { job.Rein = rein })
			r := h.request(t, "POST", "/a", nil, "Content-Type: "+c.kind, "Te: trailers")
			type outcome struct {
				answer *http.Response
				body   string
				err    error
			}
			outcomes := make(chan outcome, 1)
			go func() {
				answer, err := h.client.Do(r)
				if err != nil {
					outcomes <- outcome{err: err}
					return
				}
				defer answer.Body.Close()
				body, err := io.ReadAll(answer.Body)
				outcomes <- outcome{answer, string(body), err}
			}()
			<-asked
			rein.Pull(7)
			result, got := <-h.results, <-outcomes
			if result.Fault != forward.Withdrawn || result.Status != c.status || result.Told != (c.told != "") || result.Cut() != (c.status != 0 && c.told == "") {
				t.Errorf("%+v", result)
			}
			if c.told != "" && (got.err != nil || got.answer.Trailer.Get("Grpc-Status") != c.told) {
				t.Errorf("the client got %+v", got)
			}
			if c.told == "" && c.status != 0 && got.err == nil {
				t.Errorf("the client took %+v for the end", got)
			}
		})
	}
}

func TestRein_PulledBeforeTheRequestOrAfterIt(t *testing.T) {
	u := newUpstream(t, says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	rein := &forward.Rein{}
	h := newHop(t, "h1", u, func(job *forward.Job) { job.Rein = rein })
	if answer, body, err := h.do(t, h.request(t, "GET", "/a", nil)); err != nil || answer.StatusCode != 200 || body != "ok" {
		t.Fatal(answer, body, err)
	}
	rein.Pull(7)
	if result := <-h.results; result.Fault != forward.None {
		t.Errorf("%+v", result)
	}
	h.do(t, h.request(t, "GET", "/b", nil))
	if result := <-h.results; result.Fault != forward.Withdrawn || result.Err == nil || !strings.Contains(result.Err.Error(), "no longer") || errors.Is(result.Err, io.EOF) {
		t.Errorf("%+v", result)
	}
	if n := len(u.requests()); n != 1 {
		t.Errorf("the upstream saw %d requests", n)
	}
}
