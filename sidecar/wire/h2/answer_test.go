package h2_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// one serves one handler, and connects to it.
func one(t *testing.T, handler http.HandlerFunc) *raw {
	t.Helper()
	_, address := serve(t, h2.Config{Handler: handler})
	return rawClient(t, address)
}

// One write for a whole short answer: its frames come in one piece, and the end
// is on the last.
func TestAnswer_ShortOneIsHeadAndDataWithTheEnd(t *testing.T) {
	p := one(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "short") })
	p.get(1)
	head := p.wantStatus(1, "200")
	if got := field(head, "content-length"); got != "5" {
		t.Errorf("content-length %q", got)
	}
	if field(head, "date") == "" {
		t.Error("there is no date")
	}
	f, err := p.fr.ReadFrame()
	if d, is := f.(*http2.DataFrame); err != nil || !is || string(d.Data()) != "short" || !d.StreamEnded() {
		t.Errorf("%v %v", f, err)
	}
}

func field(f *http2.MetaHeadersFrame, name string) string {
	for _, f := range f.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func TestAnswer_HEAD_204_304HaveNoBody(t *testing.T) {
	p := one(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.RequestURI {
		case "/":
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "short")
		case "/204":
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(204)
			if _, err := io.WriteString(w, "short"); err != http.ErrBodyNotAllowed {
				t.Error(err)
			}
		case "/304":
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(304)
		}
	})
	for i, c := range []struct{ method, path, status, length string }{
		{"HEAD", "/", "200", "5"}, {"GET", "/204", "204", ""}, {"GET", "/304", "304", "5"},
	} {
		id := uint32(2*i + 1)
		p.headers(id, true, plain(c.method, c.path)...)
		head := p.wantStatus(id, c.status)
		if !head.StreamEnded() || field(head, "content-length") != c.length {
			t.Errorf("%s %s: end %v, length %q", c.method, c.path, head.StreamEnded(), field(head, "content-length"))
		}
	}
}

func TestAnswer_FieldsOfOneHopAndBadOnesAreNotSent(t *testing.T) {
	p := one(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Connection"] = []string{"close"}
		w.Header()["Transfer-Encoding"] = []string{"chunked"}
		w.Header()["X Bad"] = []string{"1"}
		w.Header()["X-Bad"] = []string{"a\r\nb: c"}
		w.Header()["\u212Aelvin"] = []string{"1"}
		w.Header()["Date"] = nil
		w.Header()["X-Good"] = []string{" 1 "}
	})
	p.get(1)
	head := p.wantStatus(1, "200")
	for _, f := range head.Fields {
		if f.Name != ":status" && f.Name != "content-length" && (f.Name != "x-good" || f.Value != "1") {
			t.Errorf("%v was sent", f)
		}
	}
}

func TestAnswer_TrailersAnnouncedOrNot(t *testing.T) {
	p := one(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", "7")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Content-Length", "9") // frames: not sent
	})
	p.get(1)
	if got := field(p.wantStatus(1, "200"), "trailer"); got != "X-Sum" {
		t.Errorf("trailer: %q", got)
	}
	end := p.until(is[*http2.MetaHeadersFrame]).(*http2.MetaHeadersFrame)
	if !end.StreamEnded() || field(end, "x-sum") != "7" || field(end, "grpc-status") != "0" || len(end.Fields) != 2 {
		t.Errorf("%v", end.Fields)
	}
}

// G-02: head and trailers in one.
func TestAnswer_TrailersOnlyIsOneFrame(t *testing.T) {
	p := one(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Grpc-Status", "7") })
	p.get(1)
	if head := p.wantStatus(1, "200"); !head.StreamEnded() || field(head, "grpc-status") != "7" {
		t.Errorf("%v", head)
	}
}

func TestAnswer_ShortOfItsLengthIsReset(t *testing.T) {
	p := one(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "50000")
		w.Write(make([]byte, 20000))
	})
	p.get(1)
	p.wantStatus(1, "200")
	p.until(func(f http2.Frame) bool {
		if d, is := f.(*http2.DataFrame); is && d.StreamEnded() {
			t.Fatal("it looks complete")
		}
		r, is := f.(*http2.RSTStreamFrame)
		return is && r.ErrCode == http2.ErrCodeInternal
	})
}

func TestAnswer_LongerThanItsLengthIsRefused(t *testing.T) {
	got := make(chan error, 1)
	p := one(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "3")
		_, err := io.WriteString(w, "four")
		got <- err
	})
	p.get(1)
	if err := <-got; err != http.ErrContentLength {
		t.Error(err)
	}
	p.wantReset(1, http2.ErrCodeInternal)
}

func TestAnswer_PanicResetsTheStreamOnly(t *testing.T) {
	p := one(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.RequestURI {
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/bug":
			panic("a bug")
		}
		io.WriteString(w, "sings")
	})
	p.headers(1, true, plain("GET", "/abort")...)
	p.wantReset(1, http2.ErrCodeInternal)
	p.headers(3, true, plain("GET", "/bug")...)
	p.wantReset(3, http2.ErrCodeInternal)
	p.canary(5)
}

// G-04, RFC 9113 section 8.1: the client is told that nobody reads on.
func TestAnswer_BeforeTheBodyEndsIsFollowedByAReset(t *testing.T) {
	p := one(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) })
	p.headers(1, false, plain("POST", "/")...)
	p.wantStatus(1, "413")
	r := p.until(is[*http2.RSTStreamFrame]).(*http2.RSTStreamFrame)
	if r.StreamID != 1 || r.ErrCode != http2.ErrCodeNo {
		t.Errorf("%v", r)
	}
	p.check(p.fr.WriteData(1, true, make([]byte, 1000))) // it was on its way: no fault
	p.headers(3, true, plain("GET", "/")...)
	p.wantStatus(3, "413")
}

// S26: 100 is sent when the handler wants the body, and not before.
func TestAnswer_ContinueIsSentWhenTheBodyIsRead(t *testing.T) {
	p := one(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/no" {
			w.WriteHeader(403)
			return
		}
		echo(w, r)
	})
	p.headers(1, false, append(plain("POST", "/no"), "expect", "100-continue")...)
	p.wantStatus(1, "403")
	p.headers(3, false, append(plain("POST", "/"), "expect", "100-continue")...)
	p.wantStatus(3, "100")
	p.check(p.fr.WriteData(3, true, []byte("body")))
	p.wantStatus(3, "200")
}

func TestAnswer_InformationComesThrough(t *testing.T) {
	eachPair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</x>; rel=preload")
		w.WriteHeader(103)
		io.WriteString(w, "body")
	}), func(t *testing.T, to http.RoundTripper) {
		var got []int
		r := request(t, "GET", "http://h.test/", nil)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
			if header.Get("Link") == "" {
				t.Error("without its field")
			}
			got = append(got, status)
			return nil
		}}))
		if answer, body := exchange(t, to, r); answer.StatusCode != 200 || body != "body" || len(got) != 1 || got[0] != 103 {
			t.Errorf("%d %q, and before %v", answer.StatusCode, body, got)
		}
	})
}

// H-88: each flush is seen at once, while the request is still being sent.
func TestAnswer_StreamsBothWaysAtOnce(t *testing.T) {
	eachPair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil && r.ProtoMajor != 2 {
			t.Error(err)
		}
		rc.Flush()
		one := make([]byte, 1)
		for {
			if _, err := io.ReadFull(r.Body, one); err != nil {
				return
			}
			w.Write(one)
			if err := rc.Flush(); err != nil {
				t.Error(err)
			}
		}
	}), func(t *testing.T, to http.RoundTripper) {
		reader, writer := io.Pipe()
		answer, err := to.RoundTrip(request(t, "POST", "http://h.test/", reader))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		one := make([]byte, 1)
		for _, c := range []byte("ping pong") {
			writer.Write([]byte{c})
			if _, err := io.ReadFull(answer.Body, one); err != nil || one[0] != c {
				t.Fatalf("%q came back, %v", one, err)
			}
		}
		writer.Close()
		if n, err := answer.Body.Read(one); n != 0 || err != io.EOF {
			t.Errorf("%d, %v after the end", n, err)
		}
	})
}

func TestAnswer_ReadDeadlineEndsReadingOnly(t *testing.T) {
	late := make(chan struct{})
	p := one(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		close(late)
		rc.SetReadDeadline(time.Time{})
		echo(w, r)
	})
	p.headers(1, false, plain("POST", "/")...)
	<-late
	p.check(p.fr.WriteData(1, true, []byte("late")))
	p.wantStatus(1, "200")
	if d := p.until(is[*http2.DataFrame]).(*http2.DataFrame); string(d.Data()) != "late" {
		t.Errorf("%q", d.Data())
	}
}

func TestAnswer_WriteDeadlineResetsAStalledStream(t *testing.T) {
	failed := make(chan error, 1)
	_, address := serve(t, h2.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := w.Write(make([]byte, 10_000))
		failed <- err
	})})
	p := rawClient(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.get(1)
	p.wantStatus(1, "200")
	p.wantReset(1, http2.ErrCodeCancel)
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestAnswer_ClientGoneIsSeenWhileTheHandlerWorks(t *testing.T) {
	gone := make(chan error, 2)
	handler := func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- context.Cause(r.Context())
	}
	p := one(t, handler)
	p.get(1)
	p.check(p.fr.WriteRSTStream(1, http2.ErrCodeCancel))
	<-gone
	p.get(3)
	p.nc.Close()
	<-gone
}

// U19, RFC 8441.
func TestServer_ExtendedConnect(t *testing.T) {
	_, address := serve(t, h2.Config{ExtendedConnect: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "CONNECT" || r.Header[":protocol"][0] != "websocket" || r.RequestURI != "/ws?x" || r.Host != "h.test" {
			t.Errorf("%s %s %v", r.Method, r.RequestURI, r.Header)
		}
		http.NewResponseController(w).Flush()
		io.Copy(flushed{w}, r.Body)
	})})
	to := transport(t, h2.TransportConfig{Dial: dialer(address)})
	reader, writer := io.Pipe()
	r := request(t, "CONNECT", "http://h.test/ws?x", reader)
	r.Header[":protocol"] = []string{"websocket"}
	answer, err := to.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got := make([]byte, 5)
	writer.Write([]byte("frame"))
	if _, err := io.ReadFull(answer.Body, got); err != nil || string(got) != "frame" {
		t.Errorf("%q %v", got, err)
	}
	writer.Close()
	if rest, err := io.ReadAll(answer.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
}

type flushed struct{ http.ResponseWriter }

func (f flushed) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	http.NewResponseController(f.ResponseWriter).Flush()
	return n, err
}

// U19.
func TestServer_PlainConnectIsTheHandlersToRefuse(t *testing.T) {
	got := make(chan string, 1)
	p := one(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r.Method + " " + r.RequestURI + " " + r.Host
		w.WriteHeader(405)
	})
	p.headers(1, false, ":method", "CONNECT", ":authority", "db.test:5432")
	p.wantStatus(1, "405")
	if saw := <-got; saw != "CONNECT db.test:5432 db.test:5432" {
		t.Error(saw)
	}
}

// H16, H-61, H-62, T14: what the handler must be able to compare is kept.
func TestServer_ShowsRequestsAsReceived(t *testing.T) {
	got := make(chan *http.Request, 1)
	p := one(t, func(w http.ResponseWriter, r *http.Request) { got <- r })
	p.headers(1, true, ":method", "GET", ":scheme", "http", ":authority", "app.test", ":path", "/a%2fb?q=1;2&x", "host", "other.test",
		"cookie", "a=1", "cookie", "b=2", "te", "trailers", "x-obs", "caf\xe9", "x-two", "1", "x-two", "2")
	r := <-got
	if r.URL.Scheme != "http" || r.Host != "app.test" || strings.Join(r.Header["Host"], "|") != "other.test" {
		t.Errorf("scheme %q, host %q beside %q", r.URL.Scheme, r.Host, r.Header["Host"])
	}
	if r.RequestURI != "/a%2fb?q=1;2&x" || r.URL.Path != "/a/b" || r.URL.RawPath != "/a%2fb" || r.URL.RawQuery != "q=1;2&x" {
		t.Errorf("%q: %#v", r.RequestURI, r.URL)
	}
	for key, want := range map[string]string{"Cookie": "a=1; b=2", "Te": "trailers", "X-Obs": "caf\xe9", "X-Two": "1|2"} {
		if got := strings.Join(r.Header[key], "|"); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
	if r.Proto != "HTTP/2.0" || r.ProtoMajor != 2 || r.TLS != nil || r.RemoteAddr == "" || r.ContentLength != 0 || r.Body != http.NoBody {
		t.Errorf("%#v", r)
	}
	p.headers(3, true, ":method", "GET", ":scheme", "http", ":path", "/", "host", "app.test")
	if r := <-got; r.Host != "app.test" || r.Header["Host"] != nil {
		t.Errorf("host %q beside %q", r.Host, r.Header["Host"])
	}
}
