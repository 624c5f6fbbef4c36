package h1

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

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

// A switch that is under way when the server retires says so all the same.
func TestServer_SwitchWhileRetiringIsWhole(t *testing.T) {
	var s *Server
	ready := make(chan struct{})
	s, client := connectTo(t, handle(func(w http.ResponseWriter, r *http.Request) {
		<-ready
		s.Retire()
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(101)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}))
	close(ready)
	send(t, client, handshake)
	answer, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil || answer.StatusCode != 101 || answer.Header.Get("Connection") != "Upgrade" || answer.Header.Get("Upgrade") != "websocket" {
		t.Error(answer, err)
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
		{strings.Replace(handshake, "Upgrade: websocket\r\n\r\n", "Upgrade: websocket\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", 1), false}, // it was not read
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
