package h2

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

func TestInbox_TellsOnlyOfAWholeMessageThatItIsThere(t *testing.T) {
	var b inbox
	b.init()
	if kept, err := b.fill(bufio.NewReader(strings.NewReader("body")), 4, true); !kept || err != nil {
		t.Fatal(kept, err)
	}
	if n := b.waiting(); n != 0 {
		t.Errorf("%d before the end", n)
	}
	b.finish(io.EOF, nil)
	if n := b.waiting(); n != 4 {
		t.Errorf("%d of 4", n)
	}
	b.shutdown()
	if n := b.waiting(); n != 0 {
		t.Errorf("%d when nobody reads any more", n)
	}
}

func TestConn_BodyFollowsOnlyWhereAllOfAFrameHasCome(t *testing.T) {
	for frames, want := range map[string]bool{
		"":                                             false,
		"\x00\x00\x02\x00\x01\x00\x00\x00":             false,
		"\x00\x00\x02\x00\x01\x00\x00\x00\x03o":        false,
		"\x00\x00\x02\x00\x01\x00\x00\x00\x03ok":       true,
		"\x00\x00\x02\x00\x00\x80\x00\x00\x03ok":       true, // a reserved bit
		"\x00\x00\x02\x00\x01\x00\x00\x00\x05ok":       false,
		"\x00\x00\x02\x00\x09\x00\x00\x00\x03\x01\x00": false, // padding may be all of it
		"\x00\x00\x00\x00\x01\x00\x00\x00\x03ok":       false,
		"\x00\x00\x02\x01\x05\x00\x00\x00\x03ok":       false,
	} {
		c := &conn{br: bufio.NewReader(strings.NewReader(frames))}
		c.br.Peek(1)
		if got := c.bodyFollows(3); got != want {
			t.Errorf("%q: %v", frames, got)
		}
	}
}
