package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// raw is a peer that sends what frames it likes.
type raw struct {
	t   testing.TB
	nc  net.Conn
	fr  *http2.Framer
	enc *hpack.Encoder
	buf *bytes.Buffer
}

func newRaw(t testing.TB, nc net.Conn) *raw {
	t.Helper()
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	p := &raw{t: t, nc: nc, fr: http2.NewFramer(nc, nc), buf: new(bytes.Buffer)}
	p.fr.AllowIllegalWrites = true
	p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(p.buf)
	return p
}

// rawClient has connected, and settings are agreed.
func rawClient(t testing.TB, address string, settings ...http2.Setting) *raw {
	t.Helper()
	p := rawPreface(t, address)
	p.check(p.fr.WriteSettings(settings...))
	p.check(p.fr.WriteSettingsAck())
	p.until(func(f http2.Frame) bool { s, is := f.(*http2.SettingsFrame); return is && s.IsAck() })
	return p
}

// rawPreface has connected and sent the preface.
func rawPreface(t testing.TB, address string) *raw {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	p := newRaw(t, nc)
	_, err = io.WriteString(nc, http2.ClientPreface)
	p.check(err)
	return p
}

func (p *raw) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// block encodes fields given as name, value, name, value.
func (p *raw) block(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.check(p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return append([]byte(nil), p.buf.Bytes()...)
}

func (p *raw) headers(id uint32, end bool, fields ...string) {
	p.t.Helper()
	p.send(id, end, p.block(fields...))
}

// send sends a header block, in as many frames as it takes.
func (p *raw) send(id uint32, end bool, block []byte) {
	p.t.Helper()
	n := min(len(block), 16<<10)
	p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:n], EndStream: end, EndHeaders: n == len(block)}))
	for block = block[n:]; len(block) > 0; block = block[n:] {
		n = min(len(block), 16<<10)
		if p.fr.WriteContinuation(id, n == len(block), block[:n]) != nil {
			return // it has heard enough
		}
	}
}

func (p *raw) get(id uint32, more ...string) {
	p.t.Helper()
	p.headers(id, true, append(plain("GET", "/"), more...)...)
}

func plain(method, path string) []string {
	return []string{":method", method, ":scheme", "https", ":authority", "h.test", ":path", path}
}

// until reads frames to the first that is wanted.
func (p *raw) until(wanted func(http2.Frame) bool) http2.Frame {
	p.t.Helper()
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			p.t.Fatalf("what we wait for does not come: %v", err)
		}
		if wanted(f) {
			return f
		}
	}
}

func (p *raw) wantReset(id uint32, code http2.ErrCode) {
	p.t.Helper()
	f := p.until(func(f http2.Frame) bool {
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			return f.StreamID == id
		case *http2.MetaHeadersFrame:
			if f.StreamID == id {
				p.t.Errorf("stream %d was answered: %v", id, f.Fields)
			}
		}
		return false
	}).(*http2.RSTStreamFrame)
	if f.ErrCode != code {
		p.t.Errorf("stream %d was reset with %v, want %v", id, f.ErrCode, code)
	}
}

func (p *raw) wantStatus(id uint32, status string) *http2.MetaHeadersFrame {
	p.t.Helper()
	f := p.until(func(f http2.Frame) bool {
		if r, is := f.(*http2.RSTStreamFrame); is && r.StreamID == id {
			p.t.Fatalf("stream %d was reset with %v", id, r.ErrCode)
		}
		return is[*http2.MetaHeadersFrame](f) && f.Header().StreamID == id
	}).(*http2.MetaHeadersFrame)
	if got := f.PseudoValue("status"); got != status {
		p.t.Errorf("stream %d got status %s, want %s", id, got, status)
	}
	return f
}

func is[T http2.Frame](f http2.Frame) bool { _, is := f.(T); return is }

// wantEnd reads to the end of the connection, and wants the code in its last
// GOAWAY.
func (p *raw) wantEnd(code http2.ErrCode) {
	p.t.Helper()
	var last *http2.GoAwayFrame
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				p.t.Fatal("the connection stays open")
			}
			break
		}
		if g, is := f.(*http2.GoAwayFrame); is {
			last = g
		}
	}
	if last == nil || last.ErrCode != code {
		p.t.Errorf("the connection ended with %v, want %v", last, code)
	}
}

// flaws counts what a server's Flawed was told.
type flaws struct {
	mu   sync.Mutex
	seen []wire.Flaw
	come chan struct{}
}

func newFlaws() *flaws { return &flaws{come: make(chan struct{}, 1000)} }

func (f *flaws) Flawed(w http.ResponseWriter, r *http.Request, flaw wire.Flaw) {
	f.mu.Lock()
	f.seen = append(f.seen, flaw)
	f.mu.Unlock()
	w.WriteHeader(flaw.Status())
	f.come <- struct{}{}
}

// next waits for the next, and wants it to be the only one.
func (f *flaws) next(t testing.TB) wire.Flaw {
	t.Helper()
	select {
	case <-f.come:
	case <-time.After(patience):
		t.Fatal("no flaw was told")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.seen) != 1 {
		t.Errorf("%d flaws were told", len(f.seen))
	}
	flaw := f.seen[0]
	f.seen = nil
	return flaw
}

// forbidden is a handler that nothing may reach but the canary.
func forbidden(t testing.TB) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI != "/canary" {
			t.Errorf("a handler got %s %q", r.Method, r.RequestURI)
		}
		io.WriteString(w, "sings")
	})
}

func (p *raw) canary(id uint32) {
	p.t.Helper()
	p.headers(id, true, plain("GET", "/canary")...)
	p.wantStatus(id, "200")
	data := p.until(is[*http2.DataFrame]).(*http2.DataFrame)
	if data.StreamID != id || string(data.Data()) != "sings" {
		p.t.Errorf("the canary's answer: stream %d, %q", data.StreamID, data.Data())
	}
}

type badHead struct {
	name   string
	fields []string
	flaw   wire.Flaw
	status string // where it is answered, not reset
}

func with(fields []string, more ...string) []string {
	return append(fields[:len(fields):len(fields)], more...)
}

func badHeads() []badHead {
	get := plain("GET", "/")
	scheme := func(v string) []string {
		return []string{":method", "GET", ":scheme", v, ":authority", "h.test", ":path", "/"}
	}
	authority := func(v string) []string {
		return []string{":method", "GET", ":scheme", "https", ":authority", v, ":path", "/"}
	}
	bad := func(name string, flaw wire.Flaw, fields ...string) badHead {
		return badHead{name: name, fields: fields, flaw: flaw}
	}
	return []badHead{
		bad("T15 scheme ftp", wire.FlawPseudo, scheme("ftp")...),
		bad("T15 no scheme", wire.FlawPseudo, ":method", "GET", ":authority", "h.test", ":path", "/"),
		bad("T15 scheme twice", wire.FlawPseudo, with(get[:4], ":scheme", "https", ":authority", "h.test", ":path", "/")...),
		bad("T15 path twice", wire.FlawPseudo, with(get, ":path", "/")...),
		bad("T15 no method", wire.FlawMethod, get[2:]...),
		bad("T15 no path", wire.FlawPseudo, get[:6]...),
		bad("T15 pseudo after regular", wire.FlawPseudo, ":method", "GET", "accept", "*/*", ":scheme", "https", ":authority", "h.test", ":path", "/"),
		bad("T15 unknown pseudo", wire.FlawPseudo, with(get, ":x", "y")...),
		bad("T15 response pseudo", wire.FlawPseudo, with(get, ":status", "200")...),
		bad("T16 upper case", wire.FlawField, with(get, "X-Upper", "1")...),
		bad("T16 connection", wire.FlawField, with(get, "connection", "close")...),
		bad("T16 upgrade", wire.FlawField, with(get, "upgrade", "websocket")...),
		bad("T16 keep-alive", wire.FlawField, with(get, "keep-alive", "1")...),
		bad("T16 proxy-connection", wire.FlawField, with(get, "proxy-connection", "close")...),
		bad("T16 transfer-encoding", wire.FlawField, with(get, "transfer-encoding", "chunked")...),
		bad("T16 te gzip", wire.FlawField, with(get, "te", "gzip")...),
		bad("T16 te trailers and more", wire.FlawField, with(get, "te", "trailers, gzip")...),
		bad("T17 method with a space", wire.FlawMethod, plain("GET /admin HTTP/1.1", "/")...),
		bad("T17 empty method", wire.FlawMethod, plain("", "/")...),
		{name: "T17 long method", fields: plain(strings.Repeat("M", 33), "/"), flaw: wire.FlawMethod, status: "400"},
		bad("T18 absolute form", wire.FlawTarget, plain("GET", "http://app.test/admin")...),
		bad("T18 P20 x:admin", wire.FlawTarget, plain("GET", "x:admin")...),
		bad("T18 space", wire.FlawTarget, plain("GET", "/a b")...),
		bad("T18 fragment", wire.FlawTarget, plain("GET", "/a#b")...),
		bad("T18 raw byte", wire.FlawTarget, plain("GET", "/\xc3\xa9")...),
		bad("P26 no leading slash", wire.FlawTarget, plain("GET", "admin/x")...),
		bad("P26 empty path", wire.FlawTarget, plain("GET", "")...),
		bad("P26 gRPC without slash", wire.FlawTarget, plain("POST", "svc.Admin/Do")...),
		bad("P24 asterisk not for OPTIONS", wire.FlawTarget, plain("GET", "*")...),
		bad("T20 length without a body", wire.FlawLength, with(get, "content-length", "5")...),
		bad("T21 length abc", wire.FlawLength, with(get, "content-length", "abc")...),
		bad("T21 two lengths", wire.FlawLength, with(get, "content-length", "0", "content-length", "5")...),
		bad("S15 two equal lengths", wire.FlawLength, with(get, "content-length", "0", "content-length", "0")...),
		bad("T21 plus", wire.FlawLength, with(get, "content-length", "+5")...),
		bad("S18 minus", wire.FlawLength, with(get, "content-length", "-0")...),
		bad("S18 hex", wire.FlawLength, with(get, "content-length", "0x5")...),
		bad("S20 empty length", wire.FlawLength, with(get, "content-length", "")...),
		bad("S22 huge length", wire.FlawLength, with(get, "content-length", "9223372036854775808")...),
		bad("T22 CR", wire.FlawField, with(get, "x", "a\rb")...),
		bad("T22 LF", wire.FlawField, with(get, "x", "a\nb")...),
		bad("T22 NUL", wire.FlawField, with(get, "x", "a\x00b")...),
		bad("T22 DEL", wire.FlawField, with(get, "x", "a\x7fb")...),
		bad("T22 leading space", wire.FlawField, with(get, "x", " a")...),
		bad("T22 trailing tab", wire.FlawField, with(get, "x", "a\t")...),
		bad("T22 name with colon", wire.FlawField, with(get, "a:b", "1")...),
		bad("T22 name with space", wire.FlawField, with(get, "a b", "1")...),
		bad("T22 empty name", wire.FlawField, with(get, "", "1")...),
		bad("H17 two hosts", wire.FlawHost, ":method", "GET", ":scheme", "https", ":path", "/", "host", "app.test", "host", "app.test"),
		bad("H18 userinfo", wire.FlawHost, authority("u:p@app.test")...),
		bad("H18 path", wire.FlawHost, authority("app.test/x")...),
		bad("H18 space", wire.FlawHost, authority("app test")...),
		bad("H18 tab", wire.FlawHost, authority("app.test\tx")...),
		bad("H18 empty", wire.FlawHost, authority("")...),
		bad("H18 none", wire.FlawHost, ":method", "GET", ":scheme", "https", ":path", "/"),
		bad("U19 extended CONNECT while disabled", wire.FlawPseudo, with(plain("CONNECT", "/"), ":protocol", "websocket")...),
		bad("U19 protocol without CONNECT", wire.FlawPseudo, with(get, ":protocol", "websocket")...),
		bad("U19 CONNECT with a path", wire.FlawPseudo, plain("CONNECT", "/")...),
		bad("U19 CONNECT without authority", wire.FlawPseudo, ":method", "CONNECT"),
		{name: "H20 101st field", fields: with(get, many(97)...), flaw: wire.FlawFieldSize, status: "431"},
		{name: "H21 values of 33 KiB", fields: with(get, "x", strings.Repeat("v", 16<<10), "y", strings.Repeat("v", 17<<10)), flaw: wire.FlawFieldSize, status: "431"},
		{name: "S27 another expectation", fields: with(get, "expect", "y100-continue"), flaw: wire.FlawExpectation, status: "417"},
		{name: "S27 an expectation more", fields: with(get, "expect", "100-continue, x"), flaw: wire.FlawExpectation, status: "417"},
	}
}

func many(n int) (fields []string) {
	for range n {
		fields = append(fields, "x", "1")
	}
	return fields
}

// T15, T16, T17, T18, T20, T21, T22, H17, H18, H20, H21, H22, P20, P26, U19.
func TestServer_MalformedRequestsReachNoHandlerAndAreTold(t *testing.T) {
	told := newFlaws()
	_, address := serve(t, h2.Config{Handler: forbidden(t), Flawed: told.Flawed})
	for _, c := range badHeads() {
		for _, end := range []bool{true, false} {
			if strings.HasPrefix(c.name, "T20") && !end {
				continue // then it is none
			}
			t.Run(c.name, func(t *testing.T) {
				p := rawClient(t, address)
				p.headers(1, end, c.fields...)
				if c.status != "" {
					p.wantStatus(1, c.status)
				} else {
					p.wantReset(1, http2.ErrCodeProtocol)
				}
				if flaw := told.next(t); flaw != c.flaw {
					t.Errorf("told %q, want %q", flaw, c.flaw)
				}
				p.canary(3)
			})
		}
	}
}

// H21, H22: what is too large even to be decoded ends the connection, but is
// answered before.
func TestServer_OversizedFieldIsAnsweredAndEndsTheConnection(t *testing.T) {
	told := newFlaws()
	_, address := serve(t, h2.Config{Handler: forbidden(t), Flawed: told.Flawed})
	for name, fields := range map[string][]string{
		"H21 value of 64 KiB":    {"x", strings.Repeat("v", 64<<10)},
		"H21 value of 1 MiB":     {"x", strings.Repeat("v", 1<<20)},
		"H21 name of 100 KiB":    {strings.Repeat("n", 100<<10), "v"},
		"H22 5,000 cookie pairs": {"cookie", strings.Repeat("a=12345; ", 5000) + "b=1"},
		"H20 100,000 fields":     many(100_000),
	} {
		t.Run(name, func(t *testing.T) {
			p := rawClient(t, address)
			p.get(1, fields...)
			p.wantStatus(1, "431")
			if flaw := told.next(t); flaw != wire.FlawFieldSize {
				t.Errorf("told %q", flaw)
			}
			p.wantEnd(http2.ErrCodeEnhanceYourCalm)
		})
	}
}
