package h2

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// onHeaders is a head of an answer, or its trailers.
func (c *clientConn) onHeaders(id uint32, end bool) error {
	c.mu.Lock()
	s := c.streams[id]
	if s == nil {
		defer c.mu.Unlock()
		return c.stray(id)
	}
	if s.remoteDone {
		defer c.mu.Unlock()
		return c.faultyLocked(id, http2.ErrCodeStreamClosed, nil)
	}
	c.mu.Unlock()
	if s.call.headed {
		return c.onTrailers(s, end)
	}
	return c.onHead(s, end)
}

func (c *clientConn) onHead(s *stream, end bool) error {
	status, rest, flaw := c.status()
	if flaw == wire.FlawNone && c.dec.over {
		flaw = wire.FlawFieldSize
	}
	if flaw != wire.FlawNone {
		return c.faulty(s.id, http2.ErrCodeProtocol, flaw)
	}
	if status < 200 {
		return c.onInformation(s, status, rest, end)
	}
	n, ok := length(rest)
	if !ok {
		return c.faulty(s.id, http2.ErrCodeProtocol, wire.FlawLength)
	}
	s.call.headed = true
	answer := c.answer(s, status, rest)
	answer.ContentLength = n
	bare := s.call.out.r.Method == http.MethodHead || !bodyAllowed(status)
	if s.left = n; bare {
		s.left = 0
	}
	if end {
		if s.left > 0 {
			return c.faulty(s.id, http2.ErrCodeProtocol, wire.FlawLength)
		}
		if n < 0 && s.call.out.r.Method != http.MethodHead {
			answer.ContentLength = 0
		}
		if err := c.endRemote(s, nil); err != nil {
			return err
		}
	} else {
		answer.Body = &answerBody{s: s, answer: answer}
	}
	s.in.mu.Lock()
	s.in.head = answer
	s.in.mu.Unlock()
	if end || !c.bodyFollows(s.id) {
		s.in.signal()
	}
	return nil
}

// status takes :status off the fields, and checks them all.
func (c *clientConn) status() (status int, rest []hpack.HeaderField, flaw wire.Flaw) {
	fields := c.dec.fields
	if len(fields) == 0 || fields[0].Name != ":status" || len(fields[0].Value) != 3 {
		return 0, nil, wire.FlawPseudo
	}
	n, ok := number(fields[0].Value)
	if !ok || n < 100 || n == http.StatusSwitchingProtocols {
		return 0, nil, wire.FlawPseudo
	}
	return int(n), fields[1:], checkFields(fields[1:])
}

func (c *clientConn) onInformation(s *stream, status int, fields []hpack.HeaderField, end bool) error {
	if end {
		return c.faulty(s.id, http2.ErrCodeProtocol, wire.FlawPseudo)
	}
	if s.call.infos++; s.call.infos > maxInformations {
		return c.faulty(s.id, http2.ErrCodeEnhanceYourCalm, nil)
	}
	if status == http.StatusContinue && s.call.ahead != nil {
		select {
		case s.call.ahead <- struct{}{}:
		default:
		}
	}
	s.in.mu.Lock()
	s.in.infos = append(s.in.infos, information{status, c.dec.header(fields)})
	s.in.mu.Unlock()
	s.in.signal()
	return nil
}

func (c *clientConn) answer(s *stream, status int, fields []hpack.HeaderField) *http.Response {
	answer := &http.Response{
		Status: statusLine(status), StatusCode: status, Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: c.dec.header(fields), Body: http.NoBody, Request: s.call.out.r, TLS: c.secure,
	}
	for _, list := range answer.Header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			if answer.Trailer == nil {
				answer.Trailer = make(http.Header)
			}
			answer.Trailer[http.CanonicalHeaderKey(strings.TrimSpace(name))] = nil
		}
	}
	delete(answer.Header, "Trailer")
	return answer
}

func statusLine(status int) string {
	if status == http.StatusOK {
		return "200 OK"
	}
	return strconv.Itoa(status) + " " + http.StatusText(status)
}

// answerBody is an answer's body as the caller reads it. When the request's
// context ends, so does reading, and the upstream is told.
type answerBody struct {
	s      *stream
	answer *http.Response
}

// Read reads on; at the end the answer's Trailer is there.
func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.s.read(b.s.call.ctx, p)
	switch {
	case err == nil:
	case err == io.EOF:
		b.takeTrailers()
	default:
		b.s.abort(http2.ErrCodeCancel, err)
	}
	return n, err
}

func (b *answerBody) takeTrailers() {
	in := &b.s.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.trailer != nil {
		b.answer.Trailer, in.trailer = in.trailer, nil
	}
}

// Close gives up on the rest, and on sending what is left of the request.
func (b *answerBody) Close() error {
	b.s.abort(http2.ErrCodeCancel, errBodyShut)
	b.s.discard()
	b.s.call.out.stop()
	return nil
}
