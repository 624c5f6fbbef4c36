package h2

import (
	"time"

	"golang.org/x/net/http2"
)

const (
	frameSize = 16 << 10      // the least that every peer takes (RFC 9113 section 4.2), and all that we take
	dataSize  = frameSize - 9 // so that a DATA frame and its header fill one TLS record
	maxWindow = 1<<31 - 1
	maxID     = 1<<31 - 1
	tableSize = 4096 // of HPACK, both ways

	protocolWindow  = 65535    // what each window is before anyone speaks
	assumedStreams  = 100      // what a server may be sent before it has said so
	streamWindow    = 64 << 10 // of ours, at first
	readBufferSize  = 4 << 10
	maxInformations = 8 // 1xx heads of one answer
	maxSettings     = 100
)

// Limits bound what a peer may make us hold. Each zero is its default.
type Limits struct {
	// Streams is how many streams the peer may have open, and how many handlers
	// may run: 100.
	Streams int
	// HeaderBytes is the size of one header list as RFC 9113 section 6.5.2 counts
	// it: 32 KiB for requests, 64 KiB for answers.
	HeaderBytes int
	// Fields is the number of fields in one header list: 100 in requests, 250 in
	// answers.
	Fields int
	// Continuations is the number of CONTINUATION frames of one header list: 16.
	Continuations int
	// StreamWindow is how many bytes of one body wait unread: 256 KiB. A stream begins
	// with 64 KiB if that is less, and gets more where its reader keeps up. A tunnel
	// stays with that.
	StreamWindow int
	// ConnWindow is how many bytes of all bodies wait unread: 1 MiB at a server,
	// 16 MiB at a client, whose own callers may be slow.
	ConnWindow int
	// Pending is how many bytes wait to be written before their senders do: 64 KiB.
	Pending int
	// Glitches is how many frames of no use a peer may send beyond those it earns
	// by useful ones and by time: five times Streams.
	Glitches int
}

func (l Limits) withDefaults(client bool) Limits {
	header, fields, window := 32<<10, 100, 1<<20
	if client {
		header, fields, window = 64<<10, 250, 16<<20
	}
	orDefault(&l.Streams, 100)
	orDefault(&l.HeaderBytes, header)
	orDefault(&l.Fields, fields)
	orDefault(&l.Continuations, 16)
	orDefault(&l.StreamWindow, 256<<10)
	orDefault(&l.ConnWindow, window)
	orDefault(&l.Pending, 64<<10)
	orDefault(&l.Glitches, 5*l.Streams)
	l.StreamWindow = min(l.StreamWindow, maxWindow)
	l.ConnWindow = min(max(l.ConnWindow, protocolWindow), maxWindow)
	return l
}

// Times bound how long things may take. Each zero is its default.
type Times struct {
	Headers     time.Duration // the preface, and any frame or header block once begun: 10 s
	Idle        time.Duration // a connection without streams: 60 s at a server, 30 s at a client
	Write       time.Duration // a write, or 16 KiB of one stream, without an end: 30 s
	SettingsAck time.Duration // until our settings are acknowledged: 10 s
	Ping        time.Duration // silence, with streams open, before we ask: 30 s
	PingTimeout time.Duration // until the answer to that: 15 s
}

func (t Times) withDefaults(client bool) Times {
	idle := 60 * time.Second
	if client {
		idle = 30 * time.Second
	}
	orDefault(&t.Headers, 10*time.Second)
	orDefault(&t.Idle, idle)
	orDefault(&t.Write, 30*time.Second)
	orDefault(&t.SettingsAck, 10*time.Second)
	orDefault(&t.Ping, 30*time.Second)
	orDefault(&t.PingTimeout, 15*time.Second)
	return t
}

// period is how often a connection is looked at: four times within its shortest limit.
func (t Times) period() time.Duration {
	least := min(t.Headers, t.Idle, t.Write, t.SettingsAck, t.Ping, t.PingTimeout)
	return max(least/4, time.Millisecond)
}

func orDefault[T int | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// firstWindow is what a stream may send us before we say more.
func (l *Limits) firstWindow() int { return min(l.StreamWindow, streamWindow) }

// settings are what we say first.
func (l Limits) settings(more ...http2.Setting) []http2.Setting {
	return append(more,
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(l.firstWindow())},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(l.HeaderBytes)})
}
