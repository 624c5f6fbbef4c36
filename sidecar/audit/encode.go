package audit

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/everyhop/everyhop/policy"
)

// maxLine is the longest line, with its end: what a log pipeline takes as one.
const maxLine = 16 << 10

// The longest that each field may become, in bytes as written. Their sum is what
// keeps a line within maxLine, whatever a client sends.
const (
	maxShort = 128  // ids, digests, methods
	maxName  = 512  // names from the policy, and where they stand
	maxID    = 2048 // the longest SPIFFE ID there is
	maxRoute = 2048
	maxPath  = 4096
)

// mark ends a field that was cut.
const mark = "…(cut)"

// appendRecord appends the record as one line. It is written out by hand because
// it runs on every request: no reflection, no allocation.
func appendRecord(b []byte, r *Record, seq uint64, paths bool) []byte {
	b = append(b, `{"time":"`...)
	b = appendTime(b, r.Time)
	b = append(b, '"')
	b = appendUint(b, "seq", seq)
	b = appendText(b, "id", r.ID, maxShort)
	b = appendText(b, "direction", r.Direction, maxShort)
	b = appendWho(b, r)
	b = appendText(b, "method", r.Method, maxShort)
	b = appendText(b, "route", r.Route, maxRoute)
	if paths {
		b = appendText(b, "path", r.Path, maxPath)
	}
	b = appendDecision(b, r)
	b = appendInt(b, "status", int64(r.Status))
	b = appendInt(b, "bytes_in", r.BytesIn)
	b = appendInt(b, "bytes_out", r.BytesOut)
	b = appendSeconds(b, "duration_seconds", r.Duration)
	if r.DroppedHeaders > 0 {
		b = appendInt(b, "dropped_headers", int64(r.DroppedHeaders))
	}
	b = appendText(b, "policy", r.Digest, maxShort)
	b = appendUint(b, "generation", r.Generation)
	b = appendText(b, "trace", r.Trace, maxShort)
	return append(b, "}\n"...)
}

// appendWho appends the other end: the caller inbound, the call and its peer
// outbound.
func appendWho(b []byte, r *Record) []byte {
	who, serial := "caller", "caller_serial"
	if r.Direction == Outbound {
		who, serial = "peer", "peer_serial"
		b = appendText(b, "call", r.Call, maxName)
	}
	if r.Peer.IsZero() {
		return b
	}
	b = appendText(b, who, r.Peer.ID.String(), maxID)
	return appendText(b, serial, r.Peer.Serial, maxShort)
}

func appendDecision(b []byte, r *Record) []byte {
	if r.Rule != nil {
		b = appendText(b, "grant", r.Rule.Name, maxName)
		b = appendPos(b, "grant_at", r.Rule.Pos)
	}
	if r.Shadow != nil {
		b = appendText(b, "shadow", r.Shadow.Name, maxName)
	}
	b = appendText(b, "verdict", r.Verdict.String(), maxShort)
	b = appendText(b, "reason", r.Reason.String(), maxShort)
	return appendText(b, "fault", r.Fault, maxShort)
}

// appendPos is Pos.String without its allocations.
func appendPos(b []byte, key string, p policy.Pos) []byte {
	if p.Line == 0 {
		return b
	}
	b = appendKey(b, key)
	b = append(b, '"')
	b = appendEscaped(b, p.File, maxName)
	b = append(b, ':')
	b = strconv.AppendInt(b, int64(p.Line), 10)
	b = append(b, ':')
	b = strconv.AppendInt(b, int64(p.Col), 10)
	return append(b, '"')
}

func appendKey(b []byte, key string) []byte {
	b = append(b, `,"`...)
	b = append(b, key...)
	return append(b, `":`...)
}

func appendInt(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(appendKey(b, key), n, 10)
}

func appendUint(b []byte, key string, n uint64) []byte {
	return strconv.AppendUint(appendKey(b, key), n, 10)
}

func appendSeconds(b []byte, key string, d time.Duration) []byte {
	micro := max(d, 0).Round(time.Microsecond).Microseconds()
	b = append(strconv.AppendInt(appendKey(b, key), micro/1e6, 10), '.')
	return appendDigits(b, int(micro%1e6), 6)
}

// appendTime appends the time in UTC, to the microsecond, as RFC 3339 has it. To
// read a layout anew for each record would take longer than all the rest of it.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = append(appendDigits(b, year, 4), '-')
	b = append(appendDigits(b, int(month), 2), '-')
	b = append(appendDigits(b, day, 2), 'T')
	b = append(appendDigits(b, hour, 2), ':')
	b = append(appendDigits(b, minute, 2), ':')
	b = append(appendDigits(b, second, 2), '.')
	return append(appendDigits(b, t.Nanosecond()/1000, 6), 'Z')
}

// appendDigits appends n, which is not negative, in at least so many digits.
func appendDigits(b []byte, n, width int) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], int64(n), 10)
	for range width - len(text) {
		b = append(b, '0')
	}
	return append(b, text...)
}

// appendText appends a field, or nothing where text is empty.
func appendText(b []byte, key, text string, limit int) []byte {
	if text == "" {
		return b
	}
	b = append(appendKey(b, key), '"')
	b = appendEscaped(b, text, limit)
	return append(b, '"')
}

// appendEscaped appends text as the inside of a JSON string (RFC 8259 section 7),
// at most limit bytes of it as written. Whatever is not plainly printable is
// escaped, not only what JSON demands: a log is read on terminals and split on
// line ends that JSON knows nothing of (ESC, U+2028, U+202E). Bytes that are not
// UTF-8 become U+FFFD.
func appendEscaped(b []byte, text string, limit int) []byte {
	end := len(b) + limit - len(mark)
	for {
		n := 0
		for n < len(text) && plain[text[n]] {
			n++
		}
		if left := end - len(b); n > left {
			return append(append(b, text[:max(left, 0)]...), mark...)
		}
		b, text = append(b, text[:n]...), text[n:]
		if text == "" {
			return b
		}
		start := len(b)
		var size int
		if b, size = appendRune(b, text); len(b) > end {
			return append(b[:start], mark...)
		}
		text = text[size:]
	}
}

// plain are the bytes that are written as they are.
var plain = func() (set [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		set[c] = c != '"' && c != '\\'
	}
	return set
}()

// appendRune appends the first rune of text, and says how many bytes it had.
func appendRune(b []byte, text string) ([]byte, int) {
	r, size := utf8.DecodeRuneInString(text)
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r)), size
	case r == utf8.RuneError || !unicode.IsPrint(r):
		return appendUnicode(b, r), size
	}
	return append(b, text[:size]...), size
}

// appendUnicode appends \uXXXX, as a surrogate pair above the basic plane.
func appendUnicode(b []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		b = appendUnicode(b, 0xd800+(r>>10))
		r = 0xdc00 + (r & 0x3ff)
	}
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
