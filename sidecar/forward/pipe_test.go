package forward_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everyhop/everyhop/sidecar/forward"
)

const patience = 20 * time.Second

// tunnel is a Pipe between two real connections, and their far ends.
type tunnel struct {
	client, upstream net.Conn // the far ends
	inner            [2]net.Conn
	result           chan forward.Result
}

func newTunnel(t *testing.T, network string, stall time.Duration) *tunnel {
	t.Helper()
	client, a := pair(t, network)
	upstream, b := pair(t, network)
	p := &tunnel{client: client, upstream: upstream, inner: [2]net.Conn{a, b}, result: make(chan forward.Result, 1)}
	go func() { p.result <- forward.Pipe(a, b, stall, nil) }()
	return p
}

// pair is a connection over the kernel, both ends.
func pair(t *testing.T, network string) (far, near net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if far, err = net.Dial(network, ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{far, near} {
		t.Cleanup(func() { _ = c.Close() })
	}
	_ = far.SetDeadline(time.Now().Add(patience))
	return far, near
}

func closeWrite(c net.Conn) { _ = c.(interface{ CloseWrite() error }).CloseWrite() }

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

func TestPipe_CarriesBothWaysUntilBothHaveEnded(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		p := newTunnel(t, network, time.Minute)
		_, _ = io.WriteString(p.client, "question")
		closeWrite(p.client)
		if got, err := io.ReadAll(p.upstream); string(got) != "question" || err != nil {
			t.Errorf("%s: the upstream heard %q, %v", network, got, err)
		}
		_, _ = io.WriteString(p.upstream, "the answer")
		closeWrite(p.upstream)
		if got, err := io.ReadAll(p.client); string(got) != "the answer" || err != nil {
			t.Errorf("%s: the client heard %q, %v", network, got, err)
		}
		if r := <-p.result; r != (forward.Result{BytesIn: 8, BytesOut: 10}) {
			t.Errorf("%s: %+v", network, r)
		}
	}
}

func TestPipe_WhatBreaksOneEndBreaksTheOther(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(p *tunnel) (left net.Conn)
		say    string // on what is left
		want   forward.Fault
	}{
		"the client resets":                         {func(p *tunnel) net.Conn { reset(p.client); return p.upstream }, "", forward.ClientGone},
		"the upstream resets":                       {func(p *tunnel) net.Conn { reset(p.upstream); return p.client }, "", forward.Broken},
		"the upstream resets while it is spoken to": {func(p *tunnel) net.Conn { reset(p.upstream); return p.client }, "too late", forward.Broken},
		"it is closed from outside":                 {func(p *tunnel) net.Conn { _ = p.inner[0].Close(); return p.upstream }, "", forward.ClientGone},
	} {
		p := newTunnel(t, "tcp", time.Minute)
		left := c.breaks(p)
		_, err := io.WriteString(left, c.say)
		if err == nil { // the kernel tells of a reset once, to whoever asks first
			_, err = io.Copy(io.Discard, left)
		}
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: the other end saw %v", name, err)
		}
		if r := <-p.result; r.Fault != c.want || r.Err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestPipe_AnEndThatTakesNothingIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		says func(p *tunnel) net.Conn
		want forward.Fault
	}{
		"the client":   {func(p *tunnel) net.Conn { return p.upstream }, forward.ClientGone},
		"the upstream": {func(p *tunnel) net.Conn { return p.client }, forward.Timeout},
	} {
		p := newTunnel(t, "tcp", 100*time.Millisecond)
		chunk := make([]byte, 64<<10)
		for {
			if _, err := c.says(p).Write(chunk); err != nil {
				if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
		}
		if r := <-p.result; r.Fault != c.want {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestPipe_SilenceIsNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		upstream, b := net.Pipe()
		result := make(chan forward.Result, 1)
		go func() { result <- forward.Pipe(a, b, time.Second, nil) }()
		for range 3 {
			time.Sleep(24 * time.Hour)
			_, _ = io.WriteString(client, "a")
			if _, err := io.ReadFull(upstream, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = io.WriteString(client, "b")
		time.Sleep(900 * time.Millisecond) // nearly given up
		if _, err := io.ReadFull(upstream, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(client, "c")
		time.Sleep(1100 * time.Millisecond)
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the client is not cut: %v", err)
		}
		if r := <-result; r.Fault != forward.Timeout || r.BytesIn != 4 {
			t.Errorf("%+v", r)
		}
	})
}

func TestPipe_TLSThatEndsWithoutAGoodbyeIsCut(t *testing.T) {
	for name, c := range map[string]struct {
		ends func(c *tls.Conn)
		want forward.Fault
	}{
		"a goodbye":         {func(c *tls.Conn) { _ = c.CloseWrite() }, forward.None},
		"none":              {func(c *tls.Conn) { closeWrite(c.NetConn()) }, forward.Broken},
		"within a record":   {func(c *tls.Conn) { _, _ = c.NetConn().Write([]byte{23, 3, 3, 0, 40, 1}); closeWrite(c.NetConn()) }, forward.Broken},
		"a goodbye and FIN": {func(c *tls.Conn) { _ = c.CloseWrite(); closeWrite(c.NetConn()) }, forward.None},
	} {
		client, a := pair(t, "tcp")
		far, near := pair(t, "tcp")
		server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
		handshaken := make(chan error, 1)
		go func() { handshaken <- server.Handshake() }()
		b := tls.Client(forward.NoteEnd(near), &tls.Config{InsecureSkipVerify: true})
		if err := errors.Join(b.Handshake(), <-handshaken); err != nil {
			t.Fatal(err)
		}
		result := make(chan forward.Result, 1)
		go func() { result <- forward.Pipe(a, b, time.Minute, nil) }()
		_, _ = io.WriteString(server, "a part")
		c.ends(server)
		got, err := io.ReadAll(client)
		if string(got) != "a part" || (err == nil) != (c.want == forward.None) {
			t.Errorf("%s: the client heard %q, %v", name, got, err)
		}
		closeWrite(client)
		if r := <-result; r.Fault != c.want {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestCut_IsSeenAsAReset(t *testing.T) {
	far, near := pair(t, "tcp")
	forward.Cut(tls.Client(forward.NoteEnd(near), &tls.Config{}))
	if _, err := io.ReadAll(far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other end saw %v", err)
	}
	far, near = pair(t, "unix")
	forward.Cut(near)
	if _, err := io.ReadAll(far); err != nil {
		t.Errorf("a unix socket has no resets, but the other end saw %v", err)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
