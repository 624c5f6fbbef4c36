package h1

import (
	"encoding/binary"
	"strings"
)

// What a byte may be part of: RFC 9110 section 5.6.2, section 5.5, RFC 9112
// section 3.2.
const (
	ofToken = 1 << iota
	ofValue
	ofTarget
	ofPath // of a path that net/url takes as it is
	ofHost
	ofDigit
	ofHex
	ofQuoted // inside a quoted string, but for the backslash
)

var class = classes()

func classes() (table [256]uint8) {
	mark := func(bit uint8, bytes string) {
		for i := range len(bytes) {
			table[bytes[i]] |= bit
		}
	}
	const digits, letters = "0123456789", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	mark(ofToken, digits+letters+"!#$%&'*+-.^_`|~")
	mark(ofPath, digits+letters+"-_.~$&+,/:;=@")
	mark(ofHost, digits+letters+"-_.")
	mark(ofDigit, digits)
	mark(ofHex, digits+"abcdefABCDEF")
	mark(ofValue|ofQuoted, "\t ")
	for c := 0x21; c < 0x100; c++ {
		if c != 0x7f {
			table[c] |= ofValue
		}
		if c < 0x7f && c != '#' {
			table[c] |= ofTarget
		}
		if c < 0x7f && c != '"' && c != '\\' {
			table[c] |= ofQuoted
		}
	}
	return table
}

func all(text string, bit uint8) bool {
	for i := range len(text) {
		if class[text[i]]&bit == 0 {
			return false
		}
	}
	return true
}

func isToken(text string) bool { return text != "" && all(text, ofToken) }

// casing holds the canonical form of each byte of a field name: in the first row
// at the start of a word, in the second inside one. Zero: not in a name at all.
type casing [2][256]byte

var (
	anyName    = casings("")
	strictName = casings("_") // CGI and its heirs read _ as -
)

func casings(without string) *casing {
	t := new(casing)
	for c := range 256 {
		if class[c]&ofToken == 0 || strings.IndexByte(without, byte(c)) >= 0 {
			continue
		}
		t[0][c], t[1][c] = byte(c), byte(c)
		if 'a' <= c && c <= 'z' {
			t[0][c] = byte(c - 'a' + 'A')
		}
		if 'A' <= c && c <= 'Z' {
			t[1][c] = byte(c - 'A' + 'a')
		}
	}
	return t
}

// canonicalise gives a field name the form that [http.Header] has, in place. It
// is false where that is no name.
func (t *casing) canonicalise(name []byte) bool {
	row := &t[0]
	for i, c := range name {
		c = row[c]
		if c == 0 {
			return false
		}
		name[i] = c
		row = &t[1]
		if c == '-' {
			row = &t[0]
		}
	}
	return len(name) > 0
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// isValue reports whether a field value has no control byte but the tab.
func isValue[T string | []byte](v T) bool {
	for ; len(v) >= 8; v = v[8:] {
		x := binary.LittleEndian.Uint64([]byte(v[:8]))
		del := x ^ 0x7f*ones
		if (((x-0x20*ones)&^x)|((del-ones)&^del))&highs == 0 {
			continue
		}
		for i := range 8 {
			if class[v[i]]&ofValue == 0 {
				return false
			}
		}
	}
	for i := range len(v) {
		if class[v[i]]&ofValue == 0 {
			return false
		}
	}
	return true
}

// hasToken reports whether a list of the fields' values names the token, in
// lower case.
func hasToken(fields []string, token string) bool {
	for _, field := range fields {
		for one := range strings.SplitSeq(field, ",") {
			if strings.EqualFold(strings.Trim(one, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// parseLength reads a Content-Length: digits, without a needless zero, that fit.
func parseLength(text string) (n int64, ok bool) {
	if text == "" || len(text) > 19 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	for i := range len(text) {
		if class[text[i]]&ofDigit == 0 {
			return 0, false
		}
		n = n*10 + int64(text[i]-'0') // nineteen digits overflow into the sign at most
	}
	return n, n >= 0
}
