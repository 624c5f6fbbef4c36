package h1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

func handle(f func(w http.ResponseWriter, r *http.Request)) ServerConfig {
	return ServerConfig{Handler: http.HandlerFunc(f)}
}

const nextRequest = "GET /next HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"

// raw sends bytes, the last of which ask for a close, and is all that comes back,
// without Date.
func raw(t *testing.T, config ServerConfig, bytes string) string {
	t.Helper()
	config.Now = func() time.Time { return time.Unix(0, 0) }
	client, server := pipe(t)
	var serving sync.WaitGroup
	serving.Go(func() { NewServer(config).ServeConn(context.Background(), server) })
	send(t, client, bytes)
	all, err := io.ReadAll(client)
	if err != nil && !isReset(err) {
		t.Fatal(err)
	}
	client.Close()
	serving.Wait()
	return strings.ReplaceAll(string(all), "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "")
}

// S55.
func TestServer_PipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	rec := &recorder{}
	client := connect(t, rec.config())
	var bytes strings.Builder
	for i := range 200 { // more than the buffer holds
		fmt.Fprintf(&bytes, "POST /%d HTTP/1.1\r\n%sContent-Length: 5\r\n\r\nhello", i, host)
	}
	send(t, client, bytes.String())
	r := bufio.NewReader(client)
	for i := range 200 {
		if _, body := readAnswer(t, r, "POST"); body != fmt.Sprintf("saw /%d", i) {
			t.Fatalf("%d: %q", i, body)
		}
	}
}

// S26.
func TestServer_BodyThatWasNotAskedForIsNeverARequest(t *testing.T) {
	rec := &recorder{}
	answered := make(chan struct{})
	config := rec.config()
	config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "early")
		close(answered) // a second time would panic
	})
	client := connect(t, config)
	send(t, client, "GET /public/a HTTP/1.1\r\n"+host+"Content-Length: 30\r\nExpect: 100-continue\r\n\r\n")
	<-answered
	r := bufio.NewReader(client)
	answer, body := readAnswer(t, r, "GET")
	if body != "early" || !answer.Close {
		t.Error(body, answer.Close)
	}
	io.WriteString(client, smuggled)
	closed(t, r)
}

// S29.
func TestServer_ExpectedBodyIsAskedForWhenItIsRead(t *testing.T) {
	rec := &recorder{}
	client := connect(t, rec.config())
	r := bufio.NewReader(client)
	for range 200 {
		send(t, client, post("Expect: 100-Continue\r\nContent-Length: 5\r\n", ""))
		line, err := r.ReadString('\n')
		if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatal(line, err)
		}
		r.ReadString('\n')
		send(t, client, "hello")
		if _, body := readAnswer(t, r, "POST"); body != "saw /public/a" {
			t.Fatal(body)
		}
	}
	if saw, _ := rec.seen(); len(saw) != 200 || saw[199].body != "hello" {
		t.Error(len(saw))
	}
}

// S57.
func TestServer_EarlyAnswerArrivesThoughTheClientGoesOnSending(t *testing.T) {
	client := connect(t, handle(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) }))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.WriteString(client, post("Content-Length: 10485760\r\n", repeat("a", 10<<20)))
	}()
	r := bufio.NewReader(client)
	if answer, _ := readAnswer(t, r, "POST"); answer.StatusCode != 413 || !answer.Close {
		t.Error(answer.StatusCode, answer.Close)
	}
	closed(t, r)
	client.Close()
	<-sent
}

func TestServer_LittleThatTheHandlerLeftIsNotTheNextRequest(t *testing.T) {
	for _, c := range []struct{ name, request string }{
		{"length", post("Content-Length: 70000\r\n", repeat(smuggled, 2000)[:70000])},
		{"chunks", post("Transfer-Encoding: chunked\r\n", "11170\r\n"+repeat(smuggled, 2000)[:70000]+"\r\n0\r\n\r\n")},
		{"nothing", post("Content-Length: 0\r\n", "")},
	} {
		var targets []string
		got := raw(t, handle(func(w http.ResponseWriter, r *http.Request) {
			r.Body.Read(make([]byte, 1))
			targets = append(targets, r.RequestURI)
		}), c.request+nextRequest)
		if strings.Count(got, "HTTP/1.1 200 OK") != 2 || fmt.Sprint(targets) != "[/public/a /next]" {
			t.Errorf("%s: %q, %v", c.name, got, targets)
		}
	}
}

func TestServer_MuchThatTheHandlerLeftEndsTheConnection(t *testing.T) {
	body := repeat(smuggled, 10000)[:maxDrain+1]
	for _, request := range []string{
		post(fmt.Sprintf("Content-Length: %d\r\n", len(body)), body),
		post("Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s%s", 2*len(body), body, body)),
	} {
		client := connect(t, handle(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) }))
		go io.WriteString(client, request)
		r := bufio.NewReader(client)
		if _, got := readAnswer(t, r, "POST"); got != "/public/a" {
			t.Error(got)
		}
		closed(t, r)
	}
}

// A transport may read on when the handler has returned.
func TestServer_BodyEndsWithTheHandler(t *testing.T) {
	read := make(chan error, 1)
	got := raw(t, handle(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/next" {
			return
		}
		begun := make(chan struct{})
		go func() {
			close(begun)
			_, err := io.ReadAll(r.Body)
			read <- err
		}()
		<-begun
	}), post("Content-Length: 500\r\n", ""))
	if err := <-read; err == nil {
		t.Error("it read to the end of what never came")
	}
	if strings.Count(got, "HTTP/1.1") != 1 {
		t.Errorf("%q", got)
	}
}

// A body that is kept and read later must not show the next request.
func TestServer_BodyThatIsKeptShowsNothingOfTheNextRequest(t *testing.T) {
	var kept io.ReadCloser
	got := raw(t, handle(func(w http.ResponseWriter, r *http.Request) {
		if kept == nil {
			kept = r.Body
			return
		}
		p := make([]byte, 100)
		if n, err := kept.Read(p); n > 0 || err == nil {
			t.Errorf("%q, %v", p[:n], err)
		}
		if body, err := io.ReadAll(r.Body); string(body) != "mine" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	}), post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")+post("Content-Length: 4\r\nConnection: close\r\n", "mine"))
	if strings.Count(got, "HTTP/1.1 200") != 2 {
		t.Errorf("%q", got)
	}
}

// A connection that is closed with unread bytes in it takes the answer with it.
func TestServer_AnswerOutlivesWhatIsNotRead(t *testing.T) {
	for range 20 {
		client := connect(t, handle(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) }))
		send(t, client, post("Content-Length: 2097152\r\n", repeat("a", 2<<20)))
		r := bufio.NewReader(client)
		if answer, _ := readAnswer(t, r, "POST"); answer.StatusCode != 413 {
			t.Error(answer.StatusCode)
		}
		if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil { // a reset, and elsewhere than here the answer would be lost
			t.Errorf("%q, %v", rest, err)
		}
		client.Close()
	}
}

func TestServer_ClientsEndIsSeenWhileTheHandlerWorks(t *testing.T) {
	for _, c := range []struct{ name, request string }{
		{"no body", get("")},
		{"body read", post("Content-Length: 5\r\n", "hello")},
		{"chunks read", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")},
		{"pipelined behind it", get("") + get("")},
	} {
		t.Run(c.name, func(t *testing.T) {
			entered, left := make(chan struct{}, 2), make(chan error, 2)
			client := connect(t, handle(func(w http.ResponseWriter, r *http.Request) {
				io.ReadAll(r.Body)
				entered <- struct{}{}
				<-r.Context().Done()
				left <- context.Cause(r.Context())
			}))
			send(t, client, c.request)
			<-entered
			client.Close()
			if err := <-left; err != context.Canceled {
				t.Error(err)
			}
		})
	}
}

// Longer than anybody's patience.
func TestServer_WhatComesWhileTheHandlerWorksIsTheNextRequest(t *testing.T) {
	entered, leave := make(chan string), make(chan struct{})
	client := connect(t, handle(func(w http.ResponseWriter, r *http.Request) {
		entered <- r.RequestURI
		<-leave
		if err := r.Context().Err(); err != nil {
			t.Error(err)
		}
		io.WriteString(w, r.RequestURI)
	}))
	send(t, client, get(""))
	<-entered
	for i := range 3 {
		// The next one comes in pieces while this one is under way: read ahead.
		for _, b := range strings.SplitAfter(fmt.Sprintf("GET /%d HTTP/1.1\r\n%s\r\n", i, host), "\n") {
			send(t, client, b)
			time.Sleep(2 * patience / 3) // the time itself is what is tested
		}
		leave <- struct{}{}
		if got := <-entered; got != fmt.Sprintf("/%d", i) {
			t.Error(got)
		}
	}
	leave <- struct{}{}
}

func TestServer_ContextEndsWithTheHandler(t *testing.T) {
	contexts := make(chan context.Context, 1)
	raw(t, handle(func(w http.ResponseWriter, r *http.Request) { contexts <- r.Context() }), nextRequest)
	if err := (<-contexts).Err(); err != context.Canceled {
		t.Error(err)
	}
}

// HTTP/1.0 comes from the app only, and each time with the connection's end.
func TestServer_HTTP10IsAnsweredWithAClose(t *testing.T) {
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"plain", "GET / HTTP/1.0\r\n" + host + "\r\n", 200},
		{"keep-alive", "GET / HTTP/1.0\r\n" + host + "Connection: keep-alive\r\n\r\n", 200},
		{"expectation ignored", "POST / HTTP/1.0\r\n" + host + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nok", 200},
		{"S13", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501},
		{"1.2 is not 1.0", "GET / HTTP/1.2\r\n" + host + "\r\n", 505},
	} {
		rec := &recorder{}
		config := rec.config()
		config.HTTP10 = true
		client := connect(t, config)
		send(t, client, c.request+smuggled)
		r := bufio.NewReader(client)
		answer, _ := readAnswer(t, r, "GET")
		if answer.StatusCode != c.status || !answer.Close || len(answer.TransferEncoding) > 0 {
			t.Errorf("%s: %d", c.name, answer.StatusCode)
		}
		closed(t, r)
	}
}

func TestServer_FlawWithoutAnyoneToTellHasItsStatus(t *testing.T) {
	if got := raw(t, ServerConfig{}, "GET / HTTP/1.1\r\n\r\n"); got != "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" {
		t.Errorf("%q", got)
	}
}

func TestServer_FlawedRequestIsShownAsFarAsItWasRead(t *testing.T) {
	for _, c := range []struct {
		request, method, target, header string
	}{
		{"GET /a HTTP/1.1\r\n" + host + "X: 1\r\nY : 2\r\n\r\n", "GET", "/a", "1"},
		{"GET /a HTTP/1.1\r\nX: 1\r\n\r\n", "GET", "/a", "1"},
		{"GET /a HTTP/1.0\r\nX: 1\r\n\r\n", "GET", "/a", "1"},
		{"G@T /a HTTP/1.1\r\nX: 1\r\n\r\n", "", "/a", "1"},
		{"GET /a\r\nX: 1\r\n\r\n", "", "", "1"},
		{"GET /a HTTP/1.1\nX: 1\r\n\r\n", "", "", ""},
	} {
		var got *http.Request
		config := ServerConfig{Flawed: func(w http.ResponseWriter, r *http.Request, _ wire.Flaw) { got = r }}
		raw(t, config, c.request)
		if got == nil || got.Method != c.method || got.RequestURI != c.target || got.Header.Get("X") != c.header ||
			got.URL == nil || got.RemoteAddr == "" || got.TLS != nil || got.Body != http.NoBody || got.ContentLength != 0 {
			t.Errorf("%q: %+v", c.request, got)
		}
	}
}

// S22: how much is too much is the handler's to say, and it costs nothing.
func TestServer_LargestLengthIsShown(t *testing.T) {
	var length int64
	got := raw(t, handle(func(w http.ResponseWriter, r *http.Request) {
		length = r.ContentLength
		w.WriteHeader(413)
	}), post("Content-Length: 9223372036854775807\r\n", ""))
	if length != 1<<63-1 || got != "HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" {
		t.Errorf("%d, %q", length, got)
	}
}

// What is no HTTP at all need not end a line to be refused.
func TestServer_RefusesTLSWhereThereIsNone(t *testing.T) {
	if got := raw(t, ServerConfig{}, "\x16\x03\x01"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("%q", got)
	}
}

func TestServer_ZeroServesNothing(t *testing.T) {
	client, server := pipe(t)
	new(Server).ServeConn(context.Background(), server)
	closed(t, bufio.NewReader(client))
	if got := raw(t, ServerConfig{}, nextRequest); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
		t.Errorf("%q", got)
	}
}
