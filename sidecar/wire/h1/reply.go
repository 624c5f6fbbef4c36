package h1

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

var (
	errInformed = errors.New("reading the answer: it does not come for all the 1xx before it")
	errSwitch   = errors.New("reading the answer: a switch to a protocol that was not asked for")
)

// reply is an answer as the caller sees it, in one piece.
type reply struct {
	http.Response
	body   answerBody
	coding [1]string
}

// receive reads the answer's head, and gives back the connection if that is all.
// untouched: not a byte of an answer came.
func (c *clientConn) receive(s *sending) (answer *http.Response, untouched bool, err error) {
	limit := c.t.config.MaxHead
	for informed := 0; ; informed++ {
		text, err := c.in.readHead(true, limit, nil)
		if err != nil {
			untouched := informed == 0 && len(c.in.buffered()) == 0
			return nil, untouched, readingHead(err)
		}
		limit -= len(text)
		a := &reply{}
		minor, flaw := a.parseStatus(text[:c.in.head.first])
		if flaw != wire.FlawNone {
			return nil, false, readingHead(flaw)
		}
		var f framing
		a.Header = c.in.head.header(text, &f, false)
		switch {
		case a.StatusCode < 200 && (f.codings > 0 || f.lengths > 0 && f.length != "0"):
			return nil, false, readingHead(wire.FlawCoding) // some would look for a body
		case a.StatusCode == http.StatusSwitchingProtocols:
			answer, err := c.switched(s, a)
			return answer, false, err
		case a.StatusCode >= 200:
			answer, err := c.accept(s, a, &f, minor)
			return answer, false, err
		case informed == maxInformation:
			return nil, false, errInformed
		}
		if err := inform(s.r, a); err != nil {
			return nil, false, err
		}
	}
}

func readingHead(err error) error { return fmt.Errorf("reading the answer's head: %w", err) }

// parseStatus is RFC 9112 section 4. The blank before an absent reason may be
// absent too: many leave it out, and nothing else can be meant.
func (a *reply) parseStatus(line string) (minor int, flaw wire.Flaw) {
	version, rest, ok := strings.Cut(line, " ")
	if !ok || version != "HTTP/1.1" && version != "HTTP/1.0" {
		return 0, wire.FlawVersion
	}
	minor = int(version[7] - '0')
	if len(rest) < 3 || !all(rest[:3], ofDigit) || len(rest) > 3 && rest[3] != ' ' || !isValue(rest) {
		return 0, wire.FlawRequestLine
	}
	a.StatusCode = int(rest[0]-'0')*100 + int(rest[1]-'0')*10 + int(rest[2]-'0')
	if a.StatusCode < 100 || a.StatusCode > 599 {
		return 0, wire.FlawRequestLine
	}
	a.Status = rest
	a.Proto, a.ProtoMajor, a.ProtoMinor = version, 1, minor
	return minor, wire.FlawNone
}

// inform passes an answer of 1xx to whoever asked for it, in net/http's way.
func inform(r *http.Request, a *reply) error {
	trace := httptrace.ContextClientTrace(r.Context())
	if trace == nil {
		return nil
	}
	if a.StatusCode == http.StatusContinue && trace.Got100Continue != nil {
		trace.Got100Continue()
	}
	if trace.Got1xxResponse != nil {
		return trace.Got1xxResponse(a.StatusCode, textproto.MIMEHeader(a.Header))
	}
	return nil
}

// switched hands over a connection that leaves HTTP, if that was asked for.
func (c *clientConn) switched(s *sending, a *reply) (*http.Response, error) {
	to := a.Header["Upgrade"]
	if len(to) != 1 || !hasToken(s.r.Header["Connection"], "upgrade") || !hasToken(s.r.Header["Upgrade"], to[0]) || s.r.ContentLength != 0 {
		return nil, errSwitch
	}
	c.dog.end()
	c.dog.mu.Lock()
	stop := c.stop
	c.stop = nil
	c.dog.mu.Unlock()
	if stop != nil && !stop() {
		return nil, s.r.Context().Err()
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	a.Request = s.r
	a.Body = &tunnel{Conn: c.conn, early: c.in.buffered()}
	return &a.Response, nil
}

// accept gives the answer its body: RFC 9112 section 6.3.
func (c *clientConn) accept(s *sending, a *reply, f *framing, minor int) (*http.Response, error) {
	size, flaw := f.size(minor)
	none := a.StatusCode == http.StatusNoContent || a.StatusCode == http.StatusNotModified || s.r.Method == http.MethodHead
	if a.StatusCode == http.StatusNoContent && (size == -1 || size > 0) {
		flaw = wire.FlawCoding // some would look for a body
	}
	if flaw == wire.FlawNone && size == -1 && f.trailer {
		a.Trailer, flaw = announced(a.Header)
	}
	if flaw != wire.FlawNone {
		return nil, readingHead(flaw)
	}
	a.Request, a.ContentLength = s.r, size
	if size == -1 {
		a.coding[0] = "chunked"
		a.TransferEncoding = a.coding[:1:1]
	}
	closes := minor == 0 || s.r.Close || f.connection && hasToken(a.Header["Connection"], "close") || hasToken(s.r.Header["Connection"], "close")
	a.Close = closes
	if size == -2 {
		a.ContentLength, a.Close = -1, closes || !none
	}
	if none && s.r.Method != http.MethodHead {
		a.ContentLength = 0
	}
	if none || size == 0 {
		a.Body = http.NoBody
		c.finish(!closes && s.isSent())
		return &a.Response, nil
	}
	b := &a.body
	b.c, b.s, b.a, b.closes = c, s, a, a.Close
	b.left = size
	a.Body = b
	c.in.until.limit(c.t.config.Stall)
	return &a.Response, nil
}

// answerBody is the body of an answer as the caller reads it.
type answerBody struct {
	c      *clientConn
	s      *sending
	a      *reply
	left   int64 // bytes; -1: in chunks, -2: until the connection ends
	closes bool
	chunks chunked
	err    error        // sticky
	state  atomic.Int32 // who gave the connection back: nobody, Read or Close
}

const (
	bodyOpen int32 = iota
	bodyEnded
	bodyClosed
)

// Read reads on, and gives the connection back with the last bytes. An end that
// is not the body's is io.ErrUnexpectedEOF.
func (b *answerBody) Read(p []byte) (int, error) {
	switch b.state.Load() {
	case bodyEnded:
		return 0, b.err
	case bodyClosed:
		return 0, http.ErrBodyReadAfterClose
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.take(p)
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		err = b.c.why(b.s, err)
	}
	b.err = err
	if b.state.CompareAndSwap(bodyOpen, bodyEnded) {
		b.c.finish(err == io.EOF && !b.closes && b.s.isSent())
	}
	return n, err
}

func (b *answerBody) take(p []byte) (int, error) {
	in := &b.c.in
	switch b.left {
	case -1:
		n, err := b.chunks.read(in, p)
		if err == io.EOF && b.chunks.trailer != nil {
			b.a.Trailer = merge(b.a.Trailer, b.chunks.trailer)
		}
		return n, err
	case -2:
		return in.read(p)
	}
	n, err := in.read(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); b.left == 0 {
		return n, io.EOF
	}
	return n, cut(err)
}

// Close ends the connection of a body that was not read to its end.
func (b *answerBody) Close() error {
	if b.state.CompareAndSwap(bodyOpen, bodyClosed) {
		b.c.finish(false)
	}
	return nil
}
