package h2

import (
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// watched tells of each read before it happens.
type watched struct {
	net.Conn
	reads func(p []byte) (int, error)
}

func (w *watched) Read(p []byte) (int, error) { return w.reads(p) }

func TestConn_HoldsNoReaderWhileItWaitsWithoutStreams(t *testing.T) {
	text := "12"
	nc := &watched{}
	c := newConn(nc, Limits{}.withDefaults(false), Times{}.withDefaults(false), false)
	c.keeps = true
	held := false
	nc.reads = func(p []byte) (int, error) {
		if held != (c.br != nil) {
			t.Errorf("a reader is held: %t, want %t", c.br != nil, held)
		}
		if text == "" {
			return 0, io.EOF
		}
		n := copy(p, text)
		text = text[n:]
		return n, nil
	}
	if err := c.await(); err != nil {
		t.Fatal(err)
	}
	held = true // the frame has begun
	if p, err := c.br.Peek(2); string(p) != "12" {
		t.Fatalf("%q, %v", p, err)
	}
	_, _ = c.br.Discard(2)
	c.streams[1] = &stream{}
	if err := c.await(); err != io.EOF {
		t.Error(err)
	}
	delete(c.streams, 1)
	held = false
	if err := c.await(); err != io.EOF || c.br == nil {
		t.Error(err)
	}
}

func TestWriter_HoldsNoBufferWithoutStreams(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	c := newConn(ours, Limits{}.withDefaults(false), Times{}.withDefaults(false), false)
	for _, busy := range []bool{true, false} {
		delete(c.streams, 1)
		if busy {
			c.streams[1] = &stream{}
		}
		for range 2 {
			c.mu.Lock()
			c.out.rst(1, http2.ErrCodeNo)
			c.flush()
		}
		if holds := c.out.pending != nil || c.out.spare != nil; holds != busy {
			t.Errorf("with streams: %t, and it holds a buffer: %t", busy, holds)
		}
	}
}
