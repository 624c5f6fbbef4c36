package h2

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/sidecar/wire"
)

func fuzzConn(connect bool) *serverConn {
	s := NewServer(Config{ExtendedConnect: connect})
	c := &serverConn{conn: newConn(nil, s.config.Limits, s.config.Times, false), server: s, config: &s.config}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// FuzzHeaders: of any header block, what we take for a request is one that x/net
// decodes to the same fields, and nothing in it can be read in two ways.
func FuzzHeaders(f *testing.F) {
	for _, fields := range [][]string{
		{":method", "GET", ":scheme", "https", ":authority", "h.test", ":path", "/a?b", "cookie", "a=1", "cookie", "b=2"},
		{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "h.test", ":path", "/ws"},
		{":method", "POST", ":scheme", "http", ":path", "/", "host", "h.test", "content-length", "12", "te", "trailers"},
	} {
		f.Add(encoded(fields...))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		c := fuzzConn(true)
		c.dec.begin()
		tooLong, err := c.dec.write(block)
		if tooLong || err != nil || c.dec.end() != nil {
			return
		}
		total := 0
		for _, field := range c.dec.fields {
			total += int(field.Size())
		}
		if total > c.limits.HeaderBytes || len(c.dec.fields) > c.limits.Fields {
			t.Errorf("%d bytes in %d fields are kept", total, len(c.dec.fields))
		}
		s := c.newRequest(1, false)
		defer s.incoming.cancel(nil)
		if s.incoming.flaw != wire.FlawNone {
			return
		}
		r := s.incoming.request
		if r.Method == "" || r.Host == "" || strings.ContainsAny(r.RequestURI, " \r\n\t#") || strings.ContainsAny(r.Host, "@/ ") {
			t.Errorf("%q %q %q", r.Method, r.RequestURI, r.Host)
		}
		if r.Method != http.MethodConnect && !strings.HasPrefix(r.RequestURI, "/") && r.RequestURI != "*" {
			t.Errorf("%q", r.RequestURI)
		}
		var frames bytes.Buffer
		fr := http2.NewFramer(&frames, &frames)
		fr.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
		fr.AllowIllegalWrites = true
		if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}) != nil {
			return
		}
		frame, err := fr.ReadFrame()
		meta, is := frame.(*http2.MetaHeadersFrame)
		if err != nil || !is {
			t.Fatalf("x/net does not read it: %v", err)
		}
		if r.Method != meta.PseudoValue("method") || r.RequestURI != meta.PseudoValue("path") && r.Method != http.MethodConnect {
			t.Errorf("%s %s, x/net reads %v", r.Method, r.RequestURI, meta.Fields)
		}
	})
}

func encoded(fields ...string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

func TestNames_SpelledBothWays(t *testing.T) {
	for key, want := range map[string]string{
		"Content-Type": "content-type", "X-Own": "x-own", "x-own": "x-own", "": "", "a b": "", "A\n": "", "\u212A": "", "Å": "", ":path": "",
	} {
		if got := lowerName(key); got != want {
			t.Errorf("%q is spelled %q", key, got)
		}
	}
	c := fuzzConn(false)
	for i := range 200 { // the cache has a bound
		name := "x-" + strings.Repeat("a", i)
		if got := c.dec.key(name); got != http.CanonicalHeaderKey(name) {
			t.Errorf("%q is spelled %q", name, got)
		}
	}
	if len(c.dec.names) > maxNames {
		t.Errorf("%d names are kept", len(c.dec.names))
	}
}

// What a request is made of is its own: the next block changes nothing in it.
func TestDecoder_SharesNothingWithTheNextRequest(t *testing.T) {
	c := fuzzConn(false)
	read := func(fields ...string) *http.Request {
		c.dec.begin()
		if _, err := c.dec.write(encoded(fields...)); err != nil {
			t.Fatal(err)
		}
		if err := c.dec.end(); err != nil {
			t.Fatal(err)
		}
		s := c.newRequest(1, true)
		s.incoming.cancel(nil)
		return s.incoming.request
	}
	first := read(":method", "GET", ":scheme", "https", ":authority", "one", ":path", "/1", "x-a", "1", "x-a", "2")
	read(":method", "PUT", ":scheme", "http", ":authority", "two", ":path", "/2", "x-a", "3", "x-b", "4")
	if first.Method != "GET" || first.Host != "one" || first.RequestURI != "/1" || strings.Join(first.Header["X-A"], "") != "12" || len(first.Header) != 1 {
		t.Errorf("%v", first)
	}
}

// BenchmarkDecode is one usual header list, as the second of its connection, into
// checked fields.
func BenchmarkDecode(b *testing.B) {
	fields := []string{":method", "GET", ":scheme", "https", ":authority", "h.test", ":path", "/orders/7", "user-agent", "curl/8.5", "accept", "*/*",
		"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "everyhop-caller", "spiffe://example.org/web", "x-request-id", "0f8b1c62"}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	c := fuzzConn(false)
	for range 2 {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		c.dec.begin()
		if _, err := c.dec.write(block.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		c.dec.begin()
		if _, err := c.dec.write(block.Bytes()); err != nil || c.dec.end() != nil {
			b.Fatal(err)
		}
		if checkFields(c.dec.fields[4:]) != wire.FlawNone {
			b.Fatal("it is flawed")
		}
	}
}
