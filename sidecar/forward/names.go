package forward

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// hopByHop reports whether a field ends at each hop (RFC 9110 section 7.6.1), or is
// one that the wire writes itself. Names are canonical, as in http.Header. This and
// what follows are asked of every field: a switch takes a fifth of a map's time.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
		":protocol", "Proxy-Authenticate", "Proxy-Authorization", "Proxy":
		return true
	}
	return false
}

// framing reports whether the wire writes the field itself from what it sends.
func framing(name string) bool {
	switch name {
	case "Content-Length", "Host", "Expect":
		return true
	}
	return false
}

var ownPrefixes = []string{"Accept-", "Content-", "If-", "Grpc-", "Sec-Websocket-"}

// ofAnswer reports whether an answer loses the field: it speaks for the upstream's
// own address or software.
func ofAnswer(name string) bool {
	return name == "Alt-Svc" || name == "Server" || name == "X-Powered-By"
}

// connectionOptions are the tokens that Connection may hold.
var connectionOptions = map[string]bool{
	"Close": true, "Keep-Alive": true, "Te": true, "Upgrade": true, "Http2-Settings": true, "Proxy-Connection": true,
}

// isOwn reports whether a field belongs to the protocols: it passes without being
// declared.
func isOwn(name string) bool {
	switch name {
	case "Accept", "Range", "Traceparent", "Tracestate", "User-Agent", "Via":
		return true
	}
	for _, prefix := range ownPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

var identityPrefixes = []string{"everyhop-", "x-forwarded-", "l5d-", "ssl-client-", "x-ssl-", "x-client-cert"}

var identityNames = []string{"x-spiffe-id", "forwarded", "x-real-ip"}

// IsIdentity reports whether a field of this name says who somebody is, or might
// be taken for one that does: in any case, and with _ or . for -, as CGI and its
// heirs read them. No client's value of it is ever passed on.
func IsIdentity(name string) bool {
	for _, prefix := range identityPrefixes {
		if len(name) >= len(prefix) && twins(name[:len(prefix)], prefix) {
			return true
		}
	}
	for _, whole := range identityNames {
		if len(name) == len(whole) && twins(name, whole) {
			return true
		}
	}
	return false
}

// twins reports whether two names of one length are the same to a careless
// reader; plain is in lower case.
func twins(name, plain string) bool {
	for i := range len(name) {
		c := lowerByte(name[i])
		if c == '_' || c == '.' {
			c = '-'
		}
		if c != plain[i] {
			return false
		}
	}
	return true
}

// BadConnection reports whether Connection names a field that is meant for more
// than this hop: removing it would let us judge one request and the upstream
// serve another.
func BadConnection(header http.Header) bool {
	for _, token := range connectionTokens(header) {
		name := textproto.CanonicalMIMEHeaderKey(token)
		if connectionOptions[name] || IsIdentity(name) {
			continue
		}
		if _, present := header[name]; present || isOwn(name) || framing(name) || hopByHop(name) || endToEnd[name] {
			return true
		}
	}
	return false
}

// endToEnd are fields that Connection must not name even where they are absent:
// those that decide what a request means, besides the protocol's own.
var endToEnd = map[string]bool{"Authorization": true, "Cookie": true, "Origin": true, "Referer": true, "X-Request-Id": true}

// connectionTokens are the tokens of all Connection fields.
func connectionTokens(header http.Header) []string {
	return tokens(header["Connection"])
}

// tokens splits a list of fields at its commas, and leaves out empty ones.
func tokens(values []string) []string {
	var all []string
	for _, value := range values {
		for token := range strings.SplitSeq(value, ",") {
			if token = textproto.TrimString(token); token != "" {
				all = append(all, token)
			}
		}
	}
	return all
}

// HasToken reports whether a list of tokens, spread over fields, has this one:
// RFC 9110 section 5.6.1.
func HasToken(fields []string, token string) bool { return names(tokens(fields), token) }

// names reports whether the list has the name, in any case.
func names(list []string, name string) bool {
	return slices.ContainsFunc(list, func(one string) bool { return equalFold(one, name) })
}

// equalFold is for ASCII alone. To strings.EqualFold a Kelvin sign is a k, and
// all bytes that are no UTF-8 are the same.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lowerByte(a[i]) != lowerByte(b[i]) {
			return false
		}
	}
	return true
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
