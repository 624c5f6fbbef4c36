package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// outgoing is a request at a client, on however many tries it takes.
type outgoing struct {
	r        *http.Request
	head     []hpack.HeaderField
	size     int64 // of the head, as RFC 9113 section 6.5.2 counts
	body     io.ReadCloser
	length   int64 // of the body, -1 if it is not known
	harmless bool  // may be sent twice
	expects  bool  // 100-continue
	extended bool  // RFC 8441
	current  *call // of the last try, if there is a body

	tunnel bool    // the caller asked to switch, in the way of HTTP/1.1
	stream *stream // of the last try, where it did
}

// newOutgoing checks the request and makes its head.
func newOutgoing(r *http.Request) (*outgoing, error) {
	out := &outgoing{length: r.ContentLength}
	if protocol := switching(r); protocol != "" {
		r, out.tunnel = connectOf(r, protocol), true
	}
	out.r = r
	if r.Body != nil && r.Body != http.NoBody {
		out.body = r.Body
		if out.length == 0 {
			out.length = -1
		}
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	if !all(method, &tokenByte) {
		return nil, fmt.Errorf("sending a request: the method %q is none", method)
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		out.harmless = out.body == nil
	}
	out.head = make([]hpack.HeaderField, 0, len(r.Header)+8)
	if err := out.pseudo(method); err != nil {
		return nil, err
	}
	if err := out.fields(method); err != nil {
		return nil, err
	}
	return out, nil
}

func (out *outgoing) add(name, value string) {
	f := hpack.HeaderField{Name: name, Value: value, Sensitive: volatile(name, value)}
	out.head = append(out.head, f)
	out.size += int64(f.Size())
}

func (out *outgoing) pseudo(method string) error {
	r := out.r
	if r.URL == nil {
		return errors.New("sending a request: it has no URL")
	}
	authority := r.Host
	if authority == "" {
		authority = r.URL.Host
	}
	if authority == "" || !all(authority, &authorityByte) {
		return fmt.Errorf("sending a request: %q is no host", authority)
	}
	out.add(":method", method)
	protocol := r.Header[":protocol"]
	if method == http.MethodConnect && protocol == nil {
		out.add(":authority", authority)
		return nil
	}
	path := r.URL.Opaque
	if path == "" || r.URL.RawQuery != "" || r.URL.ForceQuery {
		path = r.URL.RequestURI()
	}
	if !validPath(path) && !(path == "*" && method == http.MethodOptions) {
		return fmt.Errorf("sending a request: %q is no path", path)
	}
	scheme := r.URL.Scheme
	if scheme != "http" && scheme != "https" {
		return fmt.Errorf("sending a request: the scheme %q is neither http nor https", scheme)
	}
	out.add(":scheme", scheme)
	out.add(":authority", authority)
	out.add(":path", path)
	if protocol != nil {
		if method != http.MethodConnect || len(protocol) != 1 || protocol[0] == "" || !all(protocol[0], &tokenByte) {
			return fmt.Errorf("sending a request: the protocol %q is none", protocol)
		}
		out.extended = true
		out.add(":protocol", protocol[0])
	}
	return nil
}

func (out *outgoing) fields(method string) error {
	r := out.r
	for key, values := range r.Header {
		if key == ":protocol" {
			continue
		}
		name := lowerName(key)
		if name == "" {
			return fmt.Errorf("sending a request: %q is no field name", key)
		}
		if connectionSpecific(name) || name == "host" || name == "content-length" || name == "trailer" {
			continue // of another hop, or for us to say
		}
		for _, value := range values {
			if value = strings.Trim(value, " \t"); hasControl(value) {
				return fmt.Errorf("sending a request: the value of %q has a control character", key)
			}
			if name == "te" && value != "trailers" {
				continue
			}
			out.add(name, value)
		}
		out.expects = out.expects || name == "expect" && out.body != nil
	}
	switch {
	case out.body != nil && out.length >= 0:
		out.add("content-length", strconv.FormatInt(out.length, 10))
	case out.body == nil && (method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch):
		out.add("content-length", "0")
	}
	if out.body != nil && len(r.Trailer) > 0 {
		names := make([]string, 0, len(r.Trailer))
		for key := range r.Trailer {
			names = append(names, key)
		}
		out.add("trailer", strings.Join(names, ", "))
	}
	return nil
}

// again makes the request ready for another try, if it can be.
func (out *outgoing) again() bool {
	if out.body == nil || out.current == nil || out.current.begun.CompareAndSwap(bodyUntouched, bodyForbidden) {
		return true
	}
	if out.r.GetBody == nil {
		return false
	}
	body, err := out.r.GetBody()
	if err != nil {
		return false
	}
	out.stop()
	out.body = body
	return true
}

// stop closes the body: nobody wants more of it.
func (out *outgoing) stop() {
	if out.body != nil {
		_ = out.body.Close()
	}
}

const (
	bodyUntouched = iota
	bodyRead
	bodyForbidden // another try reads it
)

const (
	sendBuffer   = 32 << 10
	continueWait = time.Second // for a 100 that we asked for
)

// sendBuffers are only ever held between a read and the write of the same bytes.
var sendBuffers = sync.Pool{New: func() any { b := make([]byte, sendBuffer); return &b }}

// sendBody sends the body of a request.
func (c *clientConn) sendBody(s *stream, body io.ReadCloser) {
	defer c.under.Done()
	call := s.call
	if call.ahead != nil {
		timer := time.NewTimer(continueWait)
		defer timer.Stop()
		select {
		case <-call.ahead:
		case <-timer.C:
		case <-call.ctx.Done():
		}
	}
	if !call.begun.CompareAndSwap(bodyUntouched, bodyRead) {
		return
	}
	defer body.Close()
	if err := c.copyBody(s, body); err != nil {
		s.abort(http2.ErrCodeCancel, err)
	}
}

var (
	errBodyLong  = errors.New("the request's body is longer than it was declared")
	errBodyShort = errors.New("the request's body is shorter than it was declared")
)

func (c *clientConn) copyBody(s *stream, body io.Reader) error {
	out, ctx := s.call.out, s.call.ctx
	buffer := sendBuffers.Get().(*[]byte)
	defer sendBuffers.Put(buffer)
	for total := int64(0); ; {
		n, err := body.Read(*buffer)
		if total += int64(n); out.length >= 0 && total > out.length {
			return errBodyLong
		}
		if err == nil && total == out.length { // so that the end goes with the last of it
			err = ended(body)
		}
		switch {
		case err == io.EOF && out.length >= 0 && total < out.length:
			return errBodyShort
		case err != nil && err != io.EOF:
			return fmt.Errorf("reading the request's body: %w", err)
		}
		m := message{data: (*buffer)[:n], end: err == io.EOF}
		if m.end {
			m.trailers = out.trailers()
		}
		if n > 0 || m.end {
			if err := s.send(ctx, m, 0); err != nil {
				return err
			}
		}
		if m.end {
			return nil
		}
	}
}

// ended is io.EOF if nothing more comes of the body.
func ended(body io.Reader) error {
	var one [1]byte
	for {
		n, err := body.Read(one[:])
		if n > 0 {
			return errBodyLong
		}
		if err != nil {
			return err
		}
	}
}

// trailers are the request's, once its body was read.
func (out *outgoing) trailers() (fields []hpack.HeaderField) {
	for key, values := range out.r.Trailer {
		if name := lowerName(key); name != "" && !framing(name) {
			fields = appendField(fields, key, values)
		}
	}
	return fields
}
