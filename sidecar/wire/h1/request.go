package h1

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
)

var (
	errTarget   = errors.New("its target is none that HTTP can carry")
	errMethod   = errors.New("its method is none, or CONNECT")
	errHost     = errors.New("its host is none")
	errBadField = errors.New("it has a field that no message can have")
	errShort    = errors.New("sending the request: its body is shorter than it was said to be")
	errLong     = errors.New("sending the request: its body is longer than it was said to be")
)

// sending is one request on its way.
type sending struct {
	r      *http.Request
	target string
	body   io.ReadCloser // what is still to be sent; nil: nothing
	length int64         // of the body; negative: in chunks
	whole  []byte        // the message, where its body is short and there already
	again  bool          // it may be sent on another connection
	state  atomic.Int32  // of the goroutine that sends the body
	err    error         // of reading the body; valid when state is sendFailed
}

const (
	sendDone int32 = iota
	sendUnderWay
	sendFailed // the body could not be read
	sendBroken // the upstream does not take it
)

// isSent reports whether the whole request went out. Who sends the body may just
// be about to say so.
func (s *sending) isSent() bool {
	if s.state.Load() == sendUnderWay {
		runtime.Gosched()
	}
	return s.state.Load() == sendDone
}

// newSending checks what would be read as another request than the one meant.
func newSending(r *http.Request) (*sending, error) {
	s := &sending{r: r}
	if r.Body != nil && r.Body != http.NoBody {
		s.body, s.length = r.Body, r.ContentLength
		if s.length == 0 || len(r.Trailer) > 0 {
			s.length = -1
		}
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	if !isToken(method) || method == http.MethodConnect {
		return s, errMethod
	}
	if r.URL == nil {
		return s, errTarget
	}
	s.target = targetOf(r)
	if s.target == "" || !all(s.target, ofTarget) {
		return s, errTarget
	}
	if !isHostPort(hostOf(r)) {
		return s, errHost
	}
	return s, nil
}

// targetOf is what the request line says. Opaque is taken as it is, also where
// it starts with two slashes.
func targetOf(r *http.Request) string {
	u := r.URL
	target := u.Opaque
	if target == "" {
		if target = u.EscapedPath(); target == "" {
			target = "/"
		}
	}
	if u.RawQuery != "" || u.ForceQuery {
		target += "?" + u.RawQuery
	}
	return target
}

func hostOf(r *http.Request) string {
	if r.Host != "" {
		return r.Host
	}
	return r.URL.Host
}

// appendHead writes the head: what the request's header has, and the framing.
func (s *sending) appendHead(b []byte) ([]byte, error) {
	r := s.r
	if r.Method == "" {
		b = append(b, http.MethodGet...)
	} else {
		b = append(b, r.Method...)
	}
	b = append(append(append(b, ' '), s.target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, hostOf(r)...), "\r\n"...)
	closes := false
	for name, values := range r.Header {
		switch fieldOf(name) {
		case fieldHost, fieldLength, fieldTrailer, fieldHidden:
			continue
		case fieldConnection:
			closes = hasToken(values, "close")
		}
		for _, value := range values {
			var ok bool
			if b, ok = appendField(b, name, value); !ok {
				return b, errBadField
			}
		}
	}
	if r.Close && !closes {
		b = append(b, "Connection: close\r\n"...)
	}
	switch {
	case s.body == nil:
		if r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
			return appendLength(b, 0), nil
		}
		return append(b, "\r\n"...), nil
	case s.length >= 0:
		return appendLength(b, s.length), nil
	}
	return append(appendAnnounced(append(b, "Transfer-Encoding: chunked\r\n"...), r.Trailer), "\r\n"...), nil
}

func appendAnnounced(b []byte, trailer http.Header) []byte {
	var names []string
	for name := range trailer {
		if isToken(name) && !notTrailers[http.CanonicalHeaderKey(name)] {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return b
	}
	return append(append(append(b, "Trailer: "...), strings.Join(names, ", ")...), "\r\n"...)
}

// maxShort is how long a body can be that is sent with its head.
const maxShort = 2 * bufferSize

// isReady reports whether the whole body can be read without waiting: it comes
// from memory, or says that it has come.
func (s *sending) isReady() bool {
	if s.length < 0 || s.length > maxShort {
		return false
	}
	if s.r.GetBody != nil {
		return true
	}
	arrived, ok := s.body.(interface{ Buffered() int })
	return ok && int64(arrived.Buffered()) >= s.length
}

// appendBody reads a body that is ready.
func (s *sending) appendBody(b []byte) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, s.length)...)
	n, err := io.ReadFull(s.body, b[start:])
	if err == nil {
		err = expectEnd(s.body)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF && int64(n) < s.length {
		err = errShort
	}
	s.closeBody()
	return b, err
}

// expectEnd reads the end of a body, of which all that was promised was read.
func expectEnd(body io.Reader) error {
	var more [1]byte
	n, err := body.Read(more[:])
	switch {
	case n > 0:
		return errLong
	case err == nil || err == io.EOF:
		return nil
	}
	return err
}

func (s *sending) closeBody() {
	if s.body != nil {
		_ = s.body.Close()
		s.body = nil
	}
}

// safe are the methods that ask for nothing to be done: RFC 9110 section 9.2.1. Of
// those that are only idempotent a second time is not ours to choose.
func safe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// replayable reports whether the request may be carried out twice, and can be
// sent twice.
func (s *sending) replayable() bool {
	return safe(s.r.Method) && s.repeatable()
}

func (s *sending) repeatable() bool {
	return s.whole != nil || s.r.GetBody != nil || s.r.Body == nil || s.r.Body == http.NoBody
}

// rewind gets the body ready to be sent again.
func (s *sending) rewind() bool {
	if s.whole != nil || s.r.Body == nil || s.r.Body == http.NoBody {
		return true
	}
	if s.r.GetBody == nil || s.state.Load() == sendUnderWay {
		return false
	}
	body, err := s.r.GetBody()
	if err != nil {
		return false
	}
	s.closeBody()
	s.body, s.err = body, nil
	s.state.Store(sendDone)
	return true
}
