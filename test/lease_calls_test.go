package test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/everyhop/everyhop/identity/dev"
)

// callee is somebody that web calls: a server of HTTP/2 and one of bytes, with an
// SVID of their own, which say when the connections that they have end.
type callee struct {
	http, bytes string
	conn, relay *stay
}

func newCallee(t *testing.T, svid *dev.SVID) *callee {
	t.Helper()
	c := &callee{conn: newStay(), relay: newStay()}
	config := &tls.Config{Certificates: []tls.Certificate{svid.TLS()}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"}}
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	plainHTTP, plainBytes := listen(), listen()
	c.http, c.bytes = plainHTTP.Addr().String(), plainBytes.Addr().String()
	life := t.Context()
	server := &http.Server{TLSConfig: config.Clone(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sayOn(life, w, r) })}
	var running sync.WaitGroup
	running.Go(func() { _ = server.ServeTLS(notingListener{plainHTTP, c.conn}, "", "") })
	bytes := config.Clone()
	bytes.NextProtos = []string{"everyhop-tcp"}
	running.Go(func() {
		raw, err := plainBytes.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		_, err = io.Copy(io.Discard, tls.Server(raw, bytes))
		c.relay.end(fmt.Sprint(err))
	})
	t.Cleanup(func() { _ = server.Close(); _ = plainBytes.Close(); running.Wait() })
	return c
}

// notingListener notes the end of its first connection.
type notingListener struct {
	net.Listener
	first *stay
}

func (l notingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &noting{Conn: c, ended: sync.OnceFunc(func() {
		if !l.first.over() {
			l.first.end("closed")
		}
	})}, nil
}

// The same on the way out: what the app has open ends with what let it call.
func TestLease_CallsEndWithWhatAllowedThem(t *testing.T) {
	const atOnce, drained = time.Second, 5 * time.Second
	for _, c := range []struct {
		event  string
		most   time.Duration
		change func(m *mesh, web *member, partner *dev.Domain, policy func(more string, calls bool) string)
		edit   func(*x509.Certificate)
		reason string
	}{
		{"ban", atOnce, func(_ *mesh, web *member, _ *dev.Domain, policy func(string, bool) string) {
			web.write(policy("ban: ["+shop+"]\n", true))
			check(t, web.Reload())
		}, nil, "peer_banned"},
		{"bundle removal", atOnce, func(m *mesh, _ *member, partner *dev.Domain, _ func(string, bool) string) {
			m.domain.Unfederate(partner.TrustDomain())
		}, nil, "peer_unverified"},
		{"peer expiry", atOnce, nil, func(leaf *x509.Certificate) { leaf.NotAfter = time.Now().Add(3 * time.Second) }, "peer_expired"},
		{"the call is removed", drained, func(_ *mesh, web *member, _ *dev.Domain, policy func(string, bool) string) {
			web.write(policy("", false))
			check(t, web.Reload())
		}, nil, "route_undeclared"},
	} {
		t.Run(c.event, func(t *testing.T) {
			m := newMesh(t, "web")
			partner, err := dev.Open(m.dir+"/partner", dev.Options{TrustDomain: "partner.test"})
			check(t, err)
			t.Cleanup(func() { _ = partner.Close() })
			check(t, m.domain.Federate(partner.Dir()))
			var edits []func(*x509.Certificate)
			if c.edit != nil {
				edits = append(edits, c.edit)
			}
			svid, err := partner.Mint("shop", edits...)
			check(t, err)
			to := newCallee(t, svid)
			local, bytes, other := freeAddress(t), freeAddress(t), freeAddress(t)
			policy := func(more string, calls bool) string {
				text := fmt.Sprintf("service: spiffe://example.org/web\n%scalls:\n  other: {as: spiffe://partner.test/other, at: \"127.0.0.1:1\", local: %q, allow: [GET /a]}\n", more, other)
				if calls {
					text += fmt.Sprintf("  shop: {as: %s, at: %q, local: %q, allow: [POST /stream]}\n  db: {as: %s, at: %q, local: %q, tcp: true}\n", shop, to.http, local, shop, to.bytes, bytes)
				}
				return text
			}
			web := m.join("web", policy("", true))
			answer, err := http.Post("http://"+local+"/stream", "text/plain", nil)
			check(t, err)
			if answer.StatusCode != http.StatusOK {
				t.Fatal(answer.Status)
			}
			stream := newStay()
			go func() {
				defer answer.Body.Close()
				_, err := io.Copy(io.Discard, answer.Body)
				stream.end(fmt.Sprint(err))
			}()
			_, err = io.WriteString(plain(t, bytes), "hello")
			check(t, err)
			eventually(t, "both to be open", func() bool { return tunnels(t, web) == 1 })

			event := svid.Certificates[0].NotAfter
			if c.change != nil {
				event = time.Now()
				c.change(m, web, partner, policy)
			}
			for kind, stay := range map[string]*stay{"stream": stream, "connection": to.conn, "TCP relay": to.relay} {
				select {
				case <-stay.ended:
				case <-time.After(patience):
					t.Errorf("%s: the %s never ended", c.event, kind)
					continue
				}
				took := stay.at.Sub(event)
				t.Logf("%s: the %s ended after %v: %s", c.event, kind, took.Round(time.Millisecond), stay.how)
				if took > c.most || stay.how == "<nil>" && kind == "stream" {
					t.Errorf("%s: the %s ended after %v, %s", c.event, kind, took, stay.how)
				}
			}
			ended := map[string]int{}
			for _, r := range web.stopAndRead() {
				ended[r.Reason]++
			}
			if ended[c.reason] != 2 || len(ended) != 1 {
				t.Errorf("%s: the records say %v, want %s of both", c.event, ended, c.reason)
			}
		})
	}
}

func check(t *testing.T, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}
