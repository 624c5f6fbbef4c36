package outbound_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends bytes to the call's port, and returns everything that comes of them.
func (w *town) raw(text string) string {
	w.t.Helper()
	c, err := net.Dial("tcp", w.at("orders"))
	must(w.t, err)
	defer c.Close()
	must(w.t, c.SetDeadline(time.Now().Add(patient)))
	_, err = io.WriteString(c, text)
	must(w.t, err)
	answer, err := io.ReadAll(c)
	must(w.t, err)
	return string(answer)
}

// nginx's proxy_pass speaks HTTP/1.0 where nobody tells it otherwise.
func TestOutbound_AppMaySpeakTheOldVersion(t *testing.T) {
	w := newTown(t)
	w.app = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		io.WriteString(rw, r.Proto)
		http.NewResponseController(rw).Flush() // no length
		rw.Write(body)
	})
	for _, text := range []string{
		"GET /orders/7 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
		"POST /orders/7 HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	} {
		got := w.raw(text)
		body := map[bool]string{true: "hello"}[strings.HasPrefix(text, "POST")]
		if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nHTTP/1.1"+body) || strings.Contains(got, "Transfer-Encoding") {
			t.Errorf("%q", got)
		}
		if r := w.records.next(t); r.Reason != "allowed" || r.Status != 200 || r.Peer == "" || r.BytesIn != int64(len(body)) {
			t.Errorf("%+v", r)
		}
	}
}

// S13, S43 and others: what has more than one reading is not the app's to send.
func TestOutbound_FlawedRequestIsRefusedRecordedAndNotDialled(t *testing.T) {
	w := newTown(t)
	const h = "Host: a\r\n"
	for text, reason := range map[string]string{
		"GET /orders/7 HTTP/1.1\nHost: a\n\n":                                                 "request_malformed",
		"POST /orders/7 HTTP/1.0\r\n" + h + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n":     "body_malformed",
		"POST /orders/7 HTTP/1.1\r\n" + h + "Transfer-Encoding: gzip\r\n\r\n":                 "coding_refused",
		"POST /orders/7 HTTP/1.1\r\n" + h + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx": "body_malformed",
		"GET /orders/7 HTTP/1.1\r\n" + h + "X: a\r\n b\r\n\r\n":                               "header_malformed",
		"GET http://other.test/orders/7 HTTP/1.1\r\n" + h + "\r\n":                            "host_mismatch",
		"GET https://a/orders/7 HTTP/1.1\r\n" + h + "\r\n":                                    "target_form",
		"GET /orders/7 HTTP/0.9\r\n" + h + "\r\n":                                             "version_refused",
		"GET /orders/7 HTTP/1.1\r\n\r\n":                                                      "host_malformed",
		"POST /orders/7 HTTP/1.1\r\n" + h + "Content-Length: 1\r\nExpect: something\r\n\r\nx": "expectation_refused",
		"GET /orders/7 HTTP/1.1\r\n" + h + strings.Repeat("X: y\r\n", 101) + "\r\n":           "headers_too_large",
		"GET /" + strings.Repeat("a", 20<<10) + " HTTP/1.1\r\n" + h + "\r\n":                  "target_too_long",
	} {
		got := w.raw(text)
		r := w.records.next(t)
		if r.Reason != reason || r.Verdict != "deny" || r.Call != "orders" || r.Direction != "outbound" {
			t.Errorf("%.60q: %+v", text, r)
		}
		if !strings.Contains(got, "application/problem+json") || !strings.Contains(got, "\r\nConnection: close\r\n") || strings.Count(got, "HTTP/1.1 ") != 1 {
			t.Errorf("%.60q: %q", text, got)
		}
	}
	if len(w.into) != 0 {
		t.Errorf("the peer was asked: %+v", <-w.into)
	}
}
