package forward

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

var (
	errTooLarge = errors.New("the body is larger than the grant allows")
	errEnded    = errors.New("the answer has been given; the rest of the body is not read")
)

// requestBody is a client's body on its way: counted, bounded, and given up when
// the client sends nothing for too long. The transport may go on reading it from
// another goroutine after the answer; end sees to it that this touches nothing
// that by then belongs to the next request.
type requestBody struct {
	r       *http.Request
	rc      *http.ResponseController
	max     int64
	stall   time.Duration
	onWhole func()

	mu    sync.Mutex // guards what follows
	n     int64
	found Fault
	eof   bool
	ended bool
}

func newRequestBody(r *http.Request, rc *http.ResponseController, job *Job, onWhole func()) *requestBody {
	b := &requestBody{r: r, rc: rc, max: job.BodyMax, stall: job.Body, onWhole: onWhole}
	if IsGRPC(r) {
		b.max = -1 // a stream of messages has no size: the upstream bounds each
	}
	return b
}

// Read reads on, and no further than one byte over the bound.
func (b *requestBody) Read(p []byte) (int, error) {
	left, err := b.begin()
	if err != nil {
		return 0, err
	}
	if left >= 0 && int64(len(p)) > left+1 {
		p = p[:left+1]
	}
	n, err := b.r.Body.Read(p)
	if left >= 0 && int64(n) > left {
		n, err = int(left), errTooLarge
	}
	b.finish(n, err)
	return n, err
}

// Close ends the reading. The body itself is the server's to close.
func (b *requestBody) Close() error { return nil }

// Buffered is how many bytes of the body its server has already: a transport may
// send a short one with the head, and needs no goroutine for it.
func (b *requestBody) Buffered() int {
	if arrived, ok := b.r.Body.(interface{ Buffered() int }); ok {
		return arrived.Buffered()
	}
	return 0
}

// begin arms the deadline of one read, and says how many bytes the bound leaves;
// negative where there is none.
func (b *requestBody) begin() (left int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return 0, errEnded
	}
	if b.stall > 0 && !b.eof {
		_ = b.rc.SetReadDeadline(time.Now().Add(b.stall))
	}
	if b.max < 0 {
		return -1, nil
	}
	return b.max - b.n, nil
}

func (b *requestBody) finish(n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n += int64(n)
	if err == nil || b.ended {
		return
	}
	if err != io.EOF {
		if b.found == None {
			b.found = bodyFault(b.r, err)
		}
		return
	}
	if b.eof {
		return
	}
	b.eof = true
	if b.stall > 0 {
		// From here on the server waits on this connection for its end, and that
		// may take as long as the answer does.
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	b.onWhole()
}

// end stops all reading, also of the transport's goroutine that is in the middle
// of it, before the server takes the connection back. On HTTP/1 the server would
// then wait for the rest of the body, for as long as the client likes: so it is
// closed here, where a deadline holds.
func (b *requestBody) end() {
	if !b.abandon() {
		return
	}
	if !drain(b.r, b.rc) {
		_ = b.r.Body.Close()
	}
}

// drain reads on in a body that nobody wants, for a moment, so that an honest
// client can read our answer and keep its connection. It reports whether that was
// the end of it. A client that waits to be asked is not asked.
func drain(r *http.Request, rc *http.ResponseController) (whole bool) {
	if _, waits := r.Header["Expect"]; waits {
		return false
	}
	_ = rc.SetReadDeadline(time.Now().Add(drainTime)) // of the real clock, as every deadline of a connection
	n, err := io.CopyN(io.Discard, r.Body, drainBytes)
	return n < drainBytes && err == io.EOF
}

const (
	drainTime  = 50 * time.Millisecond
	drainBytes = 256 << 10
)

// abandon ends the reading, and is true where the server would go on with it.
func (b *requestBody) abandon() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	unread := !b.ended && !b.eof && b.r.ContentLength != 0 && b.r.ProtoMajor == 1
	b.ended = true
	return unread
}

// whole reports whether the client's body was read to its end, or there is none.
func (b *requestBody) whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.eof || b.r.ContentLength == 0
}

func (b *requestBody) read() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

func (b *requestBody) fault() Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.found
}
