package h2

import (
	"encoding/binary"
	"io"
	"runtime"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/sidecar/wire"
)

const (
	writerRounds = 8        // writes that one goroutine makes for the others before it hands over
	keptBuffer   = 96 << 10 // the largest buffer that is kept for the next write
	maxPending   = 256 << 10

	writeBufferSize = 4 << 10
)

// writeBuffers are those that connections at rest hold none of.
var writeBuffers = sync.Pool{New: func() any { return new([writeBufferSize]byte) }}

func putWriteBuffer(b []byte) {
	if cap(b) == writeBufferSize { // it has not grown
		writeBuffers.Put((*[writeBufferSize]byte)(b[:writeBufferSize]))
	}
}

// writer gathers frames of all streams, and writes them together. Everything in
// it is guarded by conn.mu.
//
// There is no goroutine that writes. Whoever appended frames calls [conn.flush]:
// if somebody is writing already, that one will write these too; if not, the
// caller writes until nothing is left. Before that it yields once when several
// streams are open, since their handlers are likely to have something as well.
type writer struct {
	c       *conn
	to      io.Writer
	enc     *hpack.Encoder
	pending []byte
	spare   []byte // the buffer before, empty
	busy    bool   // somebody writes, or has been asked to
	since   int64  // tick at which the write under way began
	broken  bool   // nothing is written any more
	idle    sync.Cond
	waiters []*stream // for room, or for the connection's window

	handed uint64 // bytes ever given to the connection
}

func (w *writer) init(c *conn) {
	w.c, w.to = c, wire.WriterOf(c.nc)
	w.enc = hpack.NewEncoder(w)
	w.idle.L = &c.mu
}

// Write appends what the encoder makes of a field.
func (w *writer) Write(p []byte) (int, error) {
	w.pending = append(w.pending, p...)
	return len(p), nil
}

// flush writes what is pending. mu is held, and let go.
func (c *conn) flush() { c.flushWith(len(c.streams) > 1) }

// flushWith is flush, which yields if others are likely to have something to send.
func (c *conn) flushWith(others bool) {
	w := &c.out
	if w.busy || w.broken || len(w.pending) == 0 {
		c.mu.Unlock()
		return
	}
	w.busy = true
	if others {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	if w.rounds(writerRounds) {
		c.mu.Unlock()
		return
	}
	c.under.Add(1)
	c.mu.Unlock()
	go c.writeOn()
}

// flushApart is flush for the reader, which must go on reading whatever happens:
// if both ends' readers waited for the other to read, they would for ever. mu is
// held, and stays so.
func (c *conn) flushApart() {
	w := &c.out
	if w.busy || w.broken || len(w.pending) == 0 {
		return
	}
	w.busy = true
	c.under.Add(1)
	go c.writeOn()
}

func (c *conn) writeOn() {
	defer c.under.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.rounds(-1)
}

// rounds makes at most so many writes, and reports whether nothing is left. mu is
// held, and let go meanwhile.
func (w *writer) rounds(most int) (done bool) {
	c := w.c
	for ; len(w.pending) > 0 && !w.broken; most-- {
		if most == 0 {
			return false
		}
		batch := w.pending
		w.pending, w.spare = w.spare, nil
		w.handed += uint64(len(batch))
		w.since = c.tick.Load()
		c.mu.Unlock()
		_, err := w.to.Write(batch)
		c.mu.Lock()
		if cap(batch) <= keptBuffer {
			w.spare = batch[:0]
		}
		if err != nil {
			c.kill(err)
			break
		}
		c.wakeSenders()
	}
	w.busy = false
	w.rest()
	w.idle.Broadcast()
	return true
}

// finish writes what is pending, or waits until it is written. mu is held, and
// let go meanwhile.
func (w *writer) finish() {
	for w.busy {
		w.idle.Wait()
	}
	w.busy = true
	w.rounds(-1)
}

// rest lets go of the buffers of a connection that has no streams: of those that
// did not grow at once, since to get one again costs nothing.
func (w *writer) rest() {
	if len(w.c.streams) > 0 || len(w.pending) > 0 {
		return
	}
	for _, b := range []*[]byte{&w.pending, &w.spare} {
		if cap(*b) <= writeBufferSize {
			putWriteBuffer(*b)
			*b = nil
		}
	}
}

// slim lets go of all that a quiet connection does not need.
func (w *writer) slim() {
	if len(w.c.streams) == 0 && !w.busy && len(w.pending) == 0 {
		w.pending, w.spare = nil, nil
	}
}

// drained waits until nobody writes. mu is held, and let go meanwhile.
func (w *writer) drained() {
	for w.busy {
		w.idle.Wait()
	}
}

// position is where the next byte goes, counted from the first ever.
func (w *writer) position() uint64 { return w.handed + uint64(len(w.pending)) }

// full reports whether senders have to wait.
func (w *writer) full() bool { return len(w.pending) >= w.c.limits.Pending }

func (w *writer) frame(kind http2.FrameType, flags http2.Flags, id uint32, length int) {
	if w.pending == nil {
		w.pending = writeBuffers.Get().(*[writeBufferSize]byte)[:0]
	}
	w.pending = append(w.pending, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	// Data and heads wait for room. The rest is answers to what the peer sent: one
	// that has us answer and reads nothing is at fault.
	if len(w.pending) > maxPending && !w.broken {
		w.c.kill(connError(http2.ErrCodeEnhanceYourCalm, "too many frames wait to be read"))
	}
}

func (w *writer) uint32(v uint32) { w.pending = binary.BigEndian.AppendUint32(w.pending, v) }

func (w *writer) settings(settings []http2.Setting) {
	w.frame(http2.FrameSettings, 0, 0, 6*len(settings))
	for _, s := range settings {
		w.pending = binary.BigEndian.AppendUint16(w.pending, uint16(s.ID))
		w.uint32(s.Val)
	}
}

func (w *writer) settingsAck() { w.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, 0) }

func (w *writer) ping(ack bool, payload [8]byte) {
	var flags http2.Flags
	if ack {
		flags = http2.FlagPingAck
	}
	w.frame(http2.FramePing, flags, 0, 8)
	w.pending = append(w.pending, payload[:]...)
}

func (w *writer) windowUpdate(id, n uint32) {
	w.frame(http2.FrameWindowUpdate, 0, id, 4)
	w.uint32(n)
}

func (w *writer) rst(id uint32, code http2.ErrCode) {
	w.frame(http2.FrameRSTStream, 0, id, 4)
	w.uint32(uint32(code))
}

func (w *writer) goAway(last uint32, code http2.ErrCode, reason string) {
	w.frame(http2.FrameGoAway, 0, 0, 8+len(reason))
	w.uint32(last)
	w.uint32(uint32(code))
	w.pending = append(w.pending, reason...)
}

func (w *writer) data(id uint32, p []byte, end bool) {
	var flags http2.Flags
	if end {
		flags = http2.FlagDataEndStream
	}
	w.frame(http2.FrameData, flags, id, len(p))
	w.pending = append(w.pending, p...)
}

// headers appends a header block, in as many frames as it needs.
func (w *writer) headers(id uint32, fields []hpack.HeaderField, end bool) {
	var flags http2.Flags
	if end {
		flags = http2.FlagHeadersEndStream
	}
	start := len(w.pending)
	w.frame(http2.FrameHeaders, flags, id, 0)
	for i := range fields {
		_ = w.enc.WriteField(fields[i]) // to memory
	}
	length := len(w.pending) - start - 9
	if length > frameSize {
		w.split(start, id)
		return
	}
	p := w.pending[start:]
	p[0], p[1], p[2] = byte(length>>16), byte(length>>8), byte(length)
	p[4] |= byte(http2.FlagHeadersEndHeaders)
}

// split cuts the block behind the frame header at start into frames.
func (w *writer) split(start int, id uint32) {
	block := append([]byte(nil), w.pending[start+9:]...)
	kind, flags := http2.FrameHeaders, http2.Flags(w.pending[start+4])
	w.pending = w.pending[:start]
	for len(block) > 0 {
		n := min(len(block), frameSize)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders // the same bit in both
		}
		w.frame(kind, flags, id, n)
		w.pending = append(w.pending, block[:n]...)
		kind, flags, block = http2.FrameContinuation, 0, block[n:]
	}
}
