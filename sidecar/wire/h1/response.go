package h1

import (
	"errors"
	"net/http"
	"strconv"
)

// answer is the state of an answer on its way.
type answer struct {
	status   int // zero: no head yet
	framed   framed
	length   int64 // bytes, where it is sized
	written  int64 // bytes of the body
	headEnd  int   // where in the buffer the framing is put when it is decided
	trailers []string
	failed   error // why nothing more is written
}

var (
	errField   = errors.New("writing the answer: a field that no message can have")
	errStatus  = errors.New("writing the answer: a status that none can have, or a switch of protocols that was not asked for")
	errTooLong = http.ErrContentLength
)

// Header is the header that WriteHeader will send.
func (x *exchange) Header() http.Header { return x.header }

// WriteHeader begins the answer. One of 1xx but 101 is sent at once, and the real
// one may follow; HTTP/1.0 has none. What no message can have becomes a 500: a
// name or value that would be read as more than one field is never sent.
func (x *exchange) WriteHeader(status int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.begin(status)
}

// Write sends a part of the body, after a 200 if there is no head yet.
func (x *exchange) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status == 0 {
		x.begin(http.StatusOK)
	}
	if err := x.mayWrite(len(p)); err != nil {
		return 0, err
	}
	x.written += int64(len(p))
	if x.request.Method == http.MethodHead || len(p) == 0 {
		return len(p), nil
	}
	if err := x.append(p); err != nil {
		return 0, x.broken(err)
	}
	return len(p), nil
}

// WriteString is Write.
func (x *exchange) WriteString(s string) (int, error) { return x.Write([]byte(s)) }

// Flush sends what there is of the answer.
func (x *exchange) Flush() { _ = x.FlushError() }

// FlushError is Flush, and says what came of it.
func (x *exchange) FlushError() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status == 0 {
		x.begin(http.StatusOK)
	}
	if err := x.mayWrite(0); err != nil && err != http.ErrBodyNotAllowed {
		return err
	}
	x.decide(false)
	return x.broken(x.c.out.flush())
}

// broken cancels the request whose answer cannot be written.
func (x *exchange) broken(err error) error {
	if err != nil {
		x.failed = err
		x.life.cancel()
	}
	return err
}

func (x *exchange) mayWrite(n int) error {
	switch {
	case x.over:
		return errOver
	case x.failed != nil:
		return x.failed
	case x.framed == bodyless && x.request.Method != http.MethodHead:
		return http.ErrBodyNotAllowed
	case x.framed == sized && x.written+int64(n) > x.length:
		return errTooLong
	}
	return nil
}

func (x *exchange) append(p []byte) error {
	out := &x.c.out
	if x.framed == undecided {
		if len(out.buf)+len(p) <= bufferSize-margin {
			out.buf = append(out.buf, p...)
			return nil
		}
		x.decideWith(len(p))
		if x.framed == inChunks { // its size line has counted p
			return x.endChunk(out.write(p))
		}
	}
	if x.framed != inChunks {
		return out.write(p)
	}
	out.buf = appendSize(out.buf, len(p))
	return x.endChunk(out.write(p))
}

func (x *exchange) endChunk(err error) error {
	if err != nil {
		return err
	}
	x.c.out.buf = append(x.c.out.buf, "\r\n"...)
	return nil
}

func appendSize(b []byte, n int) []byte {
	return append(strconv.AppendInt(b, int64(n), 16), "\r\n"...)
}

// begin writes a head into the buffer, as far as it is known.
func (x *exchange) begin(status int) {
	if x.over || x.status != 0 {
		return
	}
	switch {
	case status == http.StatusSwitchingProtocols && x.upgrading:
	case 100 < status && status < 200 && status != http.StatusSwitchingProtocols:
		x.inform(status)
		return
	case status == http.StatusContinue:
		x.proceed()
		return
	case status < 200 || status > 999:
		x.fail(errStatus)
		return
	}
	x.status = status
	if !x.head() {
		x.fail(errField)
	}
}

// fail replaces an answer that cannot be written.
func (x *exchange) fail(why error) {
	clear(x.header)
	x.c.out.buf = x.c.out.buf[:0]
	x.answer = answer{status: http.StatusInternalServerError}
	x.closing = true
	x.head()
	x.failed = why
}

// head writes the head but for the framing that is not decided yet.
func (x *exchange) head() bool {
	out := &x.c.out
	x.closing = x.closing || hasToken(x.header["Connection"], "close") || x.body.unread() || x.c.isRetired()
	out.buf = appendStatus(out.buf, x.status)
	dated := false
	for name, values := range x.header {
		switch fieldOf(name) {
		case fieldDate:
			dated = len(values) > 0
		case fieldLength:
			x.declare(values)
			continue
		case fieldConnection:
			if x.closing && x.status != http.StatusSwitchingProtocols { // which closes nothing
				continue
			}
		case fieldTrailer:
			x.announce(values)
			continue
		case fieldHidden:
			continue
		}
		for _, value := range values {
			var ok bool
			if out.buf, ok = appendField(out.buf, name, value); !ok {
				return false
			}
		}
	}
	if !dated {
		out.buf = append(out.buf, x.c.s.dateLine()...)
	}
	switch {
	case x.status == http.StatusSwitchingProtocols:
		x.closing = true
	case x.closing:
		out.buf = append(out.buf, "Connection: close\r\n"...)
	}
	x.frame()
	return true
}

// inform sends an answer of 1xx with the header as it is: RFC 9110 section 15.2.
func (x *exchange) inform(status int) {
	if x.request.ProtoMinor == 0 {
		return
	}
	out := &x.c.out
	out.buf = appendStatus(out.buf, status)
	for name, values := range x.header {
		if fieldOf(name) == fieldLength || fieldOf(name) == fieldHidden || fieldOf(name) == fieldConnection {
			continue
		}
		for _, value := range values {
			var ok bool
			if out.buf, ok = appendField(out.buf, name, value); !ok {
				out.buf = out.buf[:0]
				return
			}
		}
	}
	out.buf = append(out.buf, "\r\n"...)
	_ = x.broken(out.flush())
}

// proceed asks the client for the body it waits to send.
func (x *exchange) proceed() {
	x.c.out.buf = append(x.c.out.buf, "HTTP/1.1 100 Continue\r\n\r\n"...)
	_ = x.broken(x.c.out.flush())
}

func (x *exchange) sendContinue() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status == 0 && !x.over {
		x.proceed()
	}
}
