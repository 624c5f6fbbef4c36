package h1

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

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
