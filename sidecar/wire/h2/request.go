package h2

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// incoming is a request at a server. One allocation holds all of it that goes to
// the handler together, and it is used once.
type incoming struct {
	stream
	request   *http.Request // &message
	message   http.Request
	address   url.URL
	cancel    context.CancelCauseFunc
	flaw      wire.Flaw
	malformed bool // as RFC 9113 section 8.1.1 has it: the stream is reset
	expects   bool // 100-continue
	writer    responseWriter
	body      requestBody
}

func (in *incoming) refuse(flaw wire.Flaw, malformed bool) {
	if in.flaw == wire.FlawNone {
		in.flaw, in.malformed = flaw, malformed
	}
}

func (c *serverConn) newStream(id uint32) *stream {
	in := &incoming{}
	in.stream = stream{c: c.conn, id: id, left: -1, incoming: in}
	ctx, cancel := context.WithCancelCause(c.ctx)
	in.cancel = cancel
	in.body.in = in
	in.writer.init(c, in)
	in.message = *(&http.Request{
		URL: &in.address, Proto: "HTTP/2.0", ProtoMajor: 2, Body: http.NoBody, RemoteAddr: c.remote,
	}).WithContext(ctx)
	in.request = &in.message
	return &in.stream
}

// newRequest makes a request of the block just decoded.
func (c *serverConn) newRequest(id uint32, end bool) *stream {
	s := c.newStream(id)
	in, r := s.incoming, s.incoming.request
	if !end { // or nobody waits for any of it
		in.in.init()
	}
	pseudo, rest := c.pseudo(in)
	if c.dec.over {
		in.refuse(wire.FlawFieldSize, false)
	}
	flaw := checkFields(rest)
	if flaw == wire.FlawNone {
		r.Header = c.dec.header(rest)
	} else { // not one of these fields is to be shown to anyone
		r.Header = http.Header{}
		in.refuse(flaw, true)
	}
	in.target(&pseudo, c.config.ExtendedConnect)
	if flaw != wire.FlawNone {
		return s
	}
	in.host(&pseudo)
	in.framing(rest, end)
	return s
}

// pseudoFields are those of a request, and which of them there are.
type pseudoFields struct {
	method, scheme, authority, path, protocol                string
	hasMethod, hasScheme, hasAuthority, hasPath, hasProtocol bool
}

// pseudo takes the pseudo-fields off the fields: each once, known, and before all
// others (RFC 9113 section 8.3).
func (c *serverConn) pseudo(in *incoming) (p pseudoFields, rest []hpack.HeaderField) {
	fields := c.dec.fields
	for i := range fields {
		f := &fields[i]
		if f.Name == "" || f.Name[0] != ':' {
			return p, fields[i:]
		}
		value, has := &p.method, &p.hasMethod
		switch f.Name {
		case ":method":
		case ":scheme":
			value, has = &p.scheme, &p.hasScheme
		case ":authority":
			value, has = &p.authority, &p.hasAuthority
		case ":path":
			value, has = &p.path, &p.hasPath
		case ":protocol":
			value, has = &p.protocol, &p.hasProtocol
		default:
			in.refuse(wire.FlawPseudo, true)
			continue
		}
		if *has || hasControl(f.Value) {
			in.refuse(wire.FlawPseudo, true)
		}
		*value, *has = f.Value, true
	}
	return p, nil
}

const maxMethod = 32

// target checks and sets the method and the target (RFC 9113 sections 8.3.1 and
// 8.5, RFC 8441 section 4).
func (in *incoming) target(p *pseudoFields, extended bool) {
	r := in.request
	r.Method, r.RequestURI, r.URL.Scheme = p.method, p.path, p.scheme
	switch {
	case p.method == "" || !all(p.method, &tokenByte):
		in.refuse(wire.FlawMethod, true)
	case len(p.method) > maxMethod:
		in.refuse(wire.FlawMethod, false)
	}
	if p.method == http.MethodConnect && !p.hasProtocol {
		if p.hasScheme || p.hasPath || p.authority == "" {
			in.refuse(wire.FlawPseudo, true)
		}
		r.RequestURI, r.URL.Host = p.authority, p.authority
		return
	}
	if p.hasProtocol {
		if p.method != http.MethodConnect || !extended || p.protocol == "" || !all(p.protocol, &tokenByte) {
			in.refuse(wire.FlawPseudo, true)
		}
		r.Header[":protocol"] = []string{p.protocol}
	}
	if p.scheme != "https" && p.scheme != "http" || !p.hasPath {
		in.refuse(wire.FlawPseudo, true)
	}
	if !validPath(p.path) && !(p.path == "*" && p.method == http.MethodOptions) {
		in.refuse(wire.FlawTarget, true)
	}
	in.url(p.path)
}

// validPath reports whether a path begins as one, and has only bytes that a URI
// has (RFC 3986); whether what it names is harmless is the policy's to say.
func validPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// url is the target's parsed form. A path that cannot be decoded stays as it is:
// it is RequestURI that is judged.
func (in *incoming) url(target string) {
	u := in.request.URL
	path, query, asked := strings.Cut(target, "?")
	u.Path, u.RawQuery, u.ForceQuery = path, query, asked && query == ""
	if strings.IndexByte(path, '%') < 0 {
		return
	}
	if decoded, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = decoded, path
	}
}

// host checks and sets whom the request is for. A field beside :authority is kept
// where it can be compared.
func (in *incoming) host(p *pseudoFields) {
	r := in.request
	fields := r.Header["Host"]
	r.Host = p.authority
	if len(fields) > 1 {
		in.refuse(wire.FlawHost, true)
	}
	if !p.hasAuthority && len(fields) == 1 {
		r.Host = fields[0]
		delete(r.Header, "Host")
	}
	if r.Host == "" || !all(r.Host, &authorityByte) {
		in.refuse(wire.FlawHost, true)
	}
}

// framing checks and sets what the request says of its body.
func (in *incoming) framing(fields []hpack.HeaderField, end bool) {
	r := in.request
	n, ok := length(fields)
	if !ok || end && n > 0 {
		in.refuse(wire.FlawLength, true)
		return
	}
	if expect, has := r.Header["Expect"]; has {
		if len(expect) != 1 || !strings.EqualFold(expect[0], "100-continue") {
			in.refuse(wire.FlawExpectation, false)
		}
		in.expects = true
		delete(r.Header, "Expect")
	}
	if end {
		return
	}
	in.left, r.ContentLength = n, n
	r.Body = &in.body
	for _, list := range r.Header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if !validName(name) || framing(name) {
				continue
			}
			if r.Trailer == nil {
				r.Trailer = make(http.Header)
			}
			r.Trailer[http.CanonicalHeaderKey(name)] = nil
		}
	}
	delete(r.Header, "Trailer")
}

// requestBody is the body as the handler reads it.
type requestBody struct{ in *incoming }

// Read reads on. Where the client waits to be asked for the body, it asks.
func (b *requestBody) Read(p []byte) (int, error) {
	in := b.in
	if in.expects {
		in.expects = false
		in.writer.goAhead()
	}
	n, err := in.read(context.Background(), p)
	if err == io.EOF {
		b.takeTrailers()
	}
	return n, err
}

// Buffered is how many bytes can be read without waiting, so that a transport may
// send a short body of known length with its head.
func (b *requestBody) Buffered() int {
	if b.in.expects {
		return 0
	}
	return b.in.in.waiting()
}

func (b *requestBody) takeTrailers() {
	in := b.in
	in.in.mu.Lock()
	defer in.in.mu.Unlock()
	if in.in.trailer == nil {
		return
	}
	if in.request.Trailer == nil {
		in.request.Trailer = make(http.Header, len(in.in.trailer))
	}
	for name, values := range in.in.trailer {
		in.request.Trailer[name] = values
	}
	in.in.trailer = nil
}

// Close gives up on the rest.
func (b *requestBody) Close() error {
	b.in.discard()
	return nil
}
