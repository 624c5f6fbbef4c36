package forward

import (
	"bytes"
	"slices"
	"testing"
)

func TestFrames_AreFollowedHoweverTheyAreCut(t *testing.T) {
	payload := func(n int) []byte { return bytes.Repeat([]byte{0x88}, n) } // looks like heads
	stream := [][]byte{
		append([]byte{0x81, 5}, payload(5)...),
		append([]byte{0x02, 0x80 | 3, 1, 2, 3, 4}, payload(3)...),
		append([]byte{0x80, 126, 1, 0}, payload(256)...),
		append([]byte{0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0, 9, 9, 9, 9}, payload(1<<16)...),
		{0x89, 0},
		{0x8a, 0x80, 1, 2, 3, 4},
	}
	var want []int
	for _, frame := range stream {
		want = append(want, len(frame))
	}
	whole := slices.Concat(stream...)
	for _, size := range []int{1, 2, 3, 7, 1000, len(whole)} {
		var f frames
		var got []int
		since := 0
		for at := 0; at < len(whole); {
			for piece := whole[at:min(at+size, len(whole))]; len(piece) > 0; {
				n := f.next(piece)
				piece, at, since = piece[n:], at+n, since+n
				if f.between() {
					got, since = append(got, since), 0
				}
			}
		}
		if !slices.Equal(got, want) || f.last || f.lost {
			t.Errorf("by %d bytes: frames of %v, want %v", size, got, want)
		}
		if f.all(closeFrame(1000, nil)); !f.last || !f.between() {
			t.Errorf("by %d bytes: the close frame was not seen", size)
		}
	}
}

// CVE-2020-27813: a length that overflows ends the following, and nothing else.
func TestFrames_LengthThatNoFrameHas(t *testing.T) {
	var f frames
	f.all([]byte{0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3})
	f.all([]byte{0x81, 1, 1})
	if !f.lost || f.between() {
		t.Errorf("%+v", f)
	}
}

func TestCloseFrame_IsReadBackAsOne(t *testing.T) {
	key := [4]byte{1, 2, 3, 4}
	if got := closeFrame(1008, nil); !bytes.Equal(got, []byte{0x88, 2, 0x03, 0xf0}) {
		t.Errorf("% x", got)
	}
	if got := closeFrame(1008, &key); !bytes.Equal(got, []byte{0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xf0 ^ 2}) {
		t.Errorf("% x", got)
	}
}

// However a stream is cut, its frames are where they are.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x81, 1, 2, 0x88, 0x82, 1, 2, 3, 4, 5, 6}, 3)
	f.Add([]byte{0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0}, 1)
	f.Add([]byte{0x82, 0xfe, 0, 2, 1, 1, 1, 1, 9, 9, 9}, 2)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		size = max(1, size%64)
		var whole, cut frames
		whole.all(stream)
		for p := stream; len(p) > 0; {
			n := min(size, len(p))
			cut.all(p[:n])
			p = p[n:]
		}
		if whole != cut {
			t.Errorf("%+v\n%+v", whole, cut)
		}
	})
}
