package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// No answer reaches the wrong client, and none that is cut looks whole: every
// request has an id and a body that its id decides, the app's answer has them as
// well, and both ends check both. Some clients go away in the midst of a request
// or of its answer, and some answers are broken off by the app.
func TestHop_NoAnswerReachesTheWrongClient(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		name, scheme := "http app", "http://"
		if h2c {
			name, scheme = "h2c app", "h2c://"
		}
		t.Run(name, func(t *testing.T) {
			m := newMesh(t)
			s := &soak{t: t, n: int64(scale(25_000, 500_000))}
			s.pair = m.pair(scheme + m.serve(http.HandlerFunc(s.serve), h2c))
			s.run()
			s.reconcile()
		})
	}
}

// soak is a load in which every request differs.
type soak struct {
	*pair
	t *testing.T
	n int64

	next                                atomic.Int64
	whole, cancelled, reset, cut, early atomic.Int64
	served                              sync.Map // id → how often
}

// fate is what becomes of a request.
type fate int

const (
	lives     fate = iota
	cancels        // the client goes away while it waits, or reads
	resets         // the client resets its connection in the midst of its body
	breaks         // the app breaks off its answer
	answersTo      // the app answers before it has read the body
)

// plan is what is decided of a request by its id.
type plan struct {
	id         int64
	fate       fate
	up, down   int // lengths of the bodies
	chunked    bool
	afterBytes int // of the answer, the client goes away
}

func planOf(id int64) plan {
	rng := rand.New(rand.NewPCG(uint64(id), 7))
	p := plan{id: id, up: sizeOf(rng), down: sizeOf(rng), chunked: rng.IntN(3) == 0}
	switch k := rng.IntN(100); {
	case k < 4:
		p.fate, p.afterBytes = cancels, rng.IntN(p.down+1)
	case k < 6:
		p.fate = resets
	case k < 8:
		// An answer without a body would be whole with its head.
		p.fate, p.down = breaks, max(2, p.down)
	case k < 10:
		p.fate = answersTo
	}
	return p
}

// sizeOf is mostly small: nothing, a few bytes, what fits into a frame, and a few
// that are larger than every buffer.
func sizeOf(rng *rand.Rand) int {
	switch k := rng.IntN(1000); {
	case k < 300:
		return 0
	case k < 800:
		return rng.IntN(600)
	case k < 970:
		return rng.IntN(20_000)
	case k < 997:
		return rng.IntN(200_000)
	}
	return rng.IntN(2 * mebibyte)
}

// stuff is a body: what a seed makes, as fast as it is read.
func stuff(seed int64, n int) []byte {
	b := make([]byte, n)
	state := uint64(seed)*0x9e3779b97f4a7c15 | 1
	for i := 0; i < n; i += 8 {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		word := state
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(word)
			word >>= 8
		}
	}
	return b
}

func sumOf(b []byte) string {
	h := fnv.New64a()
	_, _ = h.Write(b)
	return strconv.FormatUint(h.Sum64(), 16)
}

// serve is the app.
func (s *soak) serve(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.Header.Get("X-Id"), 10, 64)
	if err != nil || r.URL.Path != fmt.Sprintf("/a/%d", id) {
		s.t.Errorf("the app got %s %s with the id %q", r.Method, r.URL, r.Header.Get("X-Id"))
		return
	}
	p := planOf(id)
	times, _ := s.served.LoadOrStore(id, new(atomic.Int32))
	times.(*atomic.Int32).Add(1)
	sum := "unread"
	if p.fate != answersTo {
		got, err := io.ReadAll(r.Body)
		if want := stuff(id, p.up); err == nil && !bytes.Equal(got, want) {
			s.t.Errorf("the app got %d bytes as the body of %d that are not its %d", len(got), id, len(want))
		}
		if err != nil {
			if p.fate != cancels && p.fate != resets {
				s.t.Errorf("the app could not read the body of %d: %v", id, err)
			}
			panic(http.ErrAbortHandler)
		}
		sum = sumOf(got)
	}
	w.Header().Set("X-Id", strconv.FormatInt(id, 10))
	w.Header().Set("X-Sum", sum)
	body := stuff(-id, p.down)
	if !p.chunked {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	half := len(body) / 2
	_, _ = w.Write(body[:half])
	if p.fate == breaks {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body[half:])
}

// run has every kind of client ask, until all is asked.
func (s *soak) run() {
	secure := func(protocols ...string) *http.Transport {
		return &http.Transport{TLSClientConfig: s.tls("web", protocols...), ForceAttemptHTTP2: protocols[0] == "h2", MaxIdleConnsPerHost: 16}
	}
	plain2 := &http.Transport{Protocols: new(http.Protocols)}
	plain2.Protocols.SetUnencryptedHTTP2(true)
	var asking sync.WaitGroup
	for _, client := range []struct {
		base      string
		transport *http.Transport
	}{
		{"http://" + s.local, &http.Transport{MaxIdleConnsPerHost: 16}},
		{"http://" + s.local, plain2},
		{"https://" + s.inbound, secure("http/1.1")},
		{"https://" + s.inbound, secure("h2")},
	} {
		defer client.transport.CloseIdleConnections()
		for range 8 {
			asking.Go(func() {
				for id := s.next.Add(1); id <= s.n; id = s.next.Add(1) {
					s.ask(client.transport, client.base, planOf(id))
				}
			})
		}
	}
	asking.Wait()
}

func (s *soak) ask(transport *http.Transport, base string, p plan) {
	if p.fate == resets {
		s.breakOff(p)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	var body io.Reader = bytes.NewReader(stuff(p.id, p.up))
	if p.chunked {
		body = io.MultiReader(body) // of a length that nobody knows
	}
	r, err := http.NewRequestWithContext(ctx, "POST", fmt.Sprintf("%s/a/%d", base, p.id), body)
	if err != nil {
		s.t.Error(err)
		return
	}
	r.Header.Set("X-Id", strconv.FormatInt(p.id, 10))
	if p.fate == cancels && p.afterBytes%2 == 0 {
		go cancel() // at any moment
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		s.failed(p, err)
		return
	}
	defer answer.Body.Close()
	if p.fate == cancels {
		got, _ := io.ReadAll(io.LimitReader(answer.Body, int64(p.afterBytes)))
		if answer.StatusCode == http.StatusOK && !bytes.HasPrefix(stuff(-p.id, p.down), got) {
			s.t.Errorf("the answer to %d, which was cancelled, began with another's", p.id)
		}
		s.cancelled.Add(1)
		return
	}
	s.judge(p, answer)
}

// failed is for a request without an answer, which only some may be.
func (s *soak) failed(p plan, err error) {
	switch {
	case p.fate == cancels:
		s.cancelled.Add(1)
	case p.fate == breaks:
		s.cut.Add(1)
	case p.fate == answersTo: // its connection may be gone before it is read
		s.early.Add(1)
	default:
		s.t.Errorf("%d (%d up, %d down, chunked %t) has no answer: %v", p.id, p.up, p.down, p.chunked, err)
	}
}

func (s *soak) judge(p plan, answer *http.Response) {
	got, err := io.ReadAll(answer.Body)
	if p.fate == breaks && (err != nil || answer.StatusCode == http.StatusBadGateway) {
		s.cut.Add(1)
		return
	}
	if p.fate == answersTo && (err != nil || answer.StatusCode == http.StatusBadGateway) {
		s.early.Add(1)
		return
	}
	want := stuff(-p.id, p.down)
	sum := sumOf(stuff(p.id, p.up))
	if p.fate == answersTo {
		sum = "unread"
	}
	if answer.StatusCode != http.StatusOK || answer.Header.Get("X-Id") != strconv.FormatInt(p.id, 10) ||
		answer.Header.Get("X-Sum") != sum || err != nil || !bytes.Equal(got, want) {
		s.t.Errorf("%d (%d up, %d down, chunked %t, fate %d) got status %d, id %q, sum %q (want %q), %d bytes, whole %t, %v by %s: %.300q",
			p.id, p.up, p.down, p.chunked, p.fate, answer.StatusCode, answer.Header.Get("X-Id"), answer.Header.Get("X-Sum"), sum,
			len(got), bytes.Equal(got, want), err, answer.Proto, got)
		return
	}
	if p.fate == breaks {
		s.t.Errorf("the answer to %d was broken off, and came as if it were whole", p.id)
	}
	s.whole.Add(1)
}

// breakOff resets a connection in the midst of a request, with the answer of one
// before it perhaps under way.
func (s *soak) breakOff(p plan) {
	defer s.reset.Add(1)
	conn, err := net.Dial("tcp", s.inbound)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.Close()
	secure := tls.Client(conn, s.tls("web", "http/1.1"))
	if err := secure.Handshake(); err != nil {
		s.t.Error(err)
		return
	}
	body := stuff(p.id, p.up)
	_, _ = fmt.Fprintf(secure, "POST /a/%d HTTP/1.1\r\nHost: app.test\r\nX-Id: %d\r\nContent-Length: %d\r\n\r\n", p.id, p.id, len(body)+1)
	_, _ = secure.Write(body)
	if p.chunked { // not one that ends politely
		_ = conn.(*net.TCPConn).SetLinger(0)
		return
	}
	_ = secure.CloseWrite()
	answer, err := http.ReadResponse(bufio.NewReader(secure), nil)
	if err == nil {
		if answer.StatusCode < 400 {
			s.t.Errorf("a request that broke off was answered by %s", answer.Status)
		}
		_ = answer.Body.Close()
	} else if errors.Is(err, context.DeadlineExceeded) {
		s.t.Error(err)
	}
}

// reconcile holds the records against what the app saw and the clients got.
func (s *soak) reconcile() {
	passed := ledger{}
	for _, r := range s.orders.stopAndRead() {
		if r.Grant != "" {
			passed[r.Path]++
		}
	}
	seen := ledger{}
	s.served.Range(func(id, times any) bool {
		seen[fmt.Sprintf("/a/%d", id)] = int(times.(*atomic.Int32).Load())
		return true
	})
	if beyond := seen.beyond(passed); len(beyond) > 0 {
		s.t.Errorf("%d requests are at the app more often than in the records: %s", len(beyond), strings.Join(beyond[:min(10, len(beyond))], ", "))
	}
	if whole := s.whole.Load(); whole < s.n*8/10 {
		s.t.Errorf("only %d of %d requests were answered whole", whole, s.n)
	}
	s.t.Logf("%d requests: %d answered whole, %d cancelled, %d reset, %d broken off by the app, %d answered early and lost; %d records",
		s.n, s.whole.Load(), s.cancelled.Load(), s.reset.Load(), s.cut.Load(), s.early.Load(), passed.sum())
}
