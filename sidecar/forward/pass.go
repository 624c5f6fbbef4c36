package forward

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Pass says which fields of a request go on. The zero Pass lets pass what is the
// protocol's own: accept and accept-*, content-*, range, if-*, te: trailers,
// traceparent, tracestate, grpc-*, sec-websocket-*, user-agent.
type Pass struct {
	// All lets everything pass but what belongs to one hop and what speaks of
	// identity.
	All     bool
	Headers []string // declared, in lower case
	Cookies []string // declared
}

// The errors of [Pass.Select].
var (
	ErrCookieRepeated = errors.New("a declared cookie is given more than once")
	ErrCookieCount    = errors.New("there are more cookies than anyone needs")
)

// Select makes the header that goes on, and counts the fields and cookies that
// do not: hop-by-hop fields are not counted, for nobody expects them to.
func (p *Pass) Select(header http.Header) (passed http.Header, dropped int, err error) {
	passed = make(http.Header, len(header)+4)
	named := connectionTokens(header)
	for name, values := range header {
		switch {
		case hopByHop(name) || framing(name) || names(named, name):
		case !IsIdentity(name) && (p.All || isOwn(name) || names(p.Headers, name)):
			passed[name] = values
		case name == "Cookie":
			kept, left, err := selectCookies(values, p.Cookies)
			if err != nil {
				return nil, 0, err
			}
			dropped += left
			if kept != "" {
				passed[name] = []string{kept}
			}
		default:
			dropped++
		}
	}
	if wantsTrailers(header) {
		passed["Te"] = []string{"trailers"}
	}
	return passed, dropped, nil
}

// wantsTrailers reports whether the client can take trailers: RFC 9110 section
// 6.5.1.
func wantsTrailers(header http.Header) bool { return HasToken(header["Te"], "trailers") }

const maxCookies = 256

// selectCookies joins the declared ones of the cookies. What is no cookie-pair of
// RFC 6265 section 4.2.1 is dropped, since readers differ on what it would be.
func selectCookies(fields, declared []string) (kept string, dropped int, err error) {
	var b strings.Builder
	var seen []string
	count := 0
	for _, field := range fields {
		for pair := range strings.SplitSeq(field, ";") {
			if count++; count > maxCookies {
				return "", 0, ErrCookieCount
			}
			name, value, ok := cookiePair(strings.TrimPrefix(pair, " "))
			if !ok || !slices.Contains(declared, name) {
				dropped++
				continue
			}
			if slices.Contains(seen, name) {
				return "", 0, ErrCookieRepeated
			}
			seen = append(seen, name)
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(name + "=" + value)
		}
	}
	return b.String(), dropped, nil
}

func cookiePair(pair string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(pair, "=")
	if !ok || name == "" || !all(name, isTokenByte) {
		return "", "", false
	}
	plain := value
	if len(plain) >= 2 && plain[0] == '"' && plain[len(plain)-1] == '"' {
		plain = plain[1 : len(plain)-1]
	}
	return name, value, all(plain, isCookieByte)
}

func all(text string, is func(byte) bool) bool {
	for i := range len(text) {
		if !is(text[i]) {
			return false
		}
	}
	return true
}

// isTokenByte is tchar of RFC 9110 section 5.6.2.
func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// isCookieByte is cookie-octet of RFC 6265 section 4.1.1.
func isCookieByte(c byte) bool {
	return 0x21 <= c && c <= 0x7e && c != '"' && c != ',' && c != ';' && c != '\\'
}
