// Package h1 is HTTP/1.1 on the wire (RFC 9112), read strictly and written in as
// few calls as can be: a [Server] turns a connection into calls of an
// [http.Handler], a [Transport] is an [http.RoundTripper] to one upstream.
//
// It promises that a message which two readers could take for two things is
// refused with a [wire.Flaw], whoever sent it: bare line ends, folded lines, two
// framings, lengths that are not plain numbers. Nothing is repaired. Target and
// Host are shown as received, and a target goes out byte for byte as it was
// given. A body that was cut never looks like one that ended.
//
// What crosses the seam (requests, answers, header maps, bodies) is made anew for
// each message and never reused. What a connection keeps is its buffers, and it
// alone reads them. The zero Server refuses everything, and the zero Transport
// reaches nothing.
package h1

import "time"

const (
	bufferSize = 4 << 10 // of a connection, each way; the least that is kept
	directSize = bufferSize / 2

	defaultHead    = 64 << 10 // bytes of a head, the first line included
	defaultTarget  = 16 << 10 // bytes
	defaultFields  = 100      // field lines of a request, or of its trailers
	defaultAnswer  = 256      // field lines of an answer
	maxMethod      = 32       // bytes
	maxTrailer     = 16 << 10 // bytes of a trailer section
	maxTrailers    = 64       // field lines of a trailer section
	maxChunkLine   = 2 << 10  // bytes
	maxExtensions  = 32 << 10 // bytes of all chunk extensions of a body
	maxInformation = 16       // answers of 1xx before the one that counts
	maxDrain       = 256 << 10

	defaultHeadTime = 10 * time.Second
	defaultIdle     = 60 * time.Second
	defaultStall    = 30 * time.Second
	drainTime       = time.Second
	lingerTime      = 500 * time.Millisecond
	patience        = 50 * time.Millisecond // before anyone watches over what is under way
)
