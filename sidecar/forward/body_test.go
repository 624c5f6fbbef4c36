package forward

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// timed is a ResponseWriter that keeps the read deadlines it is given.
type timed struct {
	sinkhole
	deadlines []time.Time
}

func (w *timed) SetReadDeadline(at time.Time) error {
	w.deadlines = append(w.deadlines, at)
	return nil
}

// The transport may read on when the server has the connection back: that must
// move no deadline of the next request.
func TestRequestBody_TouchesNothingAfterItsEnd(t *testing.T) {
	w := &timed{}
	r := &http.Request{ProtoMajor: 1, ContentLength: 4, Body: io.NopCloser(strings.NewReader("body"))}
	b := newRequestBody(r, http.NewResponseController(w), &Job{BodyMax: -1, Body: time.Hour}, func() { t.Error("it was not read to its end") })
	if n, err := b.Read(make([]byte, 2)); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	b.end()
	if len(w.deadlines) != 2 || time.Until(w.deadlines[1]) > drainTime {
		t.Errorf("a reader that waits is not let go: %v", w.deadlines)
	}
	n, err := b.Read(make([]byte, 2))
	b.end()
	if n != 0 || !errors.Is(err, errEnded) || len(w.deadlines) != 2 || b.read() != 2 || b.whole() {
		t.Errorf("%d, %v, %v", n, err, w.deadlines)
	}
}

func TestRequestBody_DeadlineEndsWithTheBody(t *testing.T) {
	w := &timed{}
	whole := 0
	r := &http.Request{ProtoMajor: 1, ContentLength: 4, Body: io.NopCloser(strings.NewReader("body"))}
	b := newRequestBody(r, http.NewResponseController(w), &Job{BodyMax: 4, Body: time.Hour}, func() { whole++ })
	if text, err := io.ReadAll(b); string(text) != "body" || err != nil {
		t.Fatal(string(text), err)
	}
	b.end()
	if last := w.deadlines[len(w.deadlines)-1]; !last.IsZero() || whole != 1 || !b.whole() {
		t.Errorf("%v, %d", last, whole)
	}
}

// come is a body of which so many bytes are there.
type come struct {
	io.ReadCloser
	n int
}

func (c come) Buffered() int { return c.n }

func TestRequestBody_SaysHowMuchHasComeAsItsServerDoes(t *testing.T) {
	plain := io.NopCloser(strings.NewReader("body"))
	for want, body := range map[int]io.ReadCloser{0: plain, 3: come{plain, 3}} {
		r := &http.Request{ProtoMajor: 1, ContentLength: 4, Body: body}
		b := newRequestBody(r, http.NewResponseController(&timed{}), &Job{BodyMax: -1}, func() {})
		if got := b.Buffered(); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
}
