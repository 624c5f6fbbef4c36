package h1

import (
	"io"
	"net/http"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// chunked reads a chunked body: RFC 9112 section 7.1. Of what the grammar lets
// stand between a size and its line's end, no blank is taken.
type chunked struct {
	left       int64 // bytes of this chunk that were not read yet
	inside     bool  // a chunk's data, or its line's end, comes next
	extensions int   // bytes so far
	trailer    http.Header
}

// read is io.EOF together with the last bytes, if the end is there already.
func (c *chunked) read(s *source, p []byte) (n int, err error) {
	for {
		if c.left > 0 {
			if n == len(p) || n > 0 && s.r == s.w {
				return n, nil
			}
			got, err := s.read(p[n:min(int64(len(p)), int64(n)+c.left)])
			n += got
			c.left -= int64(got)
			if err != nil {
				return n, cut(err)
			}
			continue
		}
		if n > 0 && !c.ready(s) {
			return n, nil
		}
		last, err := c.next(s)
		if err != nil {
			return n, err
		}
		if last {
			if c.trailer, err = readTrailer(s); err == nil {
				err = io.EOF
			}
			return n, err
		}
	}
}

// ready reports whether the next chunk's line, and for the last one its trailer
// section, can be read without waiting.
func (c *chunked) ready(s *source) bool {
	b := s.buffered()
	if len(b) >= 7 && string(b[:7]) == "\r\n0\r\n\r\n" {
		return true
	}
	return len(b) > 2 && b[2] != '0' && s.hasLine(2)
}

// next reads up to the data of the next chunk.
func (c *chunked) next(s *source) (last bool, err error) {
	if c.inside {
		line, err := s.line()
		if err != nil {
			return false, err
		}
		if len(line) != 0 {
			return false, wire.FlawChunk
		}
		c.inside = false
	}
	line, err := s.line()
	if err != nil {
		return false, err
	}
	size, rest, ok := parseChunkSize(line)
	c.extensions += len(rest)
	if !ok || c.extensions > maxExtensions || !isExtensions(rest) {
		return false, wire.FlawChunk
	}
	c.left, c.inside = size, size > 0
	return size == 0, nil
}

// parseChunkSize is the size at the start of a chunk's line, and what follows it.
func parseChunkSize(line []byte) (size int64, rest []byte, ok bool) {
	i := 0
	for ; i < len(line) && class[line[i]]&ofHex != 0; i++ {
		if i == 16 {
			return 0, nil, false
		}
		size = size<<4 | int64(unhex(line[i]))
	}
	return size, line[i:], i > 0 && size >= 0
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// isExtensions reports whether the rest of a chunk's line is any number of
// ;name, ;name=token or ;name="quoted".
func isExtensions(rest []byte) bool {
	for len(rest) > 0 {
		if rest[0] != ';' {
			return false
		}
		name := tokenLength(rest[1:])
		if name == 0 {
			return false
		}
		if rest = rest[1+name:]; len(rest) == 0 || rest[0] != '=' {
			continue
		}
		value := tokenLength(rest[1:])
		if value == 0 {
			value = quotedLength(rest[1:])
		}
		if value == 0 {
			return false
		}
		rest = rest[1+value:]
	}
	return true
}

func tokenLength(b []byte) int {
	n := 0
	for n < len(b) && class[b[n]]&ofToken != 0 {
		n++
	}
	return n
}

// quotedLength is the length of the quoted string that b starts with, zero if it
// does not: RFC 9110 section 5.6.4.
func quotedLength(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i++; i == len(b) || class[b[i]]&ofValue == 0 {
				return 0
			}
		case class[c]&ofQuoted == 0:
			return 0
		}
	}
	return 0
}

// readTrailer reads a trailer section; nil where it is empty.
func readTrailer(s *source) (http.Header, error) {
	if b := s.buffered(); len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		s.r += 2
		return nil, nil
	}
	fields := s.head.maxFields
	s.head.maxFields = maxTrailers
	text, err := s.readHead(false, maxTrailer, nil)
	s.head.maxFields = fields
	switch err {
	case nil:
	case wire.FlawField, wire.FlawFieldSize:
		return nil, wire.FlawTrailer
	default:
		return nil, cut(err)
	}
	if len(s.head.spans) == 0 {
		return nil, nil
	}
	for _, one := range s.head.spans {
		if notTrailers[text[one.start:one.name]] {
			return nil, wire.FlawTrailer
		}
	}
	return s.head.header(text, new(framing), false), nil
}
