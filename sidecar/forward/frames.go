package forward

import (
	"encoding/binary"
	"math"
)

// frames follows one direction of a WebSocket from frame to frame (RFC 6455
// section 5.2), so that a frame of ours can be put between two. It judges nothing
// that is sent, and keeps none of it. The zero frames are at the first frame.
type frames struct {
	head [14]byte
	n    int    // bytes of head that are there; all of it is
	want int    // how many it has
	left uint64 // of the payload
	last bool   // a close frame has passed, after which there is none
	lost bool   // a length that no frame has: where frames begin is not known any more
}

const (
	opClose = 8
	masked  = 0x80
)

// between reports whether a frame may be put in here.
func (f *frames) between() bool { return f.n == 0 && !f.lost }

// next takes p up to the end of the frame that it is in, or all of it.
func (f *frames) next(p []byte) (n int) {
	if f.lost {
		return len(p)
	}
	for n < len(p) && (f.n < 2 || f.n < f.want) {
		f.head[f.n] = p[n]
		f.n, n = f.n+1, n+1
		if f.n == 2 {
			f.want = headSize(f.head[1])
		}
		if f.n >= 2 && f.n == f.want {
			f.begin()
		}
	}
	if f.n < 2 || f.n < f.want {
		return n
	}
	if f.lost {
		return len(p)
	}
	took := min(uint64(len(p)-n), f.left)
	f.left -= took
	n += int(took)
	if f.left == 0 {
		f.last = f.last || f.head[0]&0x0f == opClose
		f.n, f.want = 0, 0
	}
	return n
}

// all takes all of p.
func (f *frames) all(p []byte) {
	for len(p) > 0 {
		p = p[f.next(p):]
	}
}

func headSize(second byte) int {
	size := 2
	switch second &^ masked {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if second&masked != 0 {
		size += 4
	}
	return size
}

// begin reads the length of the payload, once the head is there.
func (f *frames) begin() {
	switch length := f.head[1] &^ masked; length {
	case 126:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		f.left = binary.BigEndian.Uint64(f.head[2:])
		f.lost = f.left > math.MaxInt64
	default:
		f.left = uint64(length)
	}
}

// closeFrame is a close frame with a status (RFC 6455 section 5.5.1). One to the
// upstream is as from a client, and masked.
func closeFrame(status uint16, key *[4]byte) []byte {
	payload := binary.BigEndian.AppendUint16(nil, status)
	frame := []byte{0x80 | opClose, byte(len(payload))}
	if key == nil {
		return append(frame, payload...)
	}
	frame[1] |= masked
	frame = append(frame, key[:]...)
	for i, b := range payload {
		frame = append(frame, b^key[i%4])
	}
	return frame
}
