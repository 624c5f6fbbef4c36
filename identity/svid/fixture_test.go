package svid

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// epoch is when every certificate of these tests begins to be valid; they live
// an hour, and a test's clock stands in the middle.
var (
	epoch  = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	midway = epoch.Add(30 * time.Minute)
	end    = epoch.Add(time.Hour)
)

const (
	orders  = "spiffe://td.test/ns/a/sa/orders"
	web     = "spiffe://td.test/ns/a/sa/web"
	partner = "spiffe://partner.test/shop"
)

type edit func(*x509.Certificate)

// authority is a certificate that signs others, with those between it and its
// root.
type authority struct {
	cert  *x509.Certificate
	key   crypto.Signer
	chain []*x509.Certificate // itself up to below the root
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func caTemplate(edits ...edit) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: "authority"},
		NotBefore:             epoch,
		NotAfter:              end,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	for _, e := range edits {
		e(template)
	}
	return template
}

func newSerial() *big.Int {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		panic(err)
	}
	return n.Add(n, big.NewInt(1))
}

func newAuthority(t testing.TB, edits ...edit) *authority {
	t.Helper()
	key := newKey(t)
	template := caTemplate(edits...)
	return &authority{cert: sign(t, template, template, key.Public(), key), key: key}
}

// below is an intermediate authority.
func (a *authority) below(t testing.TB, edits ...edit) *authority {
	t.Helper()
	key := newKey(t)
	template := caTemplate(append([]edit{func(c *x509.Certificate) { c.Subject.CommonName = "intermediate" }}, edits...)...)
	cert := sign(t, template, a.cert, key.Public(), a.key)
	return &authority{cert: cert, key: key, chain: append([]*x509.Certificate{cert}, a.chain...)}
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("this certificate never reaches our code: %v", err)
	}
	return cert
}

// identityOf is a leaf with its chain and key.
type identityOf struct {
	chain []*x509.Certificate
	key   crypto.Signer
}

func (a *authority) issue(t testing.TB, uri string, edits ...edit) identityOf {
	t.Helper()
	return a.issueFor(t, newKey(t), uri, edits...)
}

func (a *authority) issueFor(t testing.TB, key crypto.Signer, uri string, edits ...edit) identityOf {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		NotBefore:             epoch,
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{sanOf(uri)},
	}
	for _, e := range edits {
		e(template)
	}
	leaf := sign(t, template, a.cert, key.Public(), a.key)
	return identityOf{chain: append([]*x509.Certificate{leaf}, a.chain...), key: key}
}

// sanOf is a subjectAltName with these URIs as they are, byte for byte.
func sanOf(uris ...string) pkix.Extension {
	var names []asn1.RawValue
	for _, uri := range uris {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(uri)})
	}
	return sanNames(names...)
}

func sanNames(names ...asn1.RawValue) pkix.Extension {
	der, err := asn1.Marshal(names)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: oidSubjectAltName, Value: der}
}

func (i identityOf) certificate() *tls.Certificate {
	cert := &tls.Certificate{PrivateKey: i.key}
	for _, c := range i.chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

func (i identityOf) der() []byte { return derOf(i.chain...) }

func derOf(certs ...*x509.Certificate) []byte {
	var der []byte
	for _, cert := range certs {
		der = append(der, cert.Raw...)
	}
	return der
}

// svid is the identity as the Workload API sends it.
func (i identityOf) svid(t testing.TB, id string, roots ...*x509.Certificate) *workload.X509SVID {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return &workload.X509SVID{SpiffeId: id, X509Svid: i.der(), X509SvidKey: key, Bundle: derOf(roots...)}
}

func messageOf(svids ...*workload.X509SVID) *workload.X509SVIDResponse {
	return &workload.X509SVIDResponse{Svids: svids}
}

// good is a message that makes us orders.
func (a *authority) good(t testing.TB) *workload.X509SVIDResponse {
	t.Helper()
	return messageOf(a.issue(t, orders).svid(t, orders, a.cert))
}

func serialOf(t testing.TB, message *workload.X509SVIDResponse) string {
	t.Helper()
	certs, err := x509.ParseCertificates(message.Svids[0].X509Svid)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0].SerialNumber.Text(16)
}

// clock is a clock that stands until it is set.
type clock struct{ at atomic.Pointer[time.Time] }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.set(at)
	return c
}

func (c *clock) set(at time.Time) { c.at.Store(&at) }
func (c *clock) now() time.Time   { return *c.at.Load() }

// api is a Workload API on a socket that says what it is told to. A stream
// begins with what was said last and then gets everything that follows, in order.
type api struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	socket string

	mu     sync.Mutex
	said   []reply
	more   chan struct{}
	calls  int
	header bool // every call carried the security header
}

type reply struct {
	message *workload.X509SVIDResponse
	err     error
}

func newAPI(t testing.TB) *api {
	t.Helper()
	return &api{socket: filepath.Join(shortDir(t), "api.sock"), more: make(chan struct{}), header: true}
}

// shortDir is a directory whose name leaves room for a socket's 108 bytes.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "svid")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// serve serves until the returned function is called, or the test ends.
func (a *api) serve(t testing.TB) (stop func()) {
	t.Helper()
	ln, err := net.Listen("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, a)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(ln) }()
	stop = sync.OnceFunc(func() { server.Stop(); <-done })
	t.Cleanup(stop)
	return stop
}

func (a *api) say(message *workload.X509SVIDResponse) { a.add(reply{message: message}) }
func (a *api) end(code codes.Code, text string)       { a.add(reply{err: status.Error(code, text)}) }

func (a *api) add(r reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = append(a.said, r)
	close(a.more)
	a.more = make(chan struct{})
}

func (a *api) FetchX509SVID(_ *workload.X509SVIDRequest, stream workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	a.mu.Lock()
	a.calls++
	a.header = a.header && len(md.Get("workload.spiffe.io")) == 1 && md.Get("workload.spiffe.io")[0] == "true"
	next := max(len(a.said)-1, 0)
	a.mu.Unlock()
	for ; ; next++ {
		r, err := a.wait(stream.Context(), next)
		if err != nil {
			return err
		}
		if r.err != nil {
			return r.err
		}
		if err := stream.Send(r.message); err != nil {
			return err
		}
	}
}

func (a *api) wait(ctx context.Context, n int) (reply, error) {
	for {
		a.mu.Lock()
		more := a.more
		if n < len(a.said) {
			defer a.mu.Unlock()
			return a.said[n], nil
		}
		a.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return reply{}, ctx.Err()
		}
	}
}

// open opens a source on an API.
func open(t testing.TB, identity string, now func() time.Time) *Source {
	t.Helper()
	s, err := Open(t.Context(), Config{Identity: identity, Service: spiffeid.RequireFromString(orders), Now: now, Named: anyDomain})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func anyDomain(spiffeid.TrustDomain) bool { return true }

// await waits until the source's status is as wanted.
func await(t testing.TB, s *Source, what string, is func(Status) bool) Status {
	t.Helper()
	deadline := time.After(20 * time.Second)
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		if status := s.Status(); is(status) {
			return status
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("never saw: %s; status is %+v", what, s.Status())
		}
	}
}

func serialIs(serial string) func(Status) bool {
	return func(s Status) bool { return s.Serial == serial }
}

// ready is an open source that is orders, with its API and CA.
func ready(t testing.TB) (*Source, *api, *authority, *clock) {
	t.Helper()
	ca, w, c := newAuthority(t), newAPI(t), newClock(midway)
	w.serve(t)
	w.say(ca.good(t))
	s := open(t, "unix://"+w.socket, c.now)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s, w, ca, c
}

// handshake makes one TLS connection over a socket and carries one byte each
// way: under TLS 1.3 a client learns only then what the server made of it.
func handshake(t testing.TB, server, client *tls.Config) (atServer, atClient tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := ln.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, server)
		serverErr = exchange(conn)
		atServer = conn.ConnectionState()
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, client)
	clientErr = exchange(conn)
	atClient = conn.ConnectionState()
	raw.Close()
	<-done
	return atServer, atClient, serverErr, clientErr
}

func exchange(conn *tls.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// dialer is a client of the test's own making, that checks nothing.
func dialer(i identityOf, edits ...func(*tls.Config)) *tls.Config {
	c := &tls.Config{
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.certificate(), nil },
	}
	for _, e := range edits {
		e(c)
	}
	return c
}

func mustFail(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", text)
	}
	if !strings.Contains(err.Error(), text) {
		t.Fatalf("error is %q, want one with %q", err, text)
	}
}
