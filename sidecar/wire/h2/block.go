package h2

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/sidecar/wire"
)

type trailers = http.Header

var errBlockSize = errors.New("a header block is too large, or in too many frames")

// readBlock reads a HEADERS frame and the CONTINUATIONs it needs, decodes them,
// and hands the fields on.
func (c *conn) readBlock(fh http2.FrameHeader) error {
	if fh.StreamID == 0 {
		return connError(http2.ErrCodeProtocol, "HEADERS is for no stream")
	}
	payload, err := c.payload(fh)
	if err != nil {
		return err
	}
	fragment, dependsOn, err := fragmentOf(fh, payload)
	if err != nil {
		return err
	}
	c.dec.begin()
	if err := c.decodeBlock(fh, fragment); err != nil {
		return err
	}
	if dependsOn == fh.StreamID {
		return c.faulty(fh.StreamID, http2.ErrCodeProtocol, errSelf)
	}
	if err := c.headers(fh.StreamID, fh.Flags.Has(http2.FlagHeadersEndStream)); err != nil || c.client || !c.dec.over {
		return err
	}
	return c.oversized()
}

// oversized counts a header list of a client's that is larger than it may be,
// whatever it was for: it took work that few bytes can ask for.
func (c *conn) oversized() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.glitches.spend(c.glitches.heavy()) {
		return connError(http2.ErrCodeEnhanceYourCalm, "too many header lists are too large")
	}
	return nil
}

var errSelf = errors.New("the stream depends on itself")

// payload is the frame's, good until the next read.
func (c *conn) payload(fh http2.FrameHeader) ([]byte, error) {
	n := int(fh.Length)
	if n <= c.br.Size() {
		p, err := c.br.Peek(n)
		if err != nil {
			return nil, unexpected(err)
		}
		_, err = c.br.Discard(n)
		return p, err
	}
	if cap(c.fragment) < n {
		c.fragment = make([]byte, n)
	}
	_, err := io.ReadFull(c.br, c.fragment[:n])
	return c.fragment[:n], err
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fragmentOf takes padding and priority off the payload of a HEADERS frame.
func fragmentOf(fh http2.FrameHeader, p []byte) (fragment []byte, dependsOn uint32, err error) {
	padding := 0
	if fh.Flags.Has(http2.FlagHeadersPadded) {
		if len(p) == 0 {
			return nil, 0, connError(http2.ErrCodeFrameSize, "padded, and empty")
		}
		padding, p = int(p[0]), p[1:]
	}
	if fh.Flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return nil, 0, connError(http2.ErrCodeFrameSize, "a priority is cut short")
		}
		dependsOn, p = binary.BigEndian.Uint32(p)&maxID, p[5:]
	}
	if padding > len(p) {
		return nil, 0, connError(http2.ErrCodeProtocol, "there is more padding than frame")
	}
	return p[:len(p)-padding], dependsOn, nil
}

// decodeBlock decodes the fragment and those that follow it. What cannot be
// decoded to its end costs the connection, since the table is lost.
func (c *conn) decodeBlock(fh http2.FrameHeader, fragment []byte) error {
	total := len(fragment)
	for frames := 0; ; frames++ {
		if tooLong, err := c.dec.write(fragment); tooLong {
			return &blockError{fh.StreamID, connError(http2.ErrCodeEnhanceYourCalm, "a field is larger than a whole header list may be")}
		} else if err != nil {
			return connError(http2.ErrCodeCompression, err.Error())
		}
		if fh.Flags.Has(http2.FlagHeadersEndHeaders) {
			break
		}
		next, err := c.framer.ReadFrameHeader()
		if err != nil {
			return c.framing(unexpected(err))
		}
		total += int(next.Length)
		if frames >= c.limits.Continuations || total > 2*c.limits.HeaderBytes {
			return &blockError{fh.StreamID, connError(http2.ErrCodeEnhanceYourCalm, errBlockSize.Error())}
		}
		if fragment, err = c.payload(next); err != nil {
			return err
		}
		fh.Flags = next.Flags
	}
	if err := c.dec.end(); err != nil {
		return connError(http2.ErrCodeCompression, err.Error())
	}
	return nil
}

// blockError is a header list that is too large even to be read: it ends the
// connection, and the request it was of is refused.
type blockError struct {
	id  uint32
	err error
}

func (e *blockError) Error() string { return e.err.Error() }
func (e *blockError) Unwrap() error { return e.err }

// checkFields checks fields that follow the pseudo-fields.
func checkFields(fields []hpack.HeaderField) wire.Flaw {
	for i := range fields {
		name := fields[i].Name
		if name != "" && name[0] == ':' {
			return wire.FlawPseudo
		}
		if !validName(name) || !validValue(fields[i].Value) || connectionSpecific(name) ||
			name == "te" && fields[i].Value != "trailers" {
			return wire.FlawField
		}
	}
	return wire.FlawNone
}

// trailersOf checks a list of trailers (RFC 9113 section 8.1).
func (c *conn) trailersOf() (trailers, wire.Flaw) {
	if c.dec.over {
		return nil, wire.FlawFieldSize
	}
	if flaw := checkFields(c.dec.fields); flaw != wire.FlawNone {
		return nil, flaw
	}
	for i := range c.dec.fields {
		if framing(c.dec.fields[i].Name) {
			return nil, wire.FlawTrailer
		}
	}
	return c.dec.header(c.dec.fields), wire.FlawNone
}

// onTrailers ends the peer's message with the block just decoded.
func (c *conn) onTrailers(s *stream, end bool) error {
	if !end {
		return c.faulty(s.id, http2.ErrCodeProtocol, wire.FlawTrailer)
	}
	trailer, flaw := c.trailersOf()
	if flaw != wire.FlawNone {
		return c.faulty(s.id, http2.ErrCodeProtocol, flaw)
	}
	return c.endRemote(s, trailer)
}

// length is the value of the content-length among the fields, -1 without one. It
// is refused unless it is one plain number (RFC 9110 section 8.6).
func length(fields []hpack.HeaderField) (n int64, ok bool) {
	n = -1
	for i := range fields {
		if fields[i].Name != "content-length" {
			continue
		}
		if n >= 0 {
			return 0, false
		}
		if n, ok = number(fields[i].Value); !ok {
			return 0, false
		}
	}
	return n, true
}

func number(text string) (n int64, ok bool) {
	if text == "" || len(text) > 18 {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(text[i]-'0')
	}
	return n, true
}
