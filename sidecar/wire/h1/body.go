package h1

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// requestBody is the body of a request as the handler reads it. Reading may go on
// in another goroutine when the handler has returned; it then finds the body
// ended, and never a byte of what follows it.
type requestBody struct {
	x       *exchange
	awaited bool // the client waits for 100 before it sends the body

	mu     sync.Mutex // held while reading
	left   int64      // bytes; negative: chunked
	chunks chunked
	err    error // sticky; io.EOF where the body was read to its end
	closed bool
}

// open gives the request its body. Size is as framing.size has it.
func (x *exchange) open(size int64) {
	r := &x.request
	b := &x.body
	b.x = x
	if size == 0 || size == -2 {
		r.Body, b.err = http.NoBody, io.EOF
		return
	}
	r.Body, r.ContentLength, b.left = b, size, size
	if size < 0 {
		x.coding[0] = "chunked"
		r.TransferEncoding = x.coding[:1:1]
	}
}

// Read reads on. What is wrong with the framing is a wire.Flaw.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.awaited {
		b.awaited = false
		b.x.sendContinue()
	}
	n, err := b.take(p)
	if err != nil {
		b.err = err
		if err == io.EOF {
			b.x.c.bodyEnded()
		}
	}
	return n, err
}

func (b *requestBody) take(p []byte) (int, error) {
	in := &b.x.c.in
	if b.left < 0 {
		n, err := b.chunks.read(in, p)
		if err == io.EOF && b.chunks.trailer != nil {
			b.x.request.Trailer = merge(b.x.request.Trailer, b.chunks.trailer)
		}
		return n, err
	}
	n, err := in.read(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); b.left == 0 {
		return n, io.EOF
	}
	return n, cut(err)
}

// merge adds the trailers that came to those that were announced, which may be
// known to copies of the request.
func merge(to, came http.Header) http.Header {
	if to == nil {
		return came
	}
	for name, values := range came {
		to[name] = values
	}
	return to
}

// Buffered is how many bytes of a body of known length can be read without
// waiting, so that a transport may send a short one with its head.
func (b *requestBody) Buffered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.err != nil || b.left < 0 || b.awaited {
		return 0
	}
	return int(min(int64(len(b.x.c.in.buffered())), b.left))
}

// Close ends the reading; what is left is the server's to drain.
func (b *requestBody) Close() error {
	b.lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// lock interrupts the read that is under way, if one is.
func (b *requestBody) lock() {
	if b.mu.TryLock() {
		return
	}
	b.x.c.in.until.cut()
	b.mu.Lock()
	if b.err == nil {
		b.err = errInterrupted
	}
}

// end takes the body from the handler, and reports whether all of it was read.
func (b *requestBody) end() (whole bool) {
	if b.x == nil { // the head had a flaw
		return false
	}
	b.Close()
	return b.err == io.EOF
}

// whole reports whether the body was read to its end, or there is none.
func (b *requestBody) whole() bool {
	if !b.mu.TryLock() {
		return false // it is being read
	}
	defer b.mu.Unlock()
	return b.err == io.EOF
}

// unread reports whether so much of the body is left that the connection ends
// with the answer: the client may still wait to send it, or send too much.
func (b *requestBody) unread() bool {
	if b.x == nil {
		return true
	}
	if !b.mu.TryLock() {
		return false // it is being read
	}
	defer b.mu.Unlock()
	return b.err != io.EOF && (b.err != nil || b.awaited || b.left > maxDrain)
}

// drain reads the little that the handler left, so that the next request can be
// read. It reports whether it found the end.
func (b *requestBody) drain() bool {
	if b.err != nil || b.awaited {
		return b.err == io.EOF
	}
	in := &b.x.c.in
	_ = in.until.at(time.Now().Add(drainTime))
	var scratch [bufferSize]byte
	for n := 0; n < maxDrain; {
		got, err := b.take(scratch[:])
		if n += got; err != nil {
			return err == io.EOF
		}
	}
	return false
}
