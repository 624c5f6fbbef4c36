package h2

import "sync"

// Buffers for bodies that wait to be read, by size. Whoever has one owns it alone;
// what is smaller than the least is not worth keeping.
const (
	leastBuffer = 16 << 10
	mostBuffer  = 256 << 10
)

var bodyBuffers [3]sync.Pool // of 16, 64 and 256 KiB

func bufferClass(size int) (class, capacity int) {
	capacity = leastBuffer
	for size > capacity {
		class, capacity = class+1, capacity<<2
	}
	return class, capacity
}

// getBuffer is an empty buffer for so many bytes.
func getBuffer(size int) []byte {
	if size <= leastBuffer/4 || size > mostBuffer {
		return make([]byte, 0, size)
	}
	class, capacity := bufferClass(size)
	if b, ok := bodyBuffers[class].Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 0, capacity)
}

func putBuffer(b []byte) {
	if cap(b) < leastBuffer || cap(b) > mostBuffer {
		return
	}
	if class, capacity := bufferClass(cap(b)); capacity == cap(b) {
		b = b[:0]
		bodyBuffers[class].Put(&b)
	}
}
