// Package wire is the seam between HTTP on connections and everyone above it:
// connections go in, and an [http.Handler] or [http.RoundTripper] comes out. What
// is wrong with a message's bytes has a name here, [Flaw], and the connection that
// a request came on can be asked for, [ConnOf].
//
// The engines are below: h1 and h2 speak the protocols, serve puts them on
// listeners and upstreams, and std does the same with net/http, to be compared
// with. A handler served by any of them may rely on this: RequestURI is the target
// as received; Host is the Host field or :authority as received; URL.Scheme is the
// scheme as received, empty where the message named none; TLS is always nil, for
// who the client is, is read from [ConnOf].
package wire

import "errors"

// ErrOtherProtocol is what a Dial that serves one protocol says when the upstream
// chose the other. The request has not begun: nothing of it was sent, and its body
// was neither read nor closed.
var ErrOtherProtocol = errors.New("the upstream chose the other version of HTTP")
