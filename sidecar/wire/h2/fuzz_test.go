package h2_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// seeds are what a peer might say after its preface.
func seeds() [][]byte {
	var all [][]byte
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	fr.AllowIllegalWrites = true
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, fields := range [][]string{plain("GET", "/"), append(plain("POST", "/x"), "content-length", "4", "trailer", "x"), {":status", "200"}} {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		b.Reset()
		fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		fr.WriteSettingsAck()
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
		fr.WriteDataPadded(1, false, []byte("four"), []byte{0, 0})
		fr.WriteWindowUpdate(1, 100)
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 1, 'x', 1, 'y'}, EndHeaders: true, EndStream: true})
		fr.WritePing(false, [8]byte{})
		fr.WriteRSTStream(1, http2.ErrCodeCancel)
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes()[:1]})
		fr.WriteContinuation(3, true, block.Bytes()[1:])
		fr.WriteGoAway(1, http2.ErrCodeNo, nil)
		all = append(all, bytes.Clone(b.Bytes()))
	}
	return all
}

// FuzzServerFrames: whatever comes after the preface, nothing panics, nobody is
// left waiting, and what is told as flawed was no request.
func FuzzServerFrames(f *testing.F) {
	for _, seed := range seeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, frames []byte) {
		s := h2.NewServer(h2.Config{ExtendedConnect: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.RequestURI, "/") && r.RequestURI != "*" && r.Method != "CONNECT" {
				t.Errorf("a handler got %q", r.RequestURI)
			}
			io.Copy(w, r.Body)
		}), Flawed: func(w http.ResponseWriter, r *http.Request, flaw wire.Flaw) {
			if flaw == wire.FlawNone {
				t.Error("no flaw")
			}
			w.WriteHeader(flaw.Status())
		}})
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.ServeConn(context.Background(), ours)
		}()
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			io.Copy(io.Discard, theirs)
		}()
		theirs.SetWriteDeadline(time.Now().Add(patience))
		io.WriteString(theirs, http2.ClientPreface)
		theirs.Write(frames)
		theirs.Close()
		<-done
		<-drained
	})
}

// FuzzTransportFrames is the same for a server's frames at a client.
func FuzzTransportFrames(f *testing.F) {
	for _, seed := range seeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, frames []byte) {
		var served []chan struct{}
		to := h2.NewTransport(h2.TransportConfig{Dial: func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			done := make(chan struct{})
			served = append(served, done)
			go func() {
				defer close(done)
				drained := make(chan struct{})
				go func() {
					defer close(drained)
					io.Copy(io.Discard, theirs)
				}()
				theirs.Write(frames)
				theirs.Close()
				<-drained
			}()
			return ours, nil
		}})
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for range 2 {
			r, _ := http.NewRequestWithContext(ctx, "POST", "http://h.test/", strings.NewReader("body"))
			if answer, err := to.RoundTrip(r); err == nil {
				if answer.StatusCode < 200 || answer.StatusCode > 999 {
					t.Errorf("status %d", answer.StatusCode)
				}
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
		}
		if err := to.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		for _, done := range served {
			<-done
		}
	})
}
