package wire_test

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
	"sync/atomic"
	"testing"
	"time"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// counted counts the calls that write to a connection, and can be made to fail.
type counted struct {
	net.Conn
	writes atomic.Int32
	fails  atomic.Bool
}

var errFull = errors.New("no room")

func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	if c.fails.Load() {
		return 0, errFull
	}
	return c.Conn.Write(p)
}

// over is anything that stands between a tls.Conn and a Gather.
type over struct{ net.Conn }

func (o over) NetConn() net.Conn { return o.Conn }

// pair is both ends of a TLS connection, and the socket of the first.
func pair(t *testing.T) (from, to *tls.Conn, raw *counted) {
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
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw = &counted{Conn: near}
	from = tls.Client(over{wire.NewGather(raw)}, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	to = tls.Server(far, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	shaken := make(chan error, 1)
	go func() { shaken <- to.Handshake() }()
	if err := errors.Join(from.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return from, to, raw
}

func TestWriterOf_MakesOneCallOfManyRecords(t *testing.T) {
	for size, most := range map[int]int32{1: 1, 16 << 10: 1, 64 << 10: 1, 1 << 20: 13} {
		from, to, raw := pair(t)
		before := raw.writes.Load()
		sent := make([]byte, size)
		if _, err := rand.Read(sent); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := wire.WriterOf(from).Write(sent)
			done <- err
		}()
		got := make([]byte, size)
		if _, err := io.ReadFull(to, got); err != nil || string(got) != string(sent) {
			t.Errorf("%d bytes: came differently, %v", size, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := raw.writes.Load() - before; n > most {
			t.Errorf("%d bytes: %d calls", size, n)
		}
	}
}

// What is lost must not be followed by anything: the other end could not tell.
func TestWriterOf_NothingFollowsAFailure(t *testing.T) {
	from, _, raw := pair(t)
	raw.fails.Store(true)
	to := wire.WriterOf(from)
	if _, err := to.Write(make([]byte, 64<<10)); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
	raw.fails.Store(false)
	before := raw.writes.Load()
	for _, size := range []int{1, 64 << 10} {
		if _, err := to.Write(make([]byte, size)); !errors.Is(err, errFull) {
			t.Errorf("then %v", err)
		}
	}
	if n := raw.writes.Load() - before; n != 0 {
		t.Errorf("%d more calls", n)
	}
}

func TestWriterOf_WithoutAGatherIsTheConnection(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for _, c := range []net.Conn{a, tls.Client(b, &tls.Config{InsecureSkipVerify: true})} {
		if wire.WriterOf(c) != io.Writer(c) {
			t.Errorf("%T", c)
		}
	}
}
