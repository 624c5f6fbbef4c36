package file

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy/match"
)

// hostPort is a host and a port that can be dialed, in the form of net.Dial.
func (r *reader) hostPort(n *yaml.Node, text, hint string) (string, bool) {
	host, port, err := net.SplitHostPort(text)
	switch {
	case err != nil && !strings.Contains(text, ":"):
		r.refuseValue(n, show(text)+" has no port", hint)
		return "", false
	case err != nil || strings.ContainsAny(text, "/@?# "):
		r.refuseValue(n, show(text)+" is not host:port", hint)
		return "", false
	case !validHost(host):
		r.refuseValue(n, show(host)+" is not a host", hint)
		return "", false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || port[0] == '0' || port[0] == '+' {
		r.refuseValue(n, show(port)+" is not a port", "write a number from 1 to 65535")
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

func validHost(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		return !address.IsUnspecified() && !address.IsMulticast()
	}
	canonical, ok := match.Host(host)
	return ok && canonical == strings.ToLower(host)
}

// https is an https:// URL of a host; more may follow it where path is true.
func (r *reader) https(n *yaml.Node, text string, path bool, hint string) bool {
	u, err := url.Parse(text)
	switch {
	case strings.Contains(text, "@"): // not shown: it may be a secret
		r.refuseValue(n, "the address has a user or a password", hint)
	case strings.HasPrefix(text, "http://"):
		r.refuseValue(n, show(text)+" is not encrypted: anyone on the way could change it", hint)
	case err != nil || u.Scheme != "https" || u.Opaque != "" || u.User != nil || u.Fragment != "" ||
		strings.ContainsAny(text, "#\\ ") || !validHost(u.Hostname()) || !validPort(u):
		r.refuseValue(n, show(text)+" is not an https:// address", hint)
	case !path && (u.Path != "" || u.RawQuery != "" || u.ForceQuery):
		r.refuseValue(n, show(text)+" has more than a host and a port", hint)
	default:
		return true
	}
	return false
}

func validPort(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}
