package forward_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/everyhop/everyhop/sidecar/forward"
)

// RFC 9110 section 7.6.2.
func TestMaxForwards_CountsDownAndEndsHere(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol string) {
		u := newUpstream(t, says(ok2))
		h := newHop(t, protocol, u, nil)
		for _, c := range []struct{ method, sent, arrives string }{
			{"OPTIONS", "3", "2"}, {"OPTIONS", "1", "0"}, {"OPTIONS", "0", "never"}, {"OPTIONS", "000", "never"}, {"OPTIONS", "", ""},
			{"GET", "0", "0"}, {"GET", "x", "x"},
		} {
			r := h.request(t, c.method, "/", nil)
			if c.sent != "" {
				r.Header.Set("Max-Forwards", c.sent)
			}
			before := len(u.requests())
			answer, body, err := h.do(t, r)
			if err != nil {
				t.Fatal(err)
			}
			result := <-h.results
			got := u.requests()[before:]
			if c.arrives == "never" {
				if len(got) != 0 || answer.StatusCode != 204 || body != "" || result.Status != 204 || result.Fault != forward.None {
					t.Errorf("%+v: %d, %q: %+v", c, answer.StatusCode, got, result)
				}
				continue
			}
			_, value, _ := strings.Cut(strings.Join(got, ""), "Max-Forwards: ")
			if value, _, _ = strings.Cut(value, "\n"); len(got) != 1 || value != c.arrives {
				t.Errorf("%+v: %q", c, got)
			}
		}
	})
}

func TestMaxForwards_IsOneNumber(t *testing.T) {
	for _, values := range [][]string{{""}, {"-1"}, {"1, 2"}, {"1", "1"}, {"99999999999"}, {"x"}, {"1.0"}} {
		r := &http.Request{Method: "OPTIONS", Header: http.Header{"Max-Forwards": values}}
		if n, err := forward.MaxForwards(r); err != forward.ErrMaxForwards {
			t.Errorf("%q: %d, %v", values, n, err)
		}
	}
}
