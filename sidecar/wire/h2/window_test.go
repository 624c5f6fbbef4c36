package h2_test

import (
	"io"
	"net/http"
	"testing"

	"golang.org/x/net/http2"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// U16: what a stream may have under way at first, and what it gets in addition
// when its reader takes what has come: a body more, a tunnel nothing.
func TestServer_WindowGrowsForBodiesThatAreRead(t *testing.T) {
	const sent = 48 << 10
	for name, c := range map[string]struct {
		reads bool // the handler does
		head  []string
		most  int // that is given back or added
		least int
	}{
		"a body":                 {true, plain("POST", "/"), 256 << 10, 192 << 10},
		"a body nobody reads":    {false, plain("POST", "/"), 0, 0},
		"a tunnel":               {true, append(plain("CONNECT", "/"), ":protocol", "websocket"), sent, 32 << 10},
		"a tunnel nobody reads ": {false, append(plain("CONNECT", "/"), ":protocol", "websocket"), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			come := make(chan struct{})
			_, address := serve(t, h2.Config{ExtendedConnect: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var body io.ReadWriter = struct {
					io.Reader
					io.Writer
				}{r.Body, w}
				if r.Method == http.MethodConnect {
					w.WriteHeader(200)
					tunnel, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					body = tunnel
				}
				<-come // all of it
				if c.reads {
					if _, err := io.ReadFull(body, make([]byte, sent)); err != nil {
						t.Error(err)
					}
				}
				io.WriteString(body, "done")
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})})
			p := rawPreface(t, address)
			first := p.until(is[*http2.SettingsFrame]).(*http2.SettingsFrame)
			if v, _ := first.Value(http2.SettingInitialWindowSize); v != 64<<10 {
				t.Errorf("the first window is %d", v)
			}
			p.check(p.fr.WriteSettings())
			p.check(p.fr.WriteSettingsAck())
			p.headers(1, false, c.head...)
			for range sent / (16 << 10) {
				p.check(p.fr.WriteData(1, false, make([]byte, 16<<10)))
			}
			p.check(p.fr.WritePing(false, [8]byte{1}))
			given := 0
			p.until(func(f http2.Frame) bool {
				switch f := f.(type) {
				case *http2.PingFrame:
					close(come)
				case *http2.WindowUpdateFrame:
					if f.StreamID == 1 {
						given += int(f.Increment)
					}
				}
				return is[*http2.DataFrame](f)
			})
			if given < c.least || given > c.most {
				t.Errorf("%d bytes were given, want %d to %d", given, c.least, c.most)
			}
		})
	}
}
