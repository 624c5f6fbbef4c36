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
	if kept, err := b.fill(bufio.NewReader(strings.NewReader("body")), 4); !kept || err != nil {
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
