package h1

import "sync"

// buffers are those of connections at rest: there may be thousands, which hold
// none. What is in one is no longer looked at by anybody.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func getBuffer() []byte { return buffers.Get().(*[bufferSize]byte)[:] }

// putBuffer takes a buffer that nobody else has, of any size.
func putBuffer(b []byte) {
	if len(b) == bufferSize && cap(b) == bufferSize {
		buffers.Put((*[bufferSize]byte)(b))
	}
}
