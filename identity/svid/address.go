package svid

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
)

const (
	schemeUnix = "unix"
	schemeTCP  = "tcp"
	schemeDir  = "dir"
)

const tryAddress = "try unix:///run/spire/sockets/agent.sock, or dir:/path with svid.pem, key.pem and bundle.pem"

// parseIdentity is how to follow the source that text names: an endpoint of the
// Workload API (SPIFFE Workload Endpoint section 4), or a directory.
func parseIdentity(text string) (follow, error) {
	if text == "" {
		return nil, errors.New("no source is named (set --identity or SPIFFE_ENDPOINT_SOCKET; " + tryAddress + ")")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("it is no URI (%s)", tryAddress)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("it may have no user, query or fragment (%s)", tryAddress)
	}
	switch u.Scheme {
	case schemeUnix:
		return parseUnix(u)
	case schemeTCP:
		return parseTCP(u)
	case schemeDir:
		return parseDir(text)
	}
	return nil, fmt.Errorf("it begins with neither unix:// nor dir: nor tcp:// (%s)", tryAddress)
}

func parseUnix(u *url.URL) (follow, error) {
	if u.Opaque != "" || u.Host != "" || !filepath.IsAbs(u.Path) {
		return nil, fmt.Errorf("a socket is unix:// and an absolute path, so three slashes (%s)", tryAddress)
	}
	if err := checkDirectories(u.Path); err != nil {
		return nil, err
	}
	return (&endpoint{network: schemeUnix, address: u.Path}).follow, nil
}

func parseTCP(u *url.URL) (follow, error) {
	at, err := netip.ParseAddrPort(u.Host)
	if err != nil || u.Path != "" {
		return nil, errors.New("a TCP endpoint is tcp://IP:port and nothing more (try tcp://127.0.0.1:8081)")
	}
	return (&endpoint{network: schemeTCP, address: net.JoinHostPort(at.Addr().String(), fmt.Sprint(at.Port()))}).follow, nil
}

func parseDir(text string) (follow, error) {
	// dir:///path is what people write who have just written unix:///path.
	path := strings.TrimPrefix(strings.TrimPrefix(text, schemeDir+":"), "//")
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("a directory is dir: and an absolute path (%s)", tryAddress)
	}
	return (&directory{path: filepath.Clean(path)}).follow, nil
}
