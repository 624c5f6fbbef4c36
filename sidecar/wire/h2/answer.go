package h2

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const answerBuffer = 4 << 10

// answerBuffers are only ever held by one answer, and nobody else sees them.
var answerBuffers = sync.Pool{New: func() any { b := make([]byte, 0, answerBuffer); return &b }}

// responseWriter is the [http.ResponseWriter] of one request. Its head leaves
// with the first of the body, and a short body with its end: one write for all.
type responseWriter struct {
	conn   *serverConn
	in     *incoming
	header http.Header
	fields []hpack.HeaderField // the head, until it is sent
	buffer *[]byte             // body that was written but not sent
	status int                 // zero until there is a head
	sent   bool                // the head was
	length int64               // as declared, or -1
	wrote  int64
	mute   bool // no body goes out, whatever is written
	tunnel *tunnel
}

func (w *responseWriter) init(c *serverConn, in *incoming) {
	w.conn, w.in, w.length = c, in, -1
}

// Header is the answer's fields, and from its end on its trailers.
func (w *responseWriter) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader sets the status and the fields. One of 1xx is sent at once, but for
// 101, which HTTP/2 does not have.
func (w *responseWriter) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic("h2: WriteHeader of no status: " + strconv.Itoa(status))
	}
	if w.status != 0 {
		return
	}
	if status < 200 {
		if status != http.StatusSwitchingProtocols {
			w.inform(status)
		}
		return
	}
	w.status = status
	w.mute = w.in.request.Method == http.MethodHead || !bodyAllowed(status)
	w.collect()
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// inform sends a head of 1xx, with the fields there are.
func (w *responseWriter) inform(status int) {
	fields := []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(status)}}
	for key, values := range w.header {
		if key != "Content-Length" {
			fields = appendField(fields, key, values)
		}
	}
	_ = w.send(message{head: fields})
}

func (w *responseWriter) goAhead() {
	if w.status == 0 {
		_ = w.send(message{head: []hpack.HeaderField{{Name: ":status", Value: "100"}}})
	}
}

func (w *responseWriter) send(m message) error {
	if w.in.malformed {
		return w.in.err // which is set before the handler begins
	}
	return w.in.send(context.Background(), m, w.conn.times.Write)
}

// collect notes the head as it is now: what the handler does to its map later
// changes nothing but trailers.
func (w *responseWriter) collect() {
	w.fields = make([]hpack.HeaderField, 1, len(w.header)+4)
	w.fields[0] = hpack.HeaderField{Name: ":status", Value: statusText(w.status)}
	for key, values := range w.header {
		switch {
		case key == "Content-Length":
			w.declare(values)
		case strings.HasPrefix(key, http.TrailerPrefix) || key != "Trailer" && w.declared(key):
		default:
			w.fields = appendField(w.fields, key, values)
		}
	}
	if _, named := w.header["Date"]; !named {
		w.fields = append(w.fields, hpack.HeaderField{Name: "date", Value: w.conn.server.date.at(w.conn.config.Now())})
	}
}

// declare notes a content-length, if it is one and the answer may have it.
func (w *responseWriter) declare(values []string) {
	if len(values) != 1 || w.status == http.StatusNoContent {
		return
	}
	if n, ok := number(values[0]); ok {
		w.length = n
		w.fields = append(w.fields, hpack.HeaderField{Name: "content-length", Value: values[0], Sensitive: true})
	}
}

// declared reports whether the field was announced as a trailer.
func (w *responseWriter) declared(key string) bool {
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(name), key) {
				return true
			}
		}
	}
	return false
}

func statusText(status int) string {
	if status == http.StatusOK {
		return "200"
	}
	return strconv.Itoa(status)
}

// appendField appends the values of a field, if it may be sent at all.
func appendField(fields []hpack.HeaderField, key string, values []string) []hpack.HeaderField {
	name := lowerName(key)
	if name == "" || connectionSpecific(name) {
		return fields
	}
	for _, value := range values {
		if value = strings.Trim(value, " \t"); !hasControl(value) {
			fields = append(fields, hpack.HeaderField{Name: name, Value: value, Sensitive: volatile(name, value)})
		}
	}
	return fields
}

// Write writes on in the body.
func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if w.length >= 0 && w.wrote+int64(len(p)) > w.length {
		return 0, http.ErrContentLength
	}
	w.wrote += int64(len(p))
	if w.mute {
		return len(p), nil
	}
	return w.pass(p)
}

// pass sends what does not fit into the buffer.
func (w *responseWriter) pass(p []byte) (int, error) {
	waiting := 0
	if w.buffer != nil {
		waiting = len(*w.buffer)
	}
	if waiting+len(p) <= answerBuffer {
		w.keep(p)
		return len(p), nil
	}
	if waiting > 0 {
		if err := w.push(*w.buffer, true); err != nil {
			return 0, err
		}
		*w.buffer = (*w.buffer)[:0]
	}
	if err := w.push(p, w.wrote == w.length); err != nil { // the end follows
		return 0, err
	}
	return len(p), nil
}

func (w *responseWriter) keep(p []byte) {
	if w.buffer == nil {
		w.buffer = answerBuffers.Get().(*[]byte)
	}
	*w.buffer = append(*w.buffer, p...)
}

// push sends body, after the head if that was not.
func (w *responseWriter) push(p []byte, more bool) error {
	m := message{data: p, more: more}
	if !w.sent {
		m.head, w.sent, w.fields = w.fields, true, nil
	}
	return w.send(m)
}

// Flush sends what was written.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError sends what was written, and the head in any case.
func (w *responseWriter) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.buffer == nil {
		return w.push(nil, false)
	}
	err := w.push(*w.buffer, false)
	w.release()
	return err
}

func (w *responseWriter) release() {
	if w.buffer == nil {
		return
	}
	*w.buffer = (*w.buffer)[:0]
	answerBuffers.Put(w.buffer)
	w.buffer = nil
}

// SetReadDeadline is when reading the body ends in [os.ErrDeadlineExceeded].
func (w *responseWriter) SetReadDeadline(t time.Time) error {
	w.in.in.setDeadline(t)
	return nil
}

// SetWriteDeadline is when writing that waits for the client resets the stream.
func (w *responseWriter) SetWriteDeadline(t time.Time) error {
	w.conn.mu.Lock()
	defer w.conn.mu.Unlock()
	w.in.deadline = t
	w.in.wakeSender()
	return nil
}

// EnableFullDuplex does nothing: HTTP/2 always is.
func (w *responseWriter) EnableFullDuplex() error { return nil }

var errShort = errors.New("the handler wrote less than it declared")

// finish ends the answer when the handler has returned.
func (w *responseWriter) finish() {
	defer w.release()
	if w.tunnel != nil {
		_ = w.tunnel.Close()
		return
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.mute && w.length >= 0 && w.wrote < w.length {
		w.in.abort(http2.ErrCodeInternal, errShort) // or it would be taken for the end
		return
	}
	m := message{end: true}
	if !w.mute { // what has no body has nothing behind it
		m.trailers = w.trailers()
	}
	if w.buffer != nil {
		m.data = *w.buffer
	}
	if !w.sent {
		if w.length < 0 && !w.mute && m.trailers == nil {
			w.fields = append(w.fields, hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(w.wrote, 10), Sensitive: true})
		}
		m.head, w.sent = w.fields, true
	}
	if w.send(m) == nil {
		w.in.stopClient()
	}
}

// stopClient tells a client that still sends its body that nobody reads it (RFC
// 9113 section 8.1).
func (s *stream) stopClient() {
	c := s.c
	c.mu.Lock()
	c.abort(s, http2.ErrCodeNo, errStopped) // not if it is over already
	c.flush()
}

// trailers are the fields that were announced, or named as such.
func (w *responseWriter) trailers() (fields []hpack.HeaderField) {
	for key, values := range w.header {
		name, prefixed := strings.CutPrefix(key, http.TrailerPrefix)
		if !prefixed && (key == "Trailer" || w.header["Trailer"] == nil || !w.declared(key)) {
			continue
		}
		if lowered := lowerName(name); lowered != "" && !framing(lowered) {
			fields = appendField(fields, name, values)
		}
	}
	return fields
}
