package match

import (
	"net/netip"
	"strings"
)

const (
	maxHost  = 253 // RFC 1035 section 2.3.4, without the root's dot
	maxLabel = 63
)

// Host is the host of an authority, host or host:port, in lower case, without
// the port and without the dot of the root. It is false for anything else:
// userinfo, an empty or too long label, a port that is none, an address in an
// unusual spelling. An IPv6 address keeps its brackets (RFC 3986 section
// 3.2.2) and is written as RFC 5952 says.
func Host(text string) (host string, ok bool) {
	if strings.HasPrefix(text, "[") {
		return hostIPv6(text)
	}
	host, port, found := strings.Cut(text, ":")
	if found && !validPort(port) {
		return "", false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || len(host) > maxHost {
		return "", false
	}
	last := host
	for name := host; ; {
		label, more, found := strings.Cut(name, ".")
		if !validLabel(label) {
			return "", false
		}
		if !found {
			last = label
			break
		}
		name = more
	}
	// 127.1, 0177.0.0.1 and 0x7f000001 are all 127.0.0.1 to some.
	if numeric(last) {
		if addr, err := netip.ParseAddr(host); err != nil || !addr.Is4() {
			return "", false
		}
	}
	return host, true
}

func hostIPv6(text string) (string, bool) {
	inner, after, ok := strings.Cut(text[1:], "]")
	if !ok || after != "" && (after[0] != ':' || !validPort(after[1:])) {
		return "", false
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", false
	}
	return "[" + addr.String() + "]", true
}

// validLabel is letters, digits and inner dashes, and the underscore that
// container names have. No label may end with a dash, so xn--abc-, which is
// ASCII in disguise, is none.
func validLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := 0; i < len(label); i++ {
		if c := label[i]; !alphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func validPort(port string) bool {
	if port == "" || len(port) > 5 || port[0] == '0' {
		return false
	}
	n := 0
	for i := 0; i < len(port); i++ {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
		n = n*10 + int(port[i]-'0')
	}
	return n <= 65535
}

// numeric is what the WHATWG URL standard takes for the end of an IPv4 address.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
