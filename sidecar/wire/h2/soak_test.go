package h2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

func long() bool { return os.Getenv("EVERYHOP_LONG") != "" }

// Every answer carries its request's id and the sum of its body, and so does
// every body: none reaches a wrong client, whole or in part, while others are
// cancelled, reset and abandoned around it. With EVERYHOP_LONG it is a million.
func TestSoak_NoAnswerReachesAWrongClient(t *testing.T) {
	total := int64(8_000)
	if long() {
		total = 1_000_000
	}
	_, back := serve(t, h2.Config{MaxRequests: 5000, Handler: http.HandlerFunc(identified)})
	_, front := serve(t, h2.Config{Handler: hop(transport(t, h2.TransportConfig{Dial: dialer(back)}))})
	to := transport(t, h2.TransportConfig{Dial: dialer(front)})
	var next, answered atomic.Int64
	var clients sync.WaitGroup
	for range 64 {
		clients.Go(func() {
			for {
				id := next.Add(1)
				if id > total {
					return
				}
				if soakOne(t, to, id) {
					answered.Add(1)
				}
			}
		})
	}
	clients.Wait()
	if a := answered.Load(); a < total/2 {
		t.Errorf("only %d of %d were answered", a, total)
	}
}

// identified answers with the id it was sent, in the head and all over the body.
func identified(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("X-Request-Id")
	size := 0
	fmt.Sscan(r.Header.Get("X-Size"), &size)
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Request-Id", id)
	w.Header().Set("X-Body-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
	if size%5 == 0 {
		w.Header().Set("Content-Length", fmt.Sprint(size))
	}
	if size%97 == 1 {
		io.WriteString(w, "cut")
		panic(http.ErrAbortHandler)
	}
	for rest := filled(id, size); len(rest) > 0; {
		n := min(len(rest), 10_000)
		w.Write(rest[:n])
		rest = rest[n:]
	}
}

func filled(id string, size int) []byte {
	return bytes.Repeat([]byte(id+"."), size/(len(id)+1)+1)[:size]
}

// soakOne sends one request, and reports whether it was answered in full.
func soakOne(t *testing.T, to http.RoundTripper, number int64) bool {
	g := rand.New(rand.NewPCG(uint64(number), 2))
	size := g.IntN(3000)
	if g.IntN(50) == 0 {
		size = g.IntN(400_000)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	id := fmt.Sprintf("id-%d", number)
	var sent hash.Hash = sha256.New()
	var body io.Reader
	if g.IntN(3) == 0 {
		body = io.TeeReader(bytes.NewReader(filled(id, g.IntN(30_000))), sent)
	}
	r, err := http.NewRequestWithContext(ctx, "POST", "http://h.test/soak", body)
	if err != nil {
		t.Error(err)
		return false
	}
	r.Header.Set("X-Request-Id", id)
	r.Header.Set("X-Size", fmt.Sprint(size))
	cancels := g.IntN(20) == 0
	if cancels {
		go cancel()
	}
	answer, err := to.RoundTrip(r)
	if err != nil {
		if !cancels && size%97 != 1 {
			t.Errorf("%s: %v", id, err)
		}
		return false
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		if !cancels && size%97 != 1 {
			t.Errorf("%s: status %d", id, answer.StatusCode)
		}
		return false
	}
	if got := answer.Header.Get("X-Request-Id"); got != id {
		t.Errorf("%s got the answer of %s", id, got)
	}
	if !cancels && answer.Header.Get("X-Body-Sum") != fmt.Sprintf("%x", sent.Sum(nil)) {
		t.Errorf("%s: its body was changed", id)
	}
	if g.IntN(20) == 0 {
		return true // abandoned
	}
	got, err := io.ReadAll(answer.Body)
	if size%97 == 1 {
		return err == nil && !cancels && fail(t, "%s: what was cut looks whole", id)
	}
	if !bytes.HasPrefix(filled(id, size), got) || err == nil && len(got) != size {
		t.Errorf("%s: %d of %d bytes, or others' (%v)", id, len(got), size, err)
	}
	if err != nil && !cancels {
		t.Errorf("%s: %v", id, err)
	}
	return err == nil
}

func fail(t *testing.T, format string, args ...any) bool {
	t.Errorf(format, args...)
	return false
}
