package h1

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// secure serves on TLS until the test ends.
func secure(t *testing.T, config ServerConfig) (dial func(context.Context) (net.Conn, error), made *atomic.Int32) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(config)
	made = new(atomic.Int32)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			made.Add(1)
			serving.Go(func() {
				if c.(*tls.Conn).Handshake() == nil {
					s.ServeConn(context.Background(), c)
				}
			})
		}
	})
	t.Cleanup(func() {
		s.Retire()
		ln.Close()
		serving.Wait()
	})
	return func(context.Context) (net.Conn, error) {
		return tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	}, made
}

func TestTLS_OneConnectionCarriesManyRequests(t *testing.T) {
	dial, made := secure(t, handle(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			t.Error("who the client is, is the connection's to say")
		}
		io.Copy(w, r.Body)
	}))
	to := NewTransport(TransportConfig{Dial: dial})
	defer to.Close()
	for _, size := range []int{0, 1, 4000, 5000, 100, 8000, 3} {
		content := repeat("a", size)
		if _, body := mustTrip(t, to, newRequest(t, "POST", "/", strings.NewReader(content))); body != content {
			t.Errorf("%d bytes of %d", len(body), size)
		}
	}
	if made.Load() != 1 {
		t.Errorf("%d connections", made.Load())
	}
}

// S57, on TLS.
func TestTLS_EarlyAnswerArrivesThoughTheClientGoesOnSending(t *testing.T) {
	dial, _ := secure(t, handle(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) }))
	client, err := dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	client.SetDeadline(time.Now().Add(longest))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.WriteString(client, post("Content-Length: 10485760\r\n", repeat("a", 10<<20)))
	}()
	if answer, _ := readAnswer(t, bufio.NewReader(client), "POST"); answer.StatusCode != 413 {
		t.Error(answer.StatusCode)
	}
	client.Close()
	<-sent
}

func TestTLS_ClientsEndIsSeenWhileTheHandlerWorks(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	dial, _ := secure(t, handle(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	}))
	client, err := dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	send(t, client, get(""))
	<-entered
	client.Close()
	<-left
}

// wrapped is a connection as a listener hands it out.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

func TestVectored_IsOnlyWhatChangesNothing(t *testing.T) {
	client, _ := pipe(t)
	in, _ := net.Pipe()
	for _, c := range []struct {
		conn net.Conn
		want bool
	}{
		{client, true},
		{wrapped{client}, true},
		{wrapped{wrapped{client}}, true},
		{struct{ net.Conn }{client}, false},
		{tls.Client(client, &tls.Config{}), false},
		{wrapped{tls.Client(client, &tls.Config{})}, false},
		{in, false},
	} {
		if got := vectored(c.conn); (got == client) != c.want || (got == nil) == c.want {
			t.Errorf("%T: %v", c.conn, got)
		}
	}
}

func TestLargeAnswers_ArriveWholeHoweverTheyAreWritten(t *testing.T) {
	content := make([]byte, 300000)
	for i := range content {
		content[i] = byte(i * 7 / 3)
	}
	for _, wrap := range []func(net.Conn) net.Conn{
		func(c net.Conn) net.Conn { return c },                     // vectored
		func(c net.Conn) net.Conn { return wrapped{c} },            // vectored too
		func(c net.Conn) net.Conn { return struct{ net.Conn }{c} }, // not
	} {
		for _, declared := range []string{"", "300000"} {
			client, server := pipe(t)
			var serving sync.WaitGroup
			serving.Go(func() {
				NewServer(handle(func(w http.ResponseWriter, r *http.Request) {
					if declared != "" {
						w.Header().Set("Content-Length", declared)
					}
					for rest := content; len(rest) > 0; rest = rest[min(32<<10, len(rest)):] {
						w.Write(rest[:min(32<<10, len(rest))])
					}
				})).ServeConn(context.Background(), wrap(server))
			})
			send(t, client, nextRequest)
			if _, body := readAnswer(t, bufio.NewReader(client), "GET"); body != string(content) {
				t.Errorf("%d bytes", len(body))
			}
			serving.Wait()
		}
	}
}
