// Package h2 speaks HTTP/2 (RFC 9113), a server's side and a client's, strictly
// and with few system calls. A [Server] serves a connection it is handed to an
// [net/http.Handler]; a [Transport] is a [net/http.RoundTripper] to one upstream.
//
// It promises that a message that RFC 9113 calls malformed reaches no handler and
// no caller; that every queue, table, buffer and number of goroutines has a bound
// that a peer cannot move; and that nothing which was handed out is ever used for
// another request. Frames are read with [golang.org/x/net/http2.Framer]; header
// blocks are decoded here, and frames of all streams leave in common writes, made
// by whoever has something to send.
//
// A zero [Config] serves nothing, and a zero [Transport] reaches nothing.
package h2
