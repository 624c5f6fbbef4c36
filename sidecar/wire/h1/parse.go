package h1

import (
	"strings"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// parseRequestLine is RFC 9112 section 3, with exactly one space at each place.
func parseRequestLine(line string) (method, target, version string, flaw wire.Flaw) {
	method, rest, ok := strings.Cut(line, " ")
	if !ok {
		return "", "", "", wire.FlawRequestLine
	}
	target, version, ok = strings.Cut(rest, " ")
	switch {
	case !ok || target == "" || !isVersion(version):
		return "", "", "", wire.FlawRequestLine
	case len(method) > maxMethod || !isToken(method):
		return "", target, version, wire.FlawMethod
	}
	return method, target, version, wire.FlawNone
}

// isVersion reports whether text is an HTTP-version: RFC 9112 section 2.3.
func isVersion(text string) bool {
	return len(text) == 8 && text[:5] == "HTTP/" && text[6] == '.' && class[text[5]]&ofDigit != 0 && class[text[7]]&ofDigit != 0
}

// parseRequest reads what was scanned into x: text is a copy of it. What could be
// read is there even where there is a flaw.
func (x *exchange) parseRequest(h *head, text string) wire.Flaw {
	r := &x.request
	if h.first < 0 {
		return wire.FlawRequestLine
	}
	method, target, version, lineFlaw := parseRequestLine(text[:h.first])
	r.Method, r.RequestURI, r.Proto = method, target, version
	r.ProtoMajor, r.ProtoMinor = 1, 1
	var f framing
	r.Header = h.header(text, &f, true)
	r.Host = f.host
	switch {
	case lineFlaw != wire.FlawNone:
		return lineFlaw
	case version == "HTTP/1.0" && x.c.s.config.HTTP10:
		r.ProtoMinor = 0
	case version != "HTTP/1.1":
		return wire.FlawVersion
	case len(target) > x.c.s.config.MaxTarget:
		return wire.FlawTargetLength
	}
	if f.hosts != 1 || !isHostPort(f.host) {
		return wire.FlawHost
	}
	if flaw := parseTarget(method, target, f.host, &x.url); flaw != wire.FlawNone {
		return flaw
	}
	return x.parseFraming(&f)
}

// parseFraming reads what the fields say of the message and of the connection.
func (x *exchange) parseFraming(f *framing) wire.Flaw {
	r := &x.request
	size, flaw := f.size(r.ProtoMinor)
	if flaw != wire.FlawNone {
		return flaw
	}
	x.closing = r.ProtoMinor == 0
	if f.connection {
		if namesFraming(r.Header["Connection"]) {
			return wire.FlawField
		}
		x.closing = x.closing || hasToken(r.Header["Connection"], "close")
		x.upgrading = f.upgrade && r.ProtoMinor == 1 && hasToken(r.Header["Connection"], "upgrade")
	}
	r.Close = x.closing
	if f.expects > 0 {
		if f.expects > 1 || !strings.EqualFold(f.expect, "100-continue") {
			return wire.FlawExpectation
		}
		x.body.awaited = size != 0 && size != -2 && r.ProtoMinor == 1
	}
	if size == -1 && f.trailer {
		if r.Trailer, flaw = announced(r.Header); flaw != wire.FlawNone {
			return flaw
		}
	}
	x.open(size)
	return wire.FlawNone
}

// namesFraming reports whether Connection lists what frames or routes the
// message: whoever took that out would read another message.
func namesFraming(fields []string) bool {
	for _, name := range [...]string{"content-length", "transfer-encoding", "host", "trailer", "expect"} {
		if hasToken(fields, name) {
			return true
		}
	}
	return false
}
