package h1

import (
	"net/http"
	"strconv"
	"strings"
)

// kind sets the fields apart that a message's writer has its own mind about.
type kind uint8

const (
	fieldPlain kind = iota
	fieldHidden
	fieldConnection
	fieldDate
	fieldExpect
	fieldHost
	fieldLength
	fieldTrailer
)

// fieldOf is the kind of the field of that name, however it is spelt.
func fieldOf(name string) kind {
	switch len(name) {
	case 4:
		if strings.EqualFold(name, "Date") {
			return fieldDate
		}
		if strings.EqualFold(name, "Host") {
			return fieldHost
		}
	case 6:
		if strings.EqualFold(name, "Expect") {
			return fieldExpect
		}
	case 7:
		if strings.EqualFold(name, "Trailer") {
			return fieldTrailer
		}
	case 10:
		if strings.EqualFold(name, "Connection") {
			return fieldConnection
		}
	case 14:
		if strings.EqualFold(name, "Content-Length") {
			return fieldLength
		}
	case 17:
		if strings.EqualFold(name, "Transfer-Encoding") {
			return fieldHidden
		}
	}
	if strings.HasPrefix(name, http.TrailerPrefix) {
		return fieldHidden
	}
	return fieldPlain
}

// appendField adds a field line. It is false, and b as it was, where the name or
// the value is none.
func appendField(b []byte, name, value string) ([]byte, bool) {
	if !isToken(name) || !isValue(value) {
		return b, false
	}
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...), true
}

// appendStatus adds a status line.
func appendStatus(b []byte, status int) []byte {
	if status == http.StatusOK {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	b = append(append(b, ' '), http.StatusText(status)...)
	return append(b, "\r\n"...)
}
