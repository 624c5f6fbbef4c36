package h1

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// framed is how the end of an answer's body is told: RFC 9112 section 6.3.
type framed uint8

const (
	undecided framed = iota // while all of it is in the buffer
	bodyless
	sized
	inChunks
	untilClose
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

// margin is room for the framing of an answer that is decided late.
const margin = 64

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
			if x.closing {
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

func (x *exchange) declare(values []string) {
	if len(values) != 1 {
		return
	}
	if n, ok := parseLength(values[0]); ok {
		x.framed, x.length = sized, n
	}
}

// announce takes the names of the trailers that the handler will set, and forgets
// those that none may be.
func (x *exchange) announce(values []string) {
	for _, field := range values {
		for one := range strings.SplitSeq(field, ",") {
			name := http.CanonicalHeaderKey(strings.Trim(one, " \t"))
			if isToken(name) && !notTrailers[name] {
				x.trailers = append(x.trailers, name)
			}
		}
	}
}

// frame ends the head where the framing is known: RFC 9110 section 8.6.
func (x *exchange) frame() {
	out := &x.c.out
	none := x.status == http.StatusNoContent || x.status == http.StatusSwitchingProtocols
	switch {
	case none || x.status == http.StatusNotModified && x.framed != sized:
		x.framed = bodyless
		out.buf = append(out.buf, "\r\n"...)
	case x.framed == sized && (len(x.trailers) == 0 || x.request.ProtoMinor == 0):
		if x.status == http.StatusNotModified || x.request.Method == http.MethodHead {
			x.framed = bodyless
		}
		out.buf = appendLength(out.buf, x.length)
	default:
		x.framed, x.headEnd = undecided, len(out.buf)
	}
}

func appendLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	return append(strconv.AppendInt(b, n, 10), "\r\n\r\n"...)
}

// decide settles the framing of an answer that was all in the buffer until now.
// It is the last moment for that if all is written.
func (x *exchange) decide(last bool) {
	if x.framed != undecided {
		return
	}
	if !last || x.hasTrailers() && x.request.ProtoMinor == 1 {
		if buffered := x.decideWith(0); buffered > 0 && x.framed == inChunks {
			x.c.out.buf = append(x.c.out.buf, "\r\n"...)
		}
		return
	}
	if x.request.Method == http.MethodHead && x.written == 0 {
		x.frameAs(bodyless, []byte("\r\n"))
		return
	}
	x.length = x.written
	var line [margin]byte
	x.frameAs(sized, appendLength(line[:0], x.written))
}

// decideWith settles on what has no length: chunks, the first of which is what is
// buffered and more bytes behind it.
func (x *exchange) decideWith(more int) (buffered int) {
	buffered = len(x.c.out.buf) - x.headEnd
	switch {
	case x.request.Method == http.MethodHead:
		x.frameAs(bodyless, []byte("\r\n"))
	case x.request.ProtoMinor == 0:
		x.frameAs(untilClose, []byte("\r\n"))
	default:
		var line [3 * margin]byte
		head := append(line[:0], "Transfer-Encoding: chunked\r\n"...)
		if len(x.trailers) > 0 {
			head = append(append(append(head, "Trailer: "...), strings.Join(x.trailers, ", ")...), "\r\n"...)
		}
		head = append(head, "\r\n"...)
		if buffered+more > 0 {
			head = appendSize(head, buffered+more)
		}
		x.frameAs(inChunks, head)
	}
	return buffered
}

func (x *exchange) frameAs(how framed, lines []byte) {
	x.framed = how
	x.c.out.buf = slices.Insert(x.c.out.buf, x.headEnd, lines...)
}

// end finishes the answer when the handler has returned. It is an error if the
// client did not get all of it.
func (x *exchange) end() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status == 0 {
		status := http.StatusOK
		if x.flaw != 0 {
			status = x.flaw.Status()
		}
		x.begin(status)
	}
	x.over = true
	x.decide(true)
	if x.framed == inChunks {
		x.endChunks()
	}
	if err := x.c.out.flush(); err != nil {
		return err
	}
	if x.framed == sized && x.written != x.length && x.request.Method != http.MethodHead {
		return errTooLong
	}
	return x.failed
}

func (x *exchange) hasTrailers() bool {
	if len(x.trailers) > 0 {
		return true
	}
	for name := range x.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// endChunks writes the last chunk and the trailers: those that were announced,
// and those that net/http's prefix marks.
func (x *exchange) endChunks() {
	out := &x.c.out
	out.buf = append(out.buf, "0\r\n"...)
	for _, name := range x.trailers {
		x.trailer(name, x.header[name])
	}
	for name, values := range x.header {
		if name, marked := strings.CutPrefix(name, http.TrailerPrefix); marked {
			x.trailer(name, values)
		}
	}
	out.buf = append(out.buf, "\r\n"...)
}

func (x *exchange) trailer(name string, values []string) {
	if notTrailers[http.CanonicalHeaderKey(name)] {
		return
	}
	for _, value := range values {
		x.c.out.buf, _ = appendField(x.c.out.buf, name, value) // or nothing
	}
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
