package h1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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

// What the end of an answer is told by: RFC 9112 section 6.3, H-47.
func TestServer_FramesAnswers(t *testing.T) {
	write := func(status int, body string, fields ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			for _, field := range fields {
				name, value, _ := strings.Cut(field, ": ")
				w.Header().Add(name, value)
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	flushed := func(first, second string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			io.WriteString(w, first)
			http.NewResponseController(w).Flush()
			io.WriteString(w, second)
		}
	}
	big := repeat("a", 5000)
	for _, c := range []struct {
		name, method, version string
		write                 func(http.ResponseWriter)
		want                  string
	}{
		{"nothing written", "GET", "1.1", func(http.ResponseWriter) {}, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"short", "GET", "1.1", write(200, "ok"), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"length said", "GET", "1.1", write(201, "ok", "Content-Length: 2"), "HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"length malformed", "GET", "1.1", write(200, "ok", "Content-Length: +2"), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"coding is ours to say", "GET", "1.1", write(200, "ok", "Transfer-Encoding: gzip"), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"flushed", "GET", "1.1", flushed("ab", "cde"), "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"},
		{"flushed empty", "GET", "1.1", flushed("", "cde"), "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncde\r\n0\r\n\r\n"},
		{"large", "GET", "1.1", write(200, big), "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + big + "\r\n0\r\n\r\n"},
		{"large, length said", "GET", "1.1", write(200, big, "Content-Length: 5000"), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n" + big},
		{"HEAD", "HEAD", "1.1", write(200, "ok"), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"},
		{"HEAD, nothing", "HEAD", "1.1", write(200, ""), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"},
		{"HEAD, length said", "HEAD", "1.1", write(200, "", "Content-Length: 7"), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\n"},
		{"HEAD flushed", "HEAD", "1.1", flushed("ab", "cde"), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"},
		{"HEAD large", "HEAD", "1.1", write(200, big), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n"},
		{"204", "GET", "1.1", write(204, "ok", "Content-Length: 2"), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"},
		{"304", "GET", "1.1", write(304, "ok"), "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n"},
		{"304, length said", "GET", "1.1", write(304, "ok", "Content-Length: 7"), "HTTP/1.1 304 Not Modified\r\nConnection: close\r\nContent-Length: 7\r\n\r\n"},
		{"1.0 short", "GET", "1.0", write(200, "ok"), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"1.0 flushed", "GET", "1.0", flushed("ab", "cde"), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde"},
		{"1.0 large", "GET", "1.0", write(200, big), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + big},
		{"longer than said", "GET", "1.1", write(200, "okay", "Content-Length: 2"), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"},
		{"status that is none", "GET", "1.1", write(99, "ok"), "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"U07 switch not asked for", "GET", "1.1", write(101, ""), "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"H23 value of two fields", "GET", "1.1", write(200, "ok", "X: a\r\nX-Admin: 1"), "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"name of two fields", "GET", "1.1", write(200, "ok", "X\r\nY: a"), "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"103", "GET", "1.1", func(w http.ResponseWriter) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			w.Header().Del("Link")
			io.WriteString(w, "ok")
		}, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"1.0 has no 103", "GET", "1.0", func(w http.ResponseWriter) { w.WriteHeader(103); io.WriteString(w, "ok") }, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"trailer with prefix", "GET", "1.1", func(w http.ResponseWriter) {
			io.WriteString(w, "ok")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
			w.Header().Set(http.TrailerPrefix+"Content-Length", "1")
		}, "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{"trailer announced", "GET", "1.1", func(w http.ResponseWriter) {
			w.Header().Set("Trailer", "X-Sum, Host")
			w.Header().Set("Content-Length", "2")
			io.WriteString(w, "ok")
			w.Header().Set("X-Sum", "1")
		}, "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{"1.0 has no trailer", "GET", "1.0", func(w http.ResponseWriter) {
			io.WriteString(w, "ok")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		}, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := handle(func(w http.ResponseWriter, r *http.Request) { c.write(w) })
			config.HTTP10 = true
			got := raw(t, config, c.method+" / HTTP/"+c.version+"\r\n"+host+"Connection: close\r\n\r\n")
			if got != c.want {
				t.Errorf("%.400q", got)
			}
		})
	}
}

func TestServer_LargeAnswersArriveWhole(t *testing.T) {
	for _, step := range []int{1, 100, 4000, 4096, 5000, 40000} {
		content := make([]byte, 200000)
		for i := range content {
			content[i] = byte(i * 7 / 3)
		}
		client := connect(t, handle(func(w http.ResponseWriter, r *http.Request) {
			for rest := content; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				w.Write(rest[:min(step, len(rest))])
			}
		}))
		send(t, client, get("Connection: close\r\n"))
		if _, body := readAnswer(t, bufio.NewReader(client), "GET"); body != string(content) {
			t.Errorf("in steps of %d: %d bytes", step, len(body))
		}
	}
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

func TestServer_AbortedAnswerNeverLooksWhole(t *testing.T) {
	var told []any
	config := handle(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "part")
		if r.Method == "POST" {
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		panic("a fault")
	})
	config.Panicked = func(value any) { told = append(told, value) }
	if got := raw(t, config, post("", "")); !strings.HasSuffix(got, "4\r\npart\r\n") {
		t.Errorf("%q", got)
	}
	if got := raw(t, config, get("")); got != "" {
		t.Errorf("%q", got)
	}
	if fmt.Sprint(told) != "[a fault]" {
		t.Error(told)
	}
}

func TestServer_AnswerShorterThanItsLengthEndsTheConnection(t *testing.T) {
	got := raw(t, handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "9")
		io.WriteString(w, "part")
	}), get("")+get(""))
	if !strings.HasSuffix(got, "\r\n\r\npart") || strings.Count(got, "HTTP/1.1") != 1 {
		t.Errorf("%q", got)
	}
}

const handshake = "GET /ws HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

// U10.
func TestServer_HijackedConnectionKeepsWhatCameEarly(t *testing.T) {
	for _, how := range []string{"connection", "reader"} {
		client := connect(t, handle(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
			w.WriteHeader(101)
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				defer conn.Close()
				if how == "reader" {
					io.Copy(conn, rw)
				} else {
					io.Copy(conn, conn)
				}
			}()
		}))
		send(t, client, handshake+"first frame")
		r := bufio.NewReader(client)
		answer, err := http.ReadResponse(r, nil)
		if err != nil || answer.StatusCode != 101 || answer.Header.Get("Upgrade") != "websocket" || answer.Header.Get("Connection") != "Upgrade" {
			t.Fatal(answer, err)
		}
		send(t, client, ", and more")
		got := make([]byte, len("first frame, and more"))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != "first frame, and more" {
			t.Errorf("%s: %q, %v", how, got, err)
		}
	}
}

// U06, U09.
func TestServer_UpgradeThatWasNotGivenIsFollowedByARequest(t *testing.T) {
	for _, status := range []int{200, 426} {
		var saw []string
		got := raw(t, handle(func(w http.ResponseWriter, r *http.Request) {
			saw = append(saw, r.RequestURI)
			w.WriteHeader(status)
		}), handshake+nextRequest)
		if fmt.Sprint(saw) != "[/ws /next]" || strings.Count(got, fmt.Sprintf("HTTP/1.1 %d", status)) != 2 {
			t.Errorf("%q, %v", got, saw)
		}
	}
}

func TestServer_HijackIsOnlyForWhoAsked(t *testing.T) {
	for _, c := range []struct {
		request string
		ok      bool
	}{
		{get("Connection: close\r\n"), false},
		{get("Connection: close\r\nUpgrade: websocket\r\n"), false},
		{get("Connection: close, upgrade\r\n"), false},
		{handshake, true},
		{line("CONNECT app.test:443 HTTP/1.1"), true},
	} {
		raw(t, handle(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if (err == nil) != c.ok {
				t.Errorf("%q: %v", c.request, err)
			}
			if err == nil {
				conn.Close()
				if _, err := w.Write(nil); err == nil {
					t.Error("written to what is gone")
				}
			}
		}), c.request)
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

func TestRetire_EndsIdleConnectionsAtOnceAndOthersWithTheirAnswer(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	config := handle(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-leave
		io.WriteString(w, "done")
	})
	s, busy := connectTo(t, config)
	send(t, busy, get("")+get(""))
	<-entered
	s.Retire()
	leave <- struct{}{}
	r := bufio.NewReader(busy)
	if answer, body := readAnswer(t, r, "GET"); body != "done" || !answer.Close {
		t.Error(body, answer.Close)
	}
	closed(t, r)

	s, idle := connectTo(t, config)
	send(t, idle, get(""))
	<-entered
	leave <- struct{}{}
	r = bufio.NewReader(idle)
	readAnswer(t, r, "GET")
	s.Retire()
	closed(t, r)
}

func TestServeConn_EndsWithItsContext(t *testing.T) {
	client, server := pipe(t)
	ctx, cancel := context.WithCancel(context.Background())
	entered := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		NewServer(handle(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		})).ServeConn(ctx, server)
	})
	send(t, client, get(""))
	<-entered
	cancel()
	serving.Wait()
	closed(t, bufio.NewReader(client))
}

// timed serves one end of a pipe in a bubble of its own time.
func timed(t *testing.T, config ServerConfig, client func(t *testing.T, c net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		c, server := net.Pipe()
		var serving sync.WaitGroup
		serving.Go(func() { NewServer(config).ServeConn(context.Background(), server) })
		client(t, c)
		c.Close()
		serving.Wait()
	})
}

// R15.
func TestServer_SlowHeadIsCut(t *testing.T) {
	var flaws []wire.Flaw
	config := ServerConfig{Flawed: func(w http.ResponseWriter, r *http.Request, flaw wire.Flaw) { flaws = append(flaws, flaw) }}
	timed(t, config, func(t *testing.T, c net.Conn) {
		start := time.Now()
		var sending sync.WaitGroup
		defer sending.Wait()
		defer c.Close()
		sending.Go(func() {
			for _, b := range []byte(get("")) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		})
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.StatusCode != 408 || time.Since(start) > defaultHeadTime+time.Second {
			t.Error(answer, err, time.Since(start))
		}
	})
	if len(flaws) != 1 || flaws[0] != wire.FlawSlow {
		t.Error(flaws)
	}
}

func TestServer_IdleConnectionIsClosedWithoutAWord(t *testing.T) {
	config := handle(answerShortly)
	config.Flawed = func(http.ResponseWriter, *http.Request, wire.Flaw) { t.Error("nothing was wrong") }
	for _, c := range []struct {
		requests int
		after    time.Duration
	}{{0, defaultHeadTime}, {1, defaultIdle}, {3, defaultIdle}} {
		timed(t, config, func(t *testing.T, conn net.Conn) {
			r := bufio.NewReader(conn)
			for range c.requests {
				send(t, conn, get(""))
				readAnswer(t, r, "GET")
				time.Sleep(700 * time.Millisecond)
			}
			start := time.Now().Add(-700 * time.Millisecond)
			if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
				t.Error(rest, err)
			}
			if took := time.Since(start); took < c.after-slack || took > c.after+slack {
				t.Errorf("after %d requests: %v", c.requests, took)
			}
		})
	}
}

// R16.
func TestServer_BodyWithoutProgressIsCut(t *testing.T) {
	var got error
	config := handle(func(w http.ResponseWriter, r *http.Request) { _, got = io.ReadAll(r.Body) })
	timed(t, config, func(t *testing.T, c net.Conn) {
		start := time.Now()
		send(t, c, post("Content-Length: 5\r\n", "he"))
		readAnswer(t, bufio.NewReader(c), "POST")
		if took := time.Since(start); took < defaultStall-slack || took > defaultStall+slack {
			t.Error(took)
		}
	})
	if late, ok := got.(net.Error); !ok || !late.Timeout() {
		t.Error(got)
	}
}

// R17.
func TestServer_ClientThatTakesNothingIsCut(t *testing.T) {
	var got error
	config := handle(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		for got == nil {
			_, got = w.Write(make([]byte, 32<<10))
		}
		if took := time.Since(start); took < defaultStall-slack || took > defaultStall+slack {
			t.Error(took)
		}
		if r.Context().Err() == nil {
			t.Error("the request goes on")
		}
	})
	timed(t, config, func(t *testing.T, c net.Conn) {
		send(t, c, get(""))
		time.Sleep(2 * defaultStall)
	})
	if late, ok := got.(net.Error); !ok || !late.Timeout() {
		t.Error(got)
	}
}

func TestServer_DeadlinesThatTheHandlerSetsHold(t *testing.T) {
	config := handle(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		for _, limit := range []time.Duration{time.Second, 100 * time.Millisecond, 3 * time.Second} {
			start := time.Now()
			if err := rc.SetReadDeadline(start.Add(limit)); err != nil {
				t.Error(err)
			}
			r.Body.(*requestBody).err = nil // try again
			if _, err := r.Body.Read(make([]byte, 1)); err == nil {
				t.Error("something was read")
			}
			if took := time.Since(start); took > limit || took < limit-limit/8 {
				t.Errorf("%v took %v", limit, took)
			}
		}
		if err := rc.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		w.Header().Set("Connection", "close")
	})
	timed(t, config, func(t *testing.T, c net.Conn) {
		send(t, c, post("Content-Length: 5\r\n", ""))
		io.ReadAll(c)
	})
}
