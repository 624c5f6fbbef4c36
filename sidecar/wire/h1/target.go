package h1

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// parseTarget reads a request target into u: RFC 9112 section 3.2. The path is
// not judged, only the form and its bytes; an absolute form must name the host.
func parseTarget(method, target, host string, u *url.URL) wire.Flaw {
	switch {
	case target == "" || !all(target, ofTarget):
		return wire.FlawTarget
	case method == "CONNECT":
		if !isHostPort(target) || !strings.Contains(target[strings.LastIndexByte(target, ']')+1:], ":") {
			return wire.FlawTarget
		}
		u.Host = target
	case target == "*":
		if method != "OPTIONS" {
			return wire.FlawTarget
		}
		u.Path = target
	case target[0] == '/':
		return parseOrigin(target, u)
	default:
		return parseAbsolute(target, host, u)
	}
	return wire.FlawNone
}

func parseOrigin(target string, u *url.URL) wire.Flaw {
	path, query, asked := strings.Cut(target, "?")
	if all(path, ofPath) { // net/url would say the same, at ten times the price
		u.Path, u.RawQuery, u.ForceQuery = path, query, asked && query == ""
		return wire.FlawNone
	}
	return parseURL(target, u)
}

func parseURL(target string, u *url.URL) wire.Flaw {
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return wire.FlawTarget
	}
	*u = *parsed
	return wire.FlawNone
}

func parseAbsolute(target, host string, u *url.URL) wire.Flaw {
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return wire.FlawTarget
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		authority = rest[:end]
	}
	if !isHostPort(authority) {
		return wire.FlawTarget
	}
	if !strings.EqualFold(authority, host) {
		return wire.FlawHost
	}
	return parseURL(target, u)
}

const (
	maxHost  = 253 // RFC 1035 section 2.3.4
	maxLabel = 63
)

// isHostPort reports whether text is one host with at most one port, as Host has
// it: RFC 9110 section 7.2. An address in brackets has no zone.
func isHostPort(text string) bool {
	if strings.HasPrefix(text, "[") {
		inner, after, ok := strings.Cut(text[1:], "]")
		addr, err := netip.ParseAddr(inner)
		return ok && err == nil && addr.Is6() && addr.Zone() == "" &&
			(after == "" || after[0] == ':' && isPort(after[1:]))
	}
	host, port, named := strings.Cut(text, ":")
	if named && !isPort(port) {
		return false
	}
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > maxHost {
		return false
	}
	label := 0
	for i := range len(host) {
		switch c := host[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case class[c]&ofHost == 0 || label == maxLabel:
			return false
		default:
			label++
		}
	}
	return label > 0
}

func isPort(text string) bool {
	if text == "" || len(text) > 5 || !all(text, ofDigit) {
		return false
	}
	n := 0
	for i := range len(text) {
		n = n*10 + int(text[i]-'0')
	}
	return 0 < n && n < 1<<16
}
