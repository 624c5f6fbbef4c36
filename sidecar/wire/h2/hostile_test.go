package h2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// T07, T24, and what else RFC 9113 makes an error of the connection.
func TestServer_ConnectionErrors(t *testing.T) {
	_, address := serve(t, h2.Config{Handler: forbidden(t), Flawed: newFlaws().Flawed})
	for name, c := range map[string]struct {
		send func(p *raw)
		code http2.ErrCode
	}{
		"T07 table update above the limit": {func(p *raw) { p.send(1, true, []byte{0x3f, 0xe2, 0x1f}) }, http2.ErrCodeCompression},
		"T07 index 0":                      {func(p *raw) { p.send(1, true, []byte{0x80}) }, http2.ErrCodeCompression},
		"T07 index beyond the table":       {func(p *raw) { p.send(1, true, []byte{0xff, 0x40}) }, http2.ErrCodeCompression},
		"T07 Huffman EOS":                  {func(p *raw) { p.send(1, true, []byte{0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00}) }, http2.ErrCodeCompression},
		"T07 Huffman padding of zeros":     {func(p *raw) { p.send(1, true, []byte{0x00, 0x81, 0x00, 0x00}) }, http2.ErrCodeCompression},
		"T07 cut short":                    {func(p *raw) { p.send(1, true, []byte{0x00, 0x05, 'a'}) }, http2.ErrCodeCompression},
		"T24 PUSH_PROMISE": {func(p *raw) {
			p.check(p.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.block(plain("GET", "/")...), EndHeaders: true}))
		}, http2.ErrCodeProtocol},
		"T24 SETTINGS of 101 entries": {func(p *raw) {
			var settings []http2.Setting
			for i := range 101 {
				settings = append(settings, http2.Setting{ID: http2.SettingID(1000 + i)})
			}
			p.check(p.fr.WriteSettings(settings...))
		}, http2.ErrCodeProtocol},
		"T24 SETTINGS twice the same": {func(p *raw) {
			p.check(p.fr.WriteSettings(http2.Setting{ID: 4, Val: 1}, http2.Setting{ID: 4, Val: 2}))
		}, http2.ErrCodeProtocol},
		"T24 an acknowledgement nobody asked for": {func(p *raw) { p.check(p.fr.WriteSettingsAck()) }, http2.ErrCodeProtocol},
		"MAX_FRAME_SIZE 0":                        {func(p *raw) { p.check(p.fr.WriteSettings(http2.Setting{ID: 5})) }, http2.ErrCodeProtocol},
		"even stream":                             {func(p *raw) { p.get(2) }, http2.ErrCodeProtocol},
		"RST of an idle stream":                   {func(p *raw) { p.check(p.fr.WriteRSTStream(1, http2.ErrCodeCancel)) }, http2.ErrCodeProtocol},
		"DATA on an idle stream":                  {func(p *raw) { p.check(p.fr.WriteData(1, true, nil)) }, http2.ErrCodeProtocol},
		"the connection's window overflows":       {func(p *raw) { p.check(p.fr.WriteWindowUpdate(0, 1<<31-1)) }, http2.ErrCodeFlowControl},
		"CONTINUATION of nothing":                 {func(p *raw) { p.check(p.fr.WriteContinuation(1, true, nil)) }, http2.ErrCodeProtocol},
		"a frame within a header block": {func(p *raw) {
			p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(plain("GET", "/")...)}))
			p.check(p.fr.WritePing(false, [8]byte{}))
		}, http2.ErrCodeProtocol},
		"CONTINUATION flood": {func(p *raw) {
			p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(plain("GET", "/")...)}))
			for range 1000 {
				if p.fr.WriteContinuation(1, false, nil) != nil {
					return
				}
			}
		}, http2.ErrCodeEnhanceYourCalm},
		"a frame of 16 KiB and a byte": {func(p *raw) { p.check(p.fr.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 16<<10+1))) }, http2.ErrCodeFrameSize},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := rawClient(t, address)
			c.send(p)
			p.wantEnd(c.code)
		})
	}
}

// T24, T09: unknown frames are skipped, PRIORITY is ignored.
func TestServer_SkipsWhatItDoesNotKnow(t *testing.T) {
	_, address := serve(t, h2.Config{Handler: forbidden(t)})
	p := rawClient(t, address, http2.Setting{ID: 0xabc, Val: 1})
	for kind := http2.FrameType(0x0a); kind <= 0x10; kind++ {
		p.check(p.fr.WriteRawFrame(kind, 0xff, 0, []byte("whatever this is")))
	}
	p.check(p.fr.WritePriority(7, http2.PriorityParam{StreamDep: 1, Weight: 3}))
	p.canary(1)
}

// T02, T03, T08, T09: a peer that sends nothing of use is sent away. The frames
// are sent as fast as they go, and until the server closes.
func TestServer_FloodsAreCut(t *testing.T) {
	open := func(p *raw, id uint32) { p.headers(id, false, plain("POST", "/canary")...) }
	for name, c := range map[string]struct {
		reading bool
		send    func(p *raw, i uint32) error
	}{
		"T02 rapid reset": {true, func(p *raw, i uint32) error {
			open(p, 2*i+1)
			return p.fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}},
		"T03 window update of nothing": {true, func(p *raw, i uint32) error { open(p, 2*i+1); return p.fr.WriteWindowUpdate(2*i+1, 0) }},
		"T03 window overflow":          {true, func(p *raw, i uint32) error { open(p, 2*i+1); return p.fr.WriteWindowUpdate(2*i+1, 1<<31-1) }},
		"T03 DATA after the end":       {true, func(p *raw, i uint32) error { p.get(2*i + 1); return p.fr.WriteData(2*i+1, false, []byte("x")) }},
		"T03 HEADERS after the end": {true, func(p *raw, i uint32) error {
			p.headers(2*i+1, true, plain("GET", "/wait")...)
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: p.block("a", "b"), EndStream: true, EndHeaders: true})
		}},
		"T03 malformed requests": {true, func(p *raw, i uint32) error { p.headers(2*i+1, true, plain("GET", "x:admin")...); return nil }},
		"T08 PING, reading":      {true, func(p *raw, i uint32) error { return p.fr.WritePing(false, [8]byte{}) }},
		"T08 PING, not reading":  {false, func(p *raw, i uint32) error { return p.fr.WritePing(false, [8]byte{}) }},
		"T09 SETTINGS":           {true, func(p *raw, i uint32) error { return p.fr.WriteSettings() }},
		"T09 PRIORITY":           {true, func(p *raw, i uint32) error { return p.fr.WritePriority(1, http2.PriorityParam{StreamDep: 5}) }},
		"T09 empty DATA": {true, func(p *raw, i uint32) error {
			if i == 0 {
				open(p, 1)
			}
			return p.fr.WriteData(1, false, nil)
		}},
		"T09 tiny window updates": {true, func(p *raw, i uint32) error { return p.fr.WriteWindowUpdate(0, 1) }},
		"T09 unknown frames":      {true, func(p *raw, i uint32) error { return p.fr.WriteRawFrame(0x0b, 0, 0, nil) }},
		"T09 RST of closed streams": {true, func(p *raw, i uint32) error {
			if i == 0 {
				p.get(1)
			}
			return p.fr.WriteRSTStream(1, http2.ErrCodeCancel)
		}},
		"more streams than there may be": {true, func(p *raw, i uint32) error { open(p, 2*i+1); return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var running, most atomic.Int32
			_, address := serve(t, h2.Config{Flawed: newFlaws().Flawed, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				defer running.Add(-1)
				if r.RequestURI != "/" {
					<-r.Context().Done()
				}
				io.WriteString(w, "sings")
			})})
			p := rawClient(t, address)
			quiet := *p
			quiet.t = silent{t}
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				defer func() { _ = recover() }() // of silent's Fatal
				for i := range uint32(100_000) {
					if c.send(&quiet, i) != nil {
						return
					}
				}
			}()
			if !c.reading {
				<-sent
				p.nc.Close()
				return
			}
			p.wantEnd(http2.ErrCodeEnhanceYourCalm)
			p.nc.Close()
			<-sent
			if n := most.Load(); n > 100 {
				t.Errorf("%d handlers ran at once", n)
			}
		})
	}
}

// silent takes failures for the end of what a goroutine does.
type silent struct{ testing.TB }

func (silent) Helper()               {}
func (silent) Fatal(...any)          { panic("the connection is closed") }
func (silent) Fatalf(string, ...any) { panic("the connection is closed") }

// T05: the bomb: one field of the table, named as often as a block holds, and a
// window that lets no answer out. What was read of it is told, and soon no more is
// read.
func TestServer_HPACKBombIsCut(t *testing.T) {
	for _, trailers := range []bool{false, true} {
		t.Run(map[bool]string{false: "head", true: "trailers"}[trailers], func(t *testing.T) {
			told := newFlaws()
			flawed := func(w http.ResponseWriter, r *http.Request, flaw wire.Flaw) {
				told.Flawed(w, r, flaw)
				io.WriteString(w, "for which there is no window")
			}
			_, address := serve(t, h2.Config{Flawed: flawed, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !trailers {
					t.Error("a bomb reached the handler")
				}
				<-r.Context().Done()
			})})
			p := rawClient(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			head := []byte("\x83\x87\x84\x01\x06h.test") // POST, https, / and the host, of the static table
			bomb := []byte{0x40, 1, 'a', 0}              // a: with an empty value, to the table
			if !trailers {
				bomb = append(append([]byte(nil), head...), bomb...)
			}
			bomb = append(bomb, bytes.Repeat([]byte{0x80 | 62}, 31_000)...)
			quiet := *p
			quiet.t = silent{t}
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				defer func() { _ = recover() }() // of silent's Fatal
				for i := range uint32(250) {
					if id := 2*i + 1; trailers {
						quiet.send(id, false, head)
						quiet.send(id, true, bomb)
					} else {
						quiet.send(id, true, bomb)
						quiet.check(quiet.fr.WriteWindowUpdate(id, 1))
					}
				}
			}()
			p.wantEnd(http2.ErrCodeEnhanceYourCalm)
			p.nc.Close()
			<-sent
			if n := len(told.come); n > 12 || n == 0 && !trailers {
				t.Errorf("%d bombs were looked at", n)
			}
		})
	}
}

// T13, T34, T35: what begins and does not go on is cut.
func TestServer_CutsWhatDoesNotGoOn(t *testing.T) {
	short := 40 * time.Millisecond
	for name, c := range map[string]struct {
		send string
		code http2.ErrCode
		bare bool // no GOAWAY: it is not HTTP/2
	}{
		"nothing":                    {send: "", bare: true, code: http2.ErrCodeEnhanceYourCalm},
		"T34 half a preface":         {send: http2.ClientPreface[:10], bare: true},
		"T13 the preface only":       {send: http2.ClientPreface, code: http2.ErrCodeSettingsTimeout},
		"T13 half a frame header":    {send: http2.ClientPreface + "\x00\x00\x00\x04", code: http2.ErrCodeEnhanceYourCalm},
		"a header block without end": {send: http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x00\x01\x00\x00\x00\x00\x01", code: http2.ErrCodeEnhanceYourCalm},
		"T35 HTTP/1":                 {send: "GET / HTTP/1.1\r\nHost: h.test\r\n\r\n", bare: true},
		"not SETTINGS first":         {send: http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", code: http2.ErrCodeProtocol},
		"an acknowledgement first":   {send: http2.ClientPreface + "\x00\x00\x00\x04\x01\x00\x00\x00\x00", code: http2.ErrCodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, address := serve(t, h2.Config{Handler: forbidden(t), Times: h2.Times{Headers: short, SettingsAck: 4 * short}})
			nc, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			p := newRaw(t, nc)
			_, err = io.WriteString(nc, c.send)
			p.check(err)
			if !c.bare {
				p.wantEnd(c.code)
				return
			}
			if _, err := io.Copy(io.Discard, nc); err != nil && errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

// T13.
func TestServer_IdleConnectionIsToldGoodbye(t *testing.T) {
	_, address := serve(t, h2.Config{Handler: forbidden(t), Times: h2.Times{Idle: 40 * time.Millisecond}})
	p := rawClient(t, address)
	p.canary(1)
	p.wantEnd(http2.ErrCodeNo)
}

func TestServer_SilentPeerIsAskedThenCut(t *testing.T) {
	_, address := serve(t, h2.Config{Times: h2.Times{Ping: 20 * time.Millisecond, PingTimeout: 40 * time.Millisecond},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })})
	p := rawClient(t, address)
	p.get(1)
	p.until(is[*http2.PingFrame])
	if _, err := io.Copy(io.Discard, p.nc); err != nil {
		t.Logf("it was cut: %v", err)
	}
}

// T11: a window that opens by a byte now and then.
func TestServer_DrippingWindowIsCut(t *testing.T) {
	failed := make(chan error, 1)
	_, address := serve(t, h2.Config{Times: h2.Times{Write: 100 * time.Millisecond}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := w.Write(make([]byte, 100_000))
		failed <- err
	})})
	p := rawClient(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.get(1)
	p.wantStatus(1, "200")
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if p.fr.WriteWindowUpdate(1, 1) != nil || len(failed) > 0 {
				return
			}
		}
	}()
	p.wantReset(1, http2.ErrCodeCancel)
	if <-failed == nil {
		t.Error("the handler was told nothing")
	}
	failed <- nil
	<-done
}

// T05, T11: where nothing is left on a connection but answers that its client does
// not take, it is cut, however the window drips.
func TestServer_ConnectionOfStuckAnswersIsCut(t *testing.T) {
	_, address := serve(t, h2.Config{Times: h2.Times{Write: 200 * time.Millisecond}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 100_000))
	})})
	p := rawClient(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for id := uint32(1); id < 7; id += 2 {
		p.get(id)
	}
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = p.fr.WriteWindowUpdate(5, 1)
			case <-stop:
				return
			}
		}
	}()
	p.wantEnd(http2.ErrCodeEnhanceYourCalm)
	close(stop)
	<-done
}

// One answer that is not taken costs the others nothing.
func TestServer_StuckAnswerIsCutAlone(t *testing.T) {
	answer := make(chan struct{})
	_, address := serve(t, h2.Config{Times: h2.Times{Write: 100 * time.Millisecond}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/later" {
			<-answer
			return
		}
		w.Write(make([]byte, 100_000))
	})})
	p := rawClient(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.headers(1, true, plain("GET", "/later")...)
	p.get(3)
	p.until(func(f http2.Frame) bool { return is[*http2.RSTStreamFrame](f) && f.Header().StreamID == 3 })
	close(answer)
	p.wantStatus(1, "200")
}

// T23.
func TestServer_BadTrailersBreakTheBody(t *testing.T) {
	for name, c := range map[string]struct {
		fields []string
		end    bool
		flaw   wire.Flaw
	}{
		"pseudo":         {[]string{":path", "/"}, true, wire.FlawPseudo},
		"without an end": {[]string{"x", "1"}, false, wire.FlawTrailer},
		"10,000 fields":  {many(10_000), true, wire.FlawFieldSize},
		"content-length": {[]string{"content-length", "5"}, true, wire.FlawTrailer},
		"host":           {[]string{"host", "x"}, true, wire.FlawTrailer},
		"connection":     {[]string{"connection", "x"}, true, wire.FlawField},
		"upper case":     {[]string{"X", "x"}, true, wire.FlawField},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan error, 1)
			_, address := serve(t, h2.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				got <- err
				<-r.Context().Done()
			})})
			p := rawClient(t, address)
			p.headers(1, false, plain("POST", "/")...)
			p.headers(1, c.end, c.fields...)
			p.wantReset(1, http2.ErrCodeProtocol)
			var flaw wire.Flaw
			if err := <-got; !errors.As(err, &flaw) || flaw != c.flaw {
				t.Errorf("the body ended with %v", err)
			}
		})
	}
}

// T20, H-65: the body must be as long as it was said to be.
func TestServer_LengthAndDataMustAgree(t *testing.T) {
	for name, c := range map[string]struct{ length, data string }{
		"longer":  {"3", "1234"},
		"shorter": {"5", "1234"},
		"none":    {"5", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan error, 1)
			_, address := serve(t, h2.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				got <- err
			})})
			p := rawClient(t, address)
			p.headers(1, false, append(plain("POST", "/"), "content-length", c.length)...)
			p.check(p.fr.WriteData(1, true, []byte(c.data)))
			p.wantReset(1, http2.ErrCodeProtocol)
			var flaw wire.Flaw
			if err := <-got; !errors.As(err, &flaw) || flaw != wire.FlawLength {
				t.Errorf("the body ended with %v", err)
			}
		})
	}
}

// Padding is no body, but counts against the window.
func TestServer_PaddingIsTakenOff(t *testing.T) {
	_, address := serve(t, h2.Config{Handler: http.HandlerFunc(echo)})
	p := rawClient(t, address)
	p.headers(1, false, append(plain("POST", "/"), "content-length", "4")...)
	p.check(p.fr.WriteDataPadded(1, true, []byte("four"), make([]byte, 200)))
	p.wantStatus(1, "200")
	if f := p.until(is[*http2.DataFrame]).(*http2.DataFrame); string(f.Data()) != "four" {
		t.Errorf("%q", f.Data())
	}
}

// Our own windows are enforced, the stream's and the connection's.
func TestServer_WindowsAreEnforced(t *testing.T) {
	block := make(chan struct{})
	_, address := serve(t, h2.Config{Limits: h2.Limits{StreamWindow: 64 << 10, ConnWindow: 128 << 10},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-block })})
	defer close(block)
	p := rawClient(t, address)
	chunk := make([]byte, 16<<10)
	p.headers(1, false, plain("POST", "/")...)
	for range 5 {
		p.check(p.fr.WriteData(1, false, chunk))
	}
	p.wantReset(1, http2.ErrCodeFlowControl)
	for id := uint32(3); id <= 9; id += 2 {
		p.headers(id, false, plain("POST", "/")...)
		for range 4 {
			if p.fr.WriteData(id, false, chunk) != nil {
				break
			}
		}
	}
	p.wantEnd(http2.ErrCodeFlowControl)
}

// A window may become negative: RFC 9113 section 6.9.2.
func TestServer_WaitsForANegativeWindow(t *testing.T) {
	_, address := serve(t, h2.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 100)) })})
	p := rawClient(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 50})
	p.get(1)
	if f := p.until(is[*http2.DataFrame]); f.Header().Length != 50 {
		t.Fatalf("%v", f)
	}
	p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})) // the window is -40
	p.check(p.fr.WriteWindowUpdate(1, 60))
	if f := p.until(is[*http2.DataFrame]); f.Header().Length != 20 {
		t.Fatalf("%v", f)
	}
	p.check(p.fr.WriteWindowUpdate(1, 1000))
	p.until(func(f http2.Frame) bool { d, is := f.(*http2.DataFrame); return is && d.StreamEnded() })
}
