package serve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/sidecar/listener"
	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
	"github.com/everyhop/everyhop/sidecar/wire/std"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func certificate(t *testing.T) tls.Certificate {
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
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// trusting accepts any certificate, and speaks these protocols.
func trusting(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
}

// engine is one way to put HTTP on connections, behind the seam that all share.
type engine struct {
	name      string
	server    func(serve.ServerConfig) server
	transport func(serve.TransportConfig) transport
}

type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

type transport interface {
	http.RoundTripper
	Close()
}

var (
	ours = engine{
		"serve",
		func(c serve.ServerConfig) server { return serve.NewServer(c) },
		func(c serve.TransportConfig) transport { return serve.NewTransport(c) },
	}
	reference = engine{
		"std",
		func(c serve.ServerConfig) server {
			return std.NewServer(std.ServerConfig{Handler: c.Handler, H2C: c.H2C, Headers: c.Headers, Idle: c.Idle, Write: c.Write, Now: c.Now, Logger: c.Logger})
		},
		func(c serve.TransportConfig) transport {
			return std.NewTransport(std.Config{Dial: c.Dial, TLS: c.TLS, H2: c.H2C, MaxAge: c.MaxAge, Idle: c.Idle, Now: c.Now})
		},
	}
)

// each runs the test on both engines: what one promises, the other keeps.
func each(t *testing.T, test func(t *testing.T, e engine)) {
	for _, e := range []engine{ours, reference} {
		t.Run(e.name, func(t *testing.T) { test(t, e) })
	}
}

func eachProtocol(t *testing.T, test func(t *testing.T, e engine, protocol string)) {
	each(t, func(t *testing.T, e engine) {
		for _, protocol := range []string{"http/1.1", "h2"} {
			t.Run(protocol, func(t *testing.T) { test(t, e, protocol) })
		}
	})
}

// serve serves the handler, on TLS if secure, until the test ends.
func (e engine) serve(t *testing.T, secure bool, config serve.ServerConfig) (server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	if secure {
		ln = listener.New(wire.GatherListener{Listener: ln}, listener.Config{
			TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"h2", "http/1.1"}},
		})
	}
	s := e.server(config)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what is still under way is the test's own
		_ = s.Shutdown(ctx)
		serving.Wait()
	})
	return s, address
}

func (e engine) dial(t *testing.T, config serve.TransportConfig) transport {
	t.Helper()
	to := e.transport(config)
	t.Cleanup(to.Close)
	return to
}

func dialer(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
}

func get(t *testing.T, to http.RoundTripper, url string) *http.Response {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := to.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func dialTLS(t *testing.T, address string, protocols ...string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", address, trusting(protocols...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // longer than any fault takes
		t.Fatal(err)
	}
	return c
}
