package h1

import (
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

// margin is room for the framing of an answer that is decided late.
const margin = 64

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
