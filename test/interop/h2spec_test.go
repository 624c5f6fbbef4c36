package interop

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// exceptions are the cases of h2spec that we fail, and why.
var exceptions = map[string]string{
	"http2/6.5.3/1": "a SETTINGS frame with one setting twice is refused (T24): nobody needs it, and which value counts is what an attacker may hope to see read in two ways",
}

// T01: h2spec has no client certificate, so that a forwarder stands before it.
func TestInbound_PassesH2spec(t *testing.T) {
	m := newMesh(t)
	app := m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "an answer of some length")
	}), false)
	orders := m.join("orders", ordersPolicy("http://"+app))
	host, port, err := net.SplitHostPort(originate(t, orders.Addr("inbound").String(), m.tls("web", "h2")))
	must(t, err)
	number, err := strconv.Atoi(port)
	must(t, err)
	c := &config.Config{Host: host, Port: number, Path: "/a/7", Timeout: 3 * time.Second, MaxHeaderLen: 4000, Strict: true}
	ran := 0
	t.Run("", func(t *testing.T) {
		for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
			ran += runSpec(t, c, group)
		}
	})
	if ran < 140 {
		t.Errorf("only %d cases ran", ran)
	}
	t.Logf("%d cases of h2spec, %d of them excepted", ran, len(exceptions))
}

func runSpec(t *testing.T, c *config.Config, group *spec.TestGroup) (ran int) {
	for i, test := range append(group.Tests, group.StrictTests...) {
		ran++
		id := group.ID() + "/" + strconv.Itoa(i+1)
		t.Run(id, func(t *testing.T) {
			if why := exceptions[id]; why != "" {
				t.Skip(why)
			}
			t.Parallel()
			conn, err := spec.Dial(c)
			must(t, err)
			defer conn.Close()
			if err := test.Run(c, conn); err != nil && !errors.Is(err, spec.ErrSkipped) {
				t.Errorf("%s: %v", test.Desc, err)
			}
		})
	}
	for _, sub := range group.Groups {
		ran += runSpec(t, c, sub)
	}
	return ran
}

// originate passes bytes from a plain port on through TLS, until the test ends.
func originate(t testing.TB, to string, config *tls.Config) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			plain, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[plain] = true
			mu.Unlock()
			conns.Go(func() {
				defer plain.Close()
				secure, err := tls.Dial("tcp", to, config)
				if err != nil {
					t.Errorf("the forwarder cannot reach the sidecar: %v", err)
					return
				}
				defer secure.Close()
				conns.Go(func() { // ends when the other way does
					_, _ = io.Copy(secure, plain)
					_ = secure.CloseWrite()
				})
				_, _ = io.Copy(plain, secure)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for plain := range open {
			_ = plain.Close()
		}
		mu.Unlock()
		conns.Wait()
	})
	return ln.Addr().String()
}
