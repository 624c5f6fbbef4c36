// Package serve puts the engines of HTTP on listeners and upstreams: a [Server]
// takes connections and gives each to the one whose protocol it speaks, and a
// [Transport] finds out what an upstream speaks. What TLS agreed on decides, never
// the first bytes: a connection that agreed on one protocol and speaks the other
// is closed.
//
// A zero ServerConfig serves nothing, and a zero TransportConfig reaches nothing.
package serve

import "crypto/tls"

// protocol is what is spoken on a connection. The zero protocol is none of ours.
type protocol uint8

const (
	unknown protocol = iota
	http1
	http2
)

// agreed is what a handshake agreed on: RFC 7301. A peer that named no protocol
// means HTTP/1.1; whether that may be is for the configuration of TLS to say,
// which refuses the handshake where not.
func agreed(c *tls.Conn) protocol {
	state := c.ConnectionState()
	switch {
	case !state.HandshakeComplete:
		return unknown
	case state.NegotiatedProtocol == "h2":
		return http2
	case state.NegotiatedProtocol == "http/1.1", state.NegotiatedProtocol == "":
		return http1
	}
	return unknown
}
