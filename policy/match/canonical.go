package match

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxPath is the longest path, and the longest query, accepted in bytes.
const MaxPath = 8 << 10

// Canonical is the one form in which a request path is matched and forwarded:
// escaped unreserved characters are decoded, the digits of what stays escaped
// are upper case (RFC 3986 section 6.2.2). Nothing else is changed; what could
// still be read in more than one way is refused with false: an empty or dot
// segment, a separator, control or half an escape in disguise, anything that
// RFC 3986 section 3.3 does not let stand in a path, and escapes that are not
// UTF-8. It allocates only where the path was not canonical yet.
func Canonical(path string) (canonical string, ok bool) {
	if path == "" || path[0] != '/' || len(path) > MaxPath {
		return "", false
	}
	canonical, ok = decodeUnreserved(path)
	// Checked after decoding: %25%34%31 is an escaped escape only then.
	if !ok || !unambiguous(canonical) {
		return "", false
	}
	return canonical, true
}

// decodeUnreserved is false where an escape is not a % and two digits.
func decodeUnreserved(path string) (string, bool) {
	at := strings.IndexByte(path, '%')
	if at < 0 {
		return path, true
	}
	var out []byte // nil as long as path is as it should be
	for i := at; i < len(path); i++ {
		if path[i] != '%' {
			if out != nil {
				out = append(out, path[i])
			}
			continue
		}
		value, ok := escaped(path[i:])
		if !ok {
			return "", false
		}
		decode := unreserved(value)
		if out == nil && (decode || lowerHex(path[i+1]) || lowerHex(path[i+2])) {
			out = append(make([]byte, 0, len(path)), path[:i]...)
		}
		switch {
		case out == nil:
		case decode:
			out = append(out, value)
		default:
			out = append(out, '%', hexUpper[value>>4], hexUpper[value&15])
		}
		i += 2
	}
	if out == nil {
		return path, true
	}
	return string(out), true
}

// unambiguous judges a path whose escapes are in canonical form.
func unambiguous(path string) bool {
	start := 1 // of the segment
	for i := 1; i < len(path); {
		c := path[i]
		switch {
		case c == '/':
			if !plainSegment(path[start:i]) || start == i {
				return false
			}
			start = i + 1
			i++
		case c == '%':
			n := plainEscape(path[i:])
			if n == 0 {
				return false
			}
			i += n
		case !pathByte(c):
			return false
		default:
			i++
		}
	}
	return plainSegment(path[start:])
}

// plainSegment is false for dot segments and for those with a space at an end,
// which some file systems and proxies trim.
func plainSegment(segment string) bool {
	return segment != "." && segment != ".." &&
		!strings.HasPrefix(segment, "%20") && !strings.HasSuffix(segment, "%20")
}

// plainEscape is the length of the escaped character that text begins with: 3
// for an ASCII one, more for UTF-8; 0 if it is refused.
func plainEscape(text string) int {
	first, _ := escaped(text)
	switch {
	case first == '/' || first == '\\' || first < 0x20 || first == 0x7f:
		return 0
	case first == '%':
		if len(text) >= 5 && hexPair(text[3], text[4]) {
			return 0
		}
		return 3
	case first < utf8.RuneSelf:
		return 3
	}
	var char [utf8.UTFMax]byte
	for n := 0; n < len(char) && len(text) >= 3*(n+1) && text[3*n] == '%'; {
		char[n], _ = escaped(text[3*n:])
		n++
		if r, size := utf8.DecodeRune(char[:n]); size == n && n > 1 {
			return controlFree(r, 3*n)
		}
	}
	return 0
}

// controlFree is length, or 0 for the C1 controls.
func controlFree(r rune, length int) int {
	if unicode.IsControl(r) {
		return 0
	}
	return length
}

// pathByte is what RFC 3986 section 3.3 lets stand raw in a segment, without
// the semicolon, which some servers cut a segment at.
func pathByte(c byte) bool {
	return unreserved(c) || strings.IndexByte("!$&'()*+,=:@", c) >= 0
}

// unreserved is RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return alphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~'
}

const hexUpper = "0123456789ABCDEF"

// escaped is the byte that the escape at the start of text stands for.
func escaped(text string) (value byte, ok bool) {
	if len(text) < 3 || text[0] != '%' || !hexPair(text[1], text[2]) {
		return 0, false
	}
	high, _ := hexDigit(text[1])
	low, _ := hexDigit(text[2])
	return high<<4 | low, true
}

func hexPair(a, b byte) bool {
	_, first := hexDigit(a)
	_, second := hexDigit(b)
	return first && second
}

func hexDigit(c byte) (value byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func lowerHex(c byte) bool { return 'a' <= c && c <= 'f' }
