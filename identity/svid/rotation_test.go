package svid_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/identity/dev"
	"github.com/everyhop/everyhop/identity/svid"
)

// domain is a development trust domain with these workloads on their sockets.
func domain(t *testing.T, name string, workloads ...string) *dev.Domain {
	t.Helper()
	dir, err := os.MkdirTemp("", "td")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d, err := dev.Open(filepath.Join(dir, "d"), dev.Options{TrustDomain: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Serve(workloads...); err != nil {
		t.Fatal(err)
	}
	return d
}

func source(t *testing.T, d *dev.Domain, name, identity string) *svid.Source {
	t.Helper()
	id, err := d.ID(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := svid.Open(t.Context(), svid.Config{Identity: identity, Service: id, Named: func(spiffeid.TrustDomain) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// echo answers each verified connection with its peer's ID.
func echo(t *testing.T, config *tls.Config) string {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				if conn := c.(*tls.Conn); conn.Handshake() == nil {
					if peer, err := svid.PeerOf(conn.ConnectionState()); err == nil {
						io.WriteString(conn, peer.ID.String())
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func ask(address string, config *tls.Config) (string, error) {
	c, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 20 * time.Second}, Config: config}).Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	text, err := io.ReadAll(c)
	if err == nil && len(text) == 0 {
		err = errors.New("no answer")
	}
	return string(text), err
}

func until(t *testing.T, s *svid.Source, what string, is func(svid.Status) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		updated := s.Updated()
		if is(s.Status()) {
			return
		}
		select {
		case <-updated:
		case <-deadline:
			t.Fatalf("never saw: %s; status is %+v", what, s.Status())
		}
	}
}

// X35, RT01: SVIDs and authorities rotate while handshakes go on.
func TestRotation_NoHandshakeFails(t *testing.T) {
	d := domain(t, "td.test", "web", "orders")
	web, orders := source(t, d, "web", d.Socket("web")), source(t, d, "orders", d.Socket("orders"))
	ordersID, _ := d.ID("orders")
	address := echo(t, orders.ServerConfig([]string{"h2"}, false))
	client := web.ClientConfig(ordersID, []string{"h2"}, false)
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 2 {
		callers.Add(1)
		go func() {
			defer callers.Done()
			for {
				if got, err := ask(address, client); err != nil || got != "spiffe://td.test/web" {
					t.Errorf("answered %q, error %v", got, err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
	rotate := func(do func() error) {
		t.Helper()
		before := map[*svid.Source]string{web: web.Status().Serial, orders: orders.Status().Serial}
		if err := do(); err != nil {
			t.Error(err)
		}
		for s, serial := range before {
			until(t, s, "a new serial", func(s svid.Status) bool { return s.Serial != serial })
		}
	}
	for range 30 {
		rotate(func() error { return d.Rotate() })
	}
	close(stop)
	callers.Wait()
	rotate(d.RotateCA)
	if _, err := ask(address, client); err != nil {
		t.Fatalf("after a new authority: %v", err)
	}
}

func TestFederation_BothWaysOrNotAtAll(t *testing.T) {
	ours, theirs := domain(t, "td.test", "orders"), domain(t, "partner.test", "shop")
	orders, shop := source(t, ours, "orders", ours.Socket("orders")), source(t, theirs, "shop", theirs.Socket("shop"))
	ordersID, _ := ours.ID("orders")
	address := echo(t, orders.ServerConfig([]string{"h2"}, false))
	client := shop.ClientConfig(ordersID, []string{"h2"}, false)
	refused := func(when string) {
		t.Helper()
		if got, err := ask(address, client); err == nil {
			t.Fatalf("%s: answered %q", when, got)
		}
	}
	refused("before federation")
	if err := theirs.Federate(ours.Dir()); err != nil {
		t.Fatal(err)
	}
	until(t, shop, "our bundle", func(s svid.Status) bool { return s.TrustDomains["td.test"] == 1 })
	refused("one way")
	if err := ours.Federate(theirs.Dir()); err != nil {
		t.Fatal(err)
	}
	until(t, orders, "their bundle", func(s svid.Status) bool { return s.TrustDomains["partner.test"] == 1 })
	if got, err := ask(address, client); err != nil || got != "spiffe://partner.test/shop" {
		t.Fatalf("answered %q, error %v", got, err)
	}
	ours.Unfederate(theirs.TrustDomain())
	until(t, orders, "their bundle go", func(s svid.Status) bool { return s.TrustDomains["partner.test"] == 0 })
	refused("after federation")
}

func TestSources_FilesAndSocketsMeet(t *testing.T) {
	d := domain(t, "td.test", "orders")
	out := filepath.Join(t.TempDir(), "web")
	if err := d.WriteSVID("web", out); err != nil {
		t.Fatal(err)
	}
	orders, web := source(t, d, "orders", d.Socket("orders")), source(t, d, "web", "dir:"+out)
	ordersID, _ := d.ID("orders")
	address := echo(t, orders.ServerConfig([]string{"h2"}, true))
	if got, err := ask(address, web.ClientConfig(ordersID, []string{"h2"}, true)); err != nil || got != "spiffe://td.test/web" {
		t.Fatalf("answered %q, error %v", got, err)
	}
}
