package h2

import (
	"net/http"
	"strings"
)

// tokenByte is tchar of RFC 9110 section 5.6.2.
var tokenByte = byteSet("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

// authorityByte is what host and port are made of (RFC 3986 section 3.2): no
// userinfo (RFC 9113 section 8.3.1).
var authorityByte = byteSet("!$%&'()*+,-.0123456789:;=ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~")

func byteSet(members string) (set [256]bool) {
	for i := range len(members) {
		set[members[i]] = true
	}
	return set
}

func all(text string, set *[256]bool) bool {
	for i := range len(text) {
		if !set[text[i]] {
			return false
		}
	}
	return true
}

// validName reports whether a field may be named so on HTTP/2: a token without
// capitals (RFC 9113 section 8.2).
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !tokenByte[c] || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return name != ""
}

// validValue reports whether a field may have this value: no control but a tab,
// and no space at either end (RFC 9113 section 8.2.1, RFC 9110 section 5.5).
func validValue(value string) bool {
	if value == "" {
		return true
	}
	if first, last := value[0], value[len(value)-1]; first == ' ' || first == '\t' || last == ' ' || last == '\t' {
		return false
	}
	return !hasControl(value)
}

func hasControl(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// connectionSpecific are the fields of RFC 9113 section 8.2.2, which no message
// has here.
func connectionSpecific(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// framing are fields that are no trailers (RFC 9110 section 6.5.1): they frame
// the message, route it, or are what a policy was asked about.
func framing(name string) bool {
	switch name {
	case "content-length", "content-encoding", "content-type", "content-range", "trailer", "te", "host", "authorization",
		"cookie", "expect", "max-forwards", "cache-control", "range", "set-cookie", "proxy-authorization":
		return true
	}
	return connectionSpecific(name)
}

// volatile are fields that differ from request to request, or must not be
// guessed by their size: they never enter the peer's table (RFC 7541 section 7.1).
func volatile(name, value string) bool {
	switch name {
	case ":path":
		return len(value) > 64 || strings.ContainsAny(value, "0123456789?%")
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "traceparent", "tracestate", "x-request-id",
		"content-length", "etag", "last-modified", "location", "if-none-match", "if-modified-since", "if-match", "range",
		"content-range", "grpc-timeout", "age", "expires", "x-forwarded-client-cert":
		return true
	}
	return strings.HasPrefix(name, "everyhop-")
}

// canonical and lower are the two spellings of the usual field names.
var canonical, lower = spellings(`accept accept-charset accept-encoding accept-language accept-ranges access-control-allow-credentials
access-control-allow-headers access-control-allow-methods access-control-allow-origin access-control-expose-headers
access-control-max-age access-control-request-headers access-control-request-method age allow authorization cache-control
content-disposition content-encoding content-language content-length content-location content-range content-type cookie
date etag everyhop-caller everyhop-decision everyhop-issuer everyhop-user expect expires forwarded from grpc-accept-encoding grpc-encoding
grpc-message grpc-status grpc-timeout host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified
link location max-forwards origin proxy-authenticate proxy-authorization range referer retry-after sec-fetch-dest sec-fetch-mode
sec-fetch-site sec-websocket-key sec-websocket-protocol sec-websocket-version server set-cookie strict-transport-security te
traceparent tracestate trailer user-agent vary via www-authenticate x-content-type-options x-forwarded-for x-forwarded-host
x-forwarded-proto x-forwarded-client-cert x-request-id`)

func spellings(names string) (canonical, lower map[string]string) {
	canonical, lower = map[string]string{}, map[string]string{}
	for name := range strings.FieldsSeq(names) {
		key := http.CanonicalHeaderKey(name)
		canonical[name], lower[key] = key, name
	}
	return canonical, lower
}

// lowerName is the field name as HTTP/2 spells it, empty if it is none.
func lowerName(key string) string {
	if name, usual := lower[key]; usual {
		return name
	}
	if !all(key, &tokenByte) { // before ToLower, which makes a k of the Kelvin sign
		return ""
	}
	return strings.ToLower(key)
}
