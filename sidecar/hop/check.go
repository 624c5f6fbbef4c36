// Package hop is what both directions do alike with a request before and after
// it is judged: they check what no policy can make right, name whose fault a
// failure is, and record every request exactly once, whatever becomes of it.
package hop

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
	"github.com/everyhop/everyhop/sidecar/forward"
)

const (
	maxTarget = 16 << 10 // bytes of a request target
	maxFields = 100      // field lines of a request's header
)

// isSingleton reports whether a second field of that name means something else to
// each reader (RFC 9110 section 5.3).
func isSingleton(name string) bool {
	switch name {
	case "Authorization", "Content-Encoding", "Content-Length", "Content-Location", "Content-Range", "Content-Type",
		"Grpc-Timeout", "If-Modified-Since", "If-Range", "If-Unmodified-Since", "Origin", "Range", "Referer",
		"Traceparent", "User-Agent":
		return true
	}
	return false
}

// Check is the facts of the request that a policy judges, without its caller, or
// the reason why there are none. scheme is the connection's. The caller of a
// request with a flaw is refused whatever the policy says.
//
// What the wire refuses as malformed does not come here. Some of it is looked at
// again all the same, where that costs nothing: this is what is judged.
func Check(r *http.Request, scheme string) (facts policy.Request, flaw policy.Reason, ok bool) {
	if r.ProtoMajor == 1 && r.ProtoMinor != 1 && scheme != "http" { // old apps speak it to us, but no peer
		return policy.Request{}, policy.VersionRefused, false
	}
	for _, check := range []func(*http.Request) policy.Reason{checkMethod, checkFields, checkBody} {
		if flaw = check(r); flaw != policy.Allowed {
			return policy.Request{}, flaw, false
		}
	}
	host, flaw := checkHost(r)
	if flaw != policy.Allowed {
		return policy.Request{}, flaw, false
	}
	path, query, flaw := checkTarget(r, scheme)
	if flaw != policy.Allowed {
		return policy.Request{}, flaw, false
	}
	facts = policy.Request{
		Method:      r.Method,
		Path:        path,
		Query:       query,
		Host:        host,
		ContentType: first(r.Header["Content-Type"]),
		Body:        r.ContentLength != 0,
	}
	if flaw = checkUpgrade(r, &facts); flaw != policy.Allowed {
		return policy.Request{}, flaw, false
	}
	return facts, policy.Allowed, true
}

// checkUpgrade adds what the request asks to switch to, if it is something that a
// grant could open.
func checkUpgrade(r *http.Request, facts *policy.Request) policy.Reason {
	protocol, err := forward.Upgrade(r)
	switch {
	case err == forward.ErrVersion:
		return policy.UpgradeVersion
	case err != nil:
		return policy.UpgradeMalformed
	case protocol == "" && r.Method == http.MethodConnect:
		return policy.MethodRefused
	case protocol != "": // over HTTP/2 its CONNECT stands for a GET, and its body for the tunnel
		facts.Method, facts.Body = http.MethodGet, false
		facts.Upgrade, facts.Origin = protocol, r.Header.Get("Origin")
	}
	return policy.Allowed
}

func checkMethod(r *http.Request) policy.Reason {
	_, extended := r.Header[":protocol"]
	if r.Method == http.MethodTrace || r.Method == http.MethodConnect && !(extended && r.ProtoMajor == 2) {
		return policy.MethodRefused
	}
	return policy.Allowed
}

func checkFields(r *http.Request) policy.Reason {
	lines := 0
	for name, values := range r.Header {
		if lines += len(values); lines > maxFields {
			return policy.HeadersTooLarge
		}
		// CGI and its heirs read _ as -: such a name has a twin we would not see.
		if strings.Contains(name, "_") {
			return policy.HeaderMalformed
		}
		if len(values) > 1 && isSingleton(name) {
			return policy.HeaderMalformed
		}
		for _, value := range values {
			if isPadded(value) { // HTTP/2 carries them: RFC 9113 section 8.2.1
				return policy.HeaderMalformed
			}
		}
	}
	if _, err := forward.GRPCTimeout(r); err != nil {
		return policy.HeaderMalformed
	}
	if _, err := forward.MaxForwards(r); err != nil {
		return policy.HeaderMalformed
	}
	if forward.BadConnection(r.Header) {
		return policy.HeaderMalformed
	}
	return policy.Allowed
}

// isPadded reports whether a value begins or ends with white space.
func isPadded(value string) bool {
	if value == "" {
		return false
	}
	first, last := value[0], value[len(value)-1]
	return first == ' ' || first == '\t' || last == ' ' || last == '\t'
}

// checkBody sees what is left of a body that is framed in two ways.
func checkBody(r *http.Request) policy.Reason {
	if _, left := r.Header["Transfer-Encoding"]; left {
		return policy.BodyMalformed
	}
	values, named := r.Header["Content-Length"]
	if !named {
		return policy.Allowed
	}
	length, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil || len(r.TransferEncoding) > 0 || int64(length) != r.ContentLength {
		return policy.BodyMalformed
	}
	return policy.Allowed
}

func checkHost(r *http.Request) (string, policy.Reason) {
	host, ok := match.Host(r.Host)
	if !ok {
		return "", policy.HostMalformed
	}
	// HTTP/2 keeps a host field beside :authority.
	if fields := r.Header["Host"]; len(fields) > 1 {
		return "", policy.HostMalformed
	} else if len(fields) == 1 && !strings.EqualFold(fields[0], r.Host) {
		return "", policy.HostMismatch
	}
	return host, policy.Allowed
}

// checkTarget splits the target as received. Its form is that of RFC 9112 section
// 3.2; the path is the policy's to judge.
func checkTarget(r *http.Request, scheme string) (path, query string, flaw policy.Reason) {
	target := r.RequestURI
	if len(target) > maxTarget {
		return "", "", policy.TargetTooLong
	}
	if r.ProtoMajor == 2 && r.URL.Scheme != "" && r.URL.Scheme != scheme {
		return "", "", policy.SchemeMismatch
	}
	if r.ProtoMajor == 1 && !strings.HasPrefix(target, "/") && target != "*" {
		rest, ok := cutAuthority(target, scheme, r.Host)
		if !ok {
			return "", "", policy.TargetForm
		}
		target = rest
	}
	path, query, _ = strings.Cut(target, "?")
	switch {
	case strings.HasPrefix(path, "/"):
	case target == "*" && r.Method == http.MethodOptions:
	default:
		return "", "", policy.TargetForm
	}
	return path, query, policy.Allowed
}

// cutAuthority is what follows the authority of an absolute-form target, if its
// scheme and authority are those of the connection and the host.
func cutAuthority(target, scheme, host string) (rest string, ok bool) {
	named, rest, ok := strings.Cut(target, "://")
	if !ok || !strings.EqualFold(named, scheme) {
		return "", false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if !strings.EqualFold(rest[:end], host) {
		return "", false
	}
	if rest = rest[end:]; !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return rest, true
}

// first is the first of the values, empty if there is none.
func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
