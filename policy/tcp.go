package policy

import (
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ProtoTCP is the ALPN name by which sidecars agree on bytes. A peer that is no
// sidecar names no protocol; one that names HTTP is refused by the handshake.
const ProtoTCP = "everyhop-tcp"

// tcpRoute is how a route of bytes is written.
const tcpRoute = "tcp"

// DecideTCP judges a connection of bytes to a tcp:// app as of now, as [Snapshot.Decide]
// judges a request: the first grant of the file that names the caller and has
// not ended decides. It allocates nothing where trace is nil.
func (s *Snapshot) DecideTCP(now time.Time, caller spiffeid.ID, source netip.Addr, trace *Trace) Decision {
	return s.Decide(now, &Request{Caller: caller, Source: source, TCP: true}, trace)
}

// Until is when what the grant allows now must be asked again, because the grant
// could be over: its end, or that of the hours in which it is open. Zero: never.
func (g *Rule) Until(now time.Time) time.Time {
	end := g.conditions.when.changes(now)
	if until := g.conditions.until; end.IsZero() || !until.IsZero() && until.Before(end) {
		return until
	}
	return end
}

// bytesOnly refuses what a grant of tcp cannot hold to: ignored, it would let
// more pass than it says. policy/file says it of a text, at each key.
func (c *compiler) bytesOnly(g *Grant) {
	for _, r := range g.To {
		if !r.TCP {
			continue
		}
		if len(g.To) > 1 {
			c.problem(r.Pos, "to: tcp stands beside another route", "give the other route a grant of its own")
		}
		if speaksHTTP(g) {
			c.problem(g.Pos, "grant "+g.Name+" of tcp has a condition that speaks of HTTP", "remove it: of tcp only bytes are seen")
		}
		return
	}
}

func speaksHTTP(g *Grant) bool {
	return g.User != nil || g.Where != nil || g.Host != nil || g.Query != nil || g.Headers != nil || g.Strict ||
		g.Cookies != nil || g.Body != nil || g.CORS != nil || g.Timeout != 0 || g.Upgrade != nil
}

// tcpCall files a call of bytes in its own index: that it is declared is the
// decision.
func (c *compiler) tcpCall(call *Call, rule *CallRule) {
	if len(call.Allow) > 0 || call.Timeout != 0 || call.Retry != nil || call.Upgrade != nil {
		c.problem(call.Pos, "call "+call.Name+" is tcp, and has a key that speaks of HTTP", "remove allow:, timeout:, retry: and upgrade:, or remove tcp:")
	}
	rule.to = []Route{{Pos: call.Pos, TCP: true}}
	rule.index.add(&rule.Rule, &rule.to[0], []string{localApp})
}
