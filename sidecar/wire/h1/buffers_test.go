package h1

import (
	"io"
	"net"
	"testing"
)

// watched tells of each read before it happens.
type watched struct {
	net.Conn
	reads func(p []byte) (int, error)
}

func (w *watched) Read(p []byte) (int, error) { return w.reads(p) }

func TestSource_HoldsNoBufferWhileItWaits(t *testing.T) {
	text := "GET"
	var s source
	conn := &watched{reads: func(p []byte) (int, error) {
		if s.buf != nil && s.w == 0 {
			t.Error("a connection at rest holds a buffer")
		}
		if text == "" {
			return 0, io.EOF
		}
		n := copy(p, text)
		text = text[n:]
		return n, nil
	}}
	s.conn = conn
	s.buf = make([]byte, bufferSize)
	if err := s.first(); err != nil {
		t.Fatal(err)
	}
	if err := s.fill(bufferSize); err != nil || string(s.buffered()) != "GET" {
		t.Fatalf("%q, %v", s.buffered(), err)
	}
	s.r = s.w
	if err := s.first(); err != io.EOF || s.buf != nil {
		t.Error(err)
	}
}

// A buffer that grew, or that is a part of another, is not the next connection's.
func TestBuffers_AreOfOneSize(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 1), make([]byte, bufferSize, 2*bufferSize), make([]byte, 2*bufferSize)} {
		putBuffer(b)
	}
	for range 8 {
		if b := getBuffer(); len(b) != bufferSize || cap(b) != bufferSize {
			t.Fatal(len(b), cap(b))
		}
	}
}
