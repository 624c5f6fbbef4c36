package h1

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// span is where a field line lies: its name from start to name, its value from
// value to end.
type span struct{ start, name, value, end int32 }

// head reads the lines of a head, or of a trailer section, while they arrive.
// Each is judged when its end is there, so that a bad one is not waited on. It
// belongs to one connection; nothing of it crosses the seam.
type head struct {
	names     *casing
	maxFields int
	maxLine   int // bytes of the first line

	first int // bytes of the first line, without its end; negative where there is none
	fresh bool
	pos   int // where the line being read starts
	seen  int // bytes looked at
	spans []span
}

// begin starts a new head; a trailer section has no first line.
func (h *head) begin(firstLine bool) {
	h.first, h.fresh, h.pos, h.seen = -1, firstLine, 0, 0
	h.spans = h.spans[:0]
}

// scan goes on with b, which holds the head so far and may hold more. It reports
// whether the head is complete; pos is where it ends.
func (h *head) scan(b []byte) (done bool, flaw wire.Flaw) {
	if h.fresh && len(b) > 0 && class[b[0]]&ofToken == 0 {
		return false, wire.FlawRequestLine // such as TLS where none is expected: no line's end may come
	}
	for {
		i := bytes.IndexByte(b[h.seen:], '\n')
		if i < 0 {
			h.seen = len(b)
			if h.fresh && len(b) > h.maxLine {
				return false, wire.FlawTargetLength
			}
			return false, wire.FlawNone
		}
		end := h.seen + i - 1 // of the line, at its CR
		if end < h.pos || b[end] != '\r' {
			if h.fresh {
				return false, wire.FlawRequestLine
			}
			return false, wire.FlawField
		}
		start := h.pos
		h.pos, h.seen = end+2, end+2
		switch {
		case h.fresh:
			if end == 0 {
				return false, wire.FlawRequestLine
			}
			h.first, h.fresh = end, false
			if end > h.maxLine {
				return false, wire.FlawTargetLength
			}
		case start == end:
			return true, wire.FlawNone
		default:
			if flaw := h.field(b, start, end); flaw != wire.FlawNone {
				return false, flaw
			}
		}
	}
}

// field reads one field line: RFC 9112 section 5. A line that is folded begins
// with a space, which is in no name.
func (h *head) field(b []byte, start, end int) wire.Flaw {
	if len(h.spans) >= h.maxFields {
		return wire.FlawFieldSize
	}
	colon := bytes.IndexByte(b[start:end], ':')
	if colon < 0 || !h.names.canonicalise(b[start:start+colon]) {
		return wire.FlawField
	}
	value := start + colon + 1
	for value < end && (b[value] == ' ' || b[value] == '\t') {
		value++
	}
	last := end
	for last > value && (b[last-1] == ' ' || b[last-1] == '\t') {
		last--
	}
	if !isValue(b[value:last]) {
		return wire.FlawField
	}
	h.spans = append(h.spans, span{int32(start), int32(start + colon), int32(value), int32(last)})
	return wire.FlawNone
}

// framing is what the fields say of the message itself.
type framing struct {
	host, length, coding, expect     string
	hosts, lengths, codings, expects int
	connection, trailer, upgrade     bool // there is such a field
}

// header makes the map of the fields, but for those that hide, of text: a copy of
// the bytes that were scanned.
func (h *head) header(text string, f *framing, hideHost bool) http.Header {
	header := make(http.Header, len(h.spans))
	values := make([]string, 0, len(h.spans))
	for _, s := range h.spans {
		name, value := text[s.start:s.name], text[s.value:s.end]
		switch name {
		case "Host":
			f.host = value
			f.hosts++
			if hideHost {
				continue
			}
		case "Transfer-Encoding":
			f.coding = value
			f.codings++
			continue
		case "Content-Length":
			f.length = value
			f.lengths++
		case "Expect":
			f.expect = value
			f.expects++
		case "Connection":
			f.connection = true
		case "Trailer":
			f.trailer = true
		case "Upgrade":
			f.upgrade = true
		}
		if old, twice := header[name]; twice {
			header[name] = append(old, value)
			continue
		}
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return header
}

// size is the body's length by the fields, -1 where it is chunked, and -2 where
// they say nothing: RFC 9112 section 6.3. Two framings are none.
func (f *framing) size(minor int) (int64, wire.Flaw) {
	switch {
	case f.codings > 0:
		if f.codings > 1 || f.lengths > 0 || minor == 0 || !strings.EqualFold(f.coding, "chunked") {
			return 0, wire.FlawCoding
		}
		return -1, wire.FlawNone
	case f.lengths == 0:
		return -2, wire.FlawNone
	case f.lengths > 1:
		return 0, wire.FlawLength
	}
	n, ok := parseLength(f.length)
	if !ok {
		return 0, wire.FlawLength
	}
	return n, wire.FlawNone
}

// notTrailers are fields that a trailer may not be, since they frame, route,
// authenticate or say how to read the body: RFC 9110 section 6.5.1.
var notTrailers = map[string]bool{
	"Authorization": true, "Connection": true, "Content-Encoding": true, "Content-Length": true, "Content-Range": true,
	"Content-Type": true, "Cookie": true, "Expect": true, "Host": true, "Keep-Alive": true, "Max-Forwards": true,
	"Proxy-Authenticate": true, "Proxy-Authorization": true, "Proxy-Connection": true, "Set-Cookie": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Www-Authenticate": true,
}

// announced takes the names of the Trailer fields out of the header. Of those
// that may not be trailers, the ones that frame are refused.
func announced(header http.Header) (http.Header, wire.Flaw) {
	trailer := http.Header{}
	for _, field := range header["Trailer"] {
		for one := range strings.SplitSeq(field, ",") {
			name := []byte(strings.Trim(one, " \t"))
			if len(name) == 0 {
				continue
			}
			if !anyName.canonicalise(name) {
				return nil, wire.FlawTrailer
			}
			switch string(name) {
			case "Content-Length", "Transfer-Encoding", "Trailer":
				return nil, wire.FlawTrailer
			}
			if !notTrailers[string(name)] {
				trailer[string(name)] = nil
			}
		}
	}
	delete(header, "Trailer")
	return trailer, wire.FlawNone
}
