package h2_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// rawServer is an upstream that does with its nth connection what it is told.
func rawServer(t testing.TB, do func(p *raw, n int)) (dial func(context.Context) (net.Conn, error), conns *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = new(atomic.Int32)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			n := int(conns.Add(1))
			serving.Go(func() {
				defer nc.Close()
				defer func() { _ = recover() }() // of silent's Fatal
				p := newRaw(silent{t}, nc)
				preface := make([]byte, len(http2.ClientPreface))
				if _, err := io.ReadFull(nc, preface); err != nil {
					return
				}
				do(p, n)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		serving.Wait()
	})
	return dialer(ln.Addr().String()), conns
}

// settle is the server's half of agreeing on settings.
func (p *raw) settle(settings ...http2.Setting) {
	p.check(p.fr.WriteSettings(settings...))
	p.check(p.fr.WriteSettingsAck())
}

// asked is the next request's stream.
func (p *raw) asked() uint32 { return p.until(is[*http2.MetaHeadersFrame]).Header().StreamID }

func (p *raw) ok(id uint32, body string) {
	p.headers(id, false, ":status", "200")
	p.check(p.fr.WriteData(id, true, []byte(body)))
}

// drain answers everything until the client goes.
func (p *raw) drain() {
	for {
		p.ok(p.asked(), "ok")
	}
}

// H-60, B08: what is no answer reaches no caller.
func TestTransport_MalformedAnswersAreErrors(t *testing.T) {
	ok := []string{":status", "200"}
	data := func(p *raw, id uint32, end bool, text string) { p.check(p.fr.WriteData(id, end, []byte(text))) }
	head := func(end bool, fields ...string) func(*raw, uint32) {
		return func(p *raw, id uint32) { p.headers(id, end, fields...) }
	}
	for name, answer := range map[string]func(p *raw, id uint32){
		"no status":                 head(true, "x", "1"),
		"status twice":              head(true, with(ok, ":status", "200")...),
		"status 99":                 head(true, ":status", "099"),
		"status 1000":               head(true, ":status", "1000"),
		"status of letters":         head(true, ":status", "2oo"),
		"status 101":                head(false, ":status", "101"),
		"request pseudo":            head(true, with(ok, ":path", "/")...),
		"pseudo after regular":      head(true, "x", "1", ":status", "200"),
		"upper case":                head(true, with(ok, "X", "1")...),
		"connection":                head(true, with(ok, "connection", "close")...),
		"CR in a value":             head(true, with(ok, "x", "a\rb")...),
		"251 fields":                head(true, with(ok, many(250)...)...),
		"a length without the body": head(true, with(ok, "content-length", "5")...),
		"two lengths":               head(false, with(ok, "content-length", "5", "content-length", "5")...),
		"length abc":                head(false, with(ok, "content-length", "abc")...),
		"103 with the end":          head(true, ":status", "103"),
		"data before the head":      func(p *raw, id uint32) { data(p, id, true, "x") },
		"nine heads of 1xx": func(p *raw, id uint32) {
			for range 9 {
				p.headers(id, false, ":status", "103")
			}
		},
		"longer than its length": func(p *raw, id uint32) {
			p.headers(id, false, with(ok, "content-length", "3")...)
			data(p, id, true, "four")
		},
		"shorter than its length": func(p *raw, id uint32) {
			p.headers(id, false, with(ok, "content-length", "5")...)
			data(p, id, true, "four")
		},
		"a body of 204":        func(p *raw, id uint32) { p.headers(id, false, ":status", "204"); data(p, id, true, "x") },
		"trailers without end": func(p *raw, id uint32) { p.headers(id, false, ok...); p.headers(id, false, "x", "1") },
		"pseudo in trailers":   func(p *raw, id uint32) { p.headers(id, false, ok...); p.headers(id, true, ":status", "200") },
		"cut":                  func(p *raw, id uint32) { p.headers(id, false, ok...); data(p, id, false, "x"); p.nc.Close() },
		"reset": func(p *raw, id uint32) {
			p.headers(id, false, ok...)
			p.check(p.fr.WriteRSTStream(id, http2.ErrCodeInternal))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dial, _ := rawServer(t, func(p *raw, n int) {
				p.settle()
				answer(p, p.asked())
				p.drain()
			})
			to := transport(t, h2.TransportConfig{Dial: dial})
			got, err := to.RoundTrip(request(t, "POST", "http://h.test/", nil))
			if err == nil {
				_, err = io.ReadAll(got.Body)
				got.Body.Close()
			}
			if err == nil {
				t.Error("it was taken for an answer")
			}
			var flaw wire.Flaw
			if unread := name == "cut" || name == "reset" || name == "nine heads of 1xx"; errors.As(err, &flaw) == unread {
				t.Errorf("%v names the flaw %q", err, flaw)
			}
			if name == "cut" {
				return
			}
			if _, body := exchange(t, to, request(t, "POST", "http://h.test/", nil)); body != "ok" {
				t.Errorf("the canary got %q", body)
			}
		})
	}
}

// What breaks the connection breaks it for good; the next request gets another.
func TestTransport_ConnectionErrors(t *testing.T) {
	for name, breaks := range map[string]func(p *raw){
		"PUSH_PROMISE": func(p *raw) {
			p.check(p.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.block(plain("GET", "/")...), EndHeaders: true}))
		},
		"ENABLE_PUSH":      func(p *raw) { p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1})) },
		"MAX_FRAME_SIZE 0": func(p *raw) { p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize})) },
		"idle stream":      func(p *raw) { p.headers(77, true, ":status", "200") },
		"even stream":      func(p *raw) { p.headers(2, true, ":status", "200") },
		"CONTINUATION flood": func(p *raw) {
			p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":status", "200")}))
			for range 100 {
				p.check(p.fr.WriteContinuation(1, false, nil))
			}
		},
		"PING flood": func(p *raw) {
			for range 2000 {
				p.check(p.fr.WritePing(false, [8]byte{}))
			}
		},
		"the end": func(p *raw) { p.nc.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dial, conns := rawServer(t, func(p *raw, n int) {
				p.settle()
				if n == 1 {
					p.asked()
					breaks(p)
				}
				p.drain()
			})
			to := transport(t, h2.TransportConfig{Dial: dial})
			r := request(t, "POST", "http://h.test/", strings.NewReader("body")) // which must not be sent twice
			r.GetBody = nil
			if answer, err := to.RoundTrip(r); err == nil {
				answer.Body.Close()
				t.Error("it was answered")
			}
			if _, body := exchange(t, to, request(t, "GET", "http://h.test/", nil)); body != "ok" || conns.Load() != 2 {
				t.Errorf("the canary got %q on connection %d", body, conns.Load())
			}
		})
	}
}

// H-28, B10, T36: a request goes out again only if it cannot have been acted on.
func TestTransport_Retries(t *testing.T) {
	refuse := func(p *raw, id uint32) { p.check(p.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)) }
	away := func(p *raw, id uint32) { p.check(p.fr.WriteGoAway(id-1, http2.ErrCodeNo, nil)) }
	closes := func(p *raw, id uint32) { p.nc.Close() }
	cancel := func(p *raw, id uint32) { p.check(p.fr.WriteRSTStream(id, http2.ErrCodeCancel)) }
	for name, c := range map[string]struct {
		method string
		body   io.Reader
		first  func(*raw, uint32)
		again  bool
	}{
		"refused GET":             {"GET", nil, refuse, true},
		"refused POST":            {"POST", nil, refuse, true},
		"POST above GOAWAY":       {"POST", nil, away, true},
		"body that can be reread": {"POST", strings.NewReader("x"), refuse, true},
		"body that cannot":        {"POST", io.MultiReader(strings.NewReader("x")), refuse, false},
		"GET cut":                 {"GET", nil, closes, true},
		"POST cut":                {"POST", nil, closes, false},
		"DELETE cut":              {"DELETE", nil, closes, false},
		"GET cancelled":           {"GET", nil, cancel, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int32
			dial, _ := rawServer(t, func(p *raw, n int) {
				p.settle()
				for {
					id := p.asked()
					if c.body != nil {
						p.until(is[*http2.DataFrame])
					}
					if seen.Add(1) == 1 {
						c.first(p, id)
					} else {
						p.ok(id, "ok")
					}
				}
			})
			to := transport(t, h2.TransportConfig{Dial: dial})
			r := request(t, c.method, "http://h.test/", c.body)
			r.Header.Set("Idempotency-Key", "is no leave")
			answer, err := to.RoundTrip(r)
			if err == nil {
				answer.Body.Close()
			}
			if (err == nil) != c.again {
				t.Errorf("error %v", err)
			}
			if n := seen.Load(); (n == 2) != c.again {
				t.Errorf("it was sent %d times", n)
			}
		})
	}
}

func TestTransport_RefusedForeverIsTriedTwice(t *testing.T) {
	var seen atomic.Int32
	dial, _ := rawServer(t, func(p *raw, n int) {
		p.settle()
		for {
			id := p.asked()
			seen.Add(1)
			p.check(p.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream))
		}
	})
	_, err := transport(t, h2.TransportConfig{Dial: dial}).RoundTrip(request(t, "GET", "http://h.test/", nil))
	var reset *h2.StreamError
	if !errors.As(err, &reset) || reset.Code != http2.ErrCodeRefusedStream || seen.Load() != 2 {
		t.Errorf("%v after %d times", err, seen.Load())
	}
}

// B14, H25: it adds nothing of its own.
func TestTransport_AsksForNothingOfItsOwn(t *testing.T) {
	got := make(chan []hpack.HeaderField, 1)
	dial, _ := rawServer(t, func(p *raw, n int) {
		p.settle()
		f := p.until(is[*http2.MetaHeadersFrame]).(*http2.MetaHeadersFrame)
		got <- f.Fields
		p.ok(f.StreamID, "ok")
	})
	exchange(t, transport(t, h2.TransportConfig{Dial: dial}), request(t, "GET", "http://h.test/a%2Fb?q", nil))
	want := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "h.test"}, {":path", "/a%2Fb?q"}}
	fields := <-got
	if len(fields) != len(want) {
		t.Fatalf("%v", fields)
	}
	for i, f := range fields {
		if f.Name != want[i][0] || f.Value != want[i][1] {
			t.Errorf("%v, want %v", f, want[i])
		}
	}
}

// RFC 7541 section 7.1.3: what changes from request to request enters no table.
func TestTransport_NeverIndexesSecrets(t *testing.T) {
	got := make(chan []hpack.HeaderField, 1)
	dial, _ := rawServer(t, func(p *raw, n int) {
		p.settle()
		f := p.until(is[*http2.MetaHeadersFrame]).(*http2.MetaHeadersFrame)
		got <- f.Fields
		p.ok(f.StreamID, "ok")
	})
	r := request(t, "GET", "http://h.test/orders/7", nil)
	for _, name := range []string{"Authorization", "Cookie", "Traceparent", "Everyhop-Decision", "Everyhop-User"} {
		r.Header.Set(name, "secret")
	}
	r.Header.Set("Accept", "*/*")
	exchange(t, transport(t, h2.TransportConfig{Dial: dial}), r)
	for _, f := range <-got {
		indexed := f.Name == ":method" || f.Name == ":scheme" || f.Name == ":authority" || f.Name == "accept"
		if f.Sensitive == indexed {
			t.Errorf("%v", f)
		}
	}
}

func TestTransport_RefusesRequestsThatAreNone(t *testing.T) {
	to := transport(t, h2.TransportConfig{Dial: func(context.Context) (net.Conn, error) {
		t.Error("it dials")
		return nil, io.EOF
	}})
	for name, change := range map[string]func(r *http.Request){
		"method":   func(r *http.Request) { r.Method = "GET /" },
		"host":     func(r *http.Request) { r.Host = "a b" },
		"userinfo": func(r *http.Request) { r.Host = "u@h" },
		"path":     func(r *http.Request) { r.URL.Opaque = "x:admin" },
		"path LF":  func(r *http.Request) { r.URL.Opaque = "/a\nb" },
		"scheme":   func(r *http.Request) { r.URL.Scheme = "ftp" },
		"name":     func(r *http.Request) { r.Header["a b"] = []string{"1"} },
		"value":    func(r *http.Request) { r.Header["A"] = []string{"a\nb"} },
		"no URL":   func(r *http.Request) { r.URL = nil },
	} {
		r := request(t, "GET", "http://h.test/", nil)
		change(r)
		if _, err := to.RoundTrip(r); err == nil {
			t.Errorf("%s: it was sent", name)
		}
	}
}
