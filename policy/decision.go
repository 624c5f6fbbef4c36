// Package policy decides whether a request may pass. It is pure: a [Spec] is
// compiled to an immutable [Snapshot], and a Snapshot judges the facts of a
// request at a time that the caller passes in. It reads no file, clock or
// socket. The zero value of everything in it refuses.
package policy

import (
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Request is the facts of one request that a policy judges.
type Request struct {
	Caller      spiffeid.ID // proved by the connection; zero on the way out
	Method      string      // as received
	Path        string      // of the target as received, without the query
	Query       string      // as received, without the question mark
	Host        string      // lower case, without a port
	ContentType string      // the media type field as received
	Body        bool        // the request carries a body
	// Upgrade is the protocol that the request asks to switch to, in lower case; an
	// extended CONNECT of HTTP/2 (RFC 8441) is the GET that it stands for. Origin is
	// the field of that name as received: whose page a browser asks for.
	Upgrade, Origin string
	TCP             bool // a connection of bytes: besides it only Caller and Source are there
	// Source is the address that the connection comes from; on the way out it is
	// zero, as where nobody knows it.
	Source netip.Addr
}

// Decision is what the policy says of one request, and by which rule.
// The zero Decision denies.
type Decision struct {
	Verdict Verdict
	Reason  Reason
	// Path is the canonical path: what was matched, and exactly what is to be
	// forwarded. Empty where the target had no such form, and of tcp.
	Path string
	// Grant is the rule that decided: it allows, or is the nearest one whose
	// route and caller matched. Nil where there is none.
	Grant *Rule
	// Route is the template that matched, tcp for bytes, empty where none did.
	Route string
	// Shadow is the shadow grant that would have decided if it were none. Nil
	// where there is none. It changes nothing else, and is here to be counted.
	Shadow *Rule
}

// Rule is one compiled grant, or one compiled call: what the data path must know
// once it has decided. It is immutable.
type Rule struct {
	Name    string
	Pos     Pos
	Index   int // in file order, from 0: for tables made beside the snapshot
	Timeout time.Duration
	BodyMax int64    // bytes; -1: no bound
	Headers []string // declared besides the protocol's own, lower case
	Cookies []string
	Shadow  bool

	from       []Caller // of a grant
	to         []Route
	conditions conditions
}
