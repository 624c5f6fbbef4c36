package svid

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// pair is the two sides of a handshake.
type pair struct{ server, client *tls.Config }

// contenders are our configurations and those of go-spiffe, with one identity and
// one bundle, and as much asked of both.
func contenders(t testing.TB) (ours, theirs pair) {
	t.Helper()
	// go-spiffe goes by the real clock.
	valid := validFor(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	ca, w, id := newAuthority(t, valid), newAPI(t), spiffeid.RequireFromString(orders)
	mine := ca.issue(t, orders, valid)
	w.serve(t)
	w.say(messageOf(mine.svid(t, orders, ca.cert)))
	s := open(t, "unix://"+w.socket, time.Now)
	await(t, s, "the SVID", func(s Status) bool { return s.Updates > 0 })
	ours = pair{s.ServerConfig(h2h1, false), s.ClientConfig(id, h2h1, false)}

	svid := &x509svid.SVID{ID: id, Certificates: mine.chain, PrivateKey: mine.key}
	bundle := x509bundle.FromX509Authorities(id.TrustDomain(), ca.chain)
	bundle.AddX509Authority(ca.cert)
	theirs = pair{
		tlsconfig.MTLSServerConfig(svid, bundle, tlsconfig.AuthorizeMemberOf(id.TrustDomain())),
		tlsconfig.MTLSClientConfig(svid, bundle, tlsconfig.AuthorizeID(id)),
	}
	for _, config := range []*tls.Config{theirs.server, theirs.client} {
		config.NextProtos, config.MinVersion = h2h1, tls.VersionTLS13
	}
	return ours, theirs
}

// shake is one handshake over a socket, with as little as can be beside it.
func shake(t testing.TB, ln net.Listener, p pair) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		raw, err := ln.Accept()
		if err == nil {
			defer raw.Close()
			_, err = tls.Server(raw, p.server).Write([]byte{'x'})
		}
		done <- err
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tls.Client(raw, p.client).Read(make([]byte, 1))
	raw.Close()
	if serverErr := <-done; serverErr != nil || err != nil {
		t.Fatal(serverErr, err)
	}
}

func loopback(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// CPU is for the benchmark to compare; how often memory is asked for is the same in
// each run.
func TestHandshake_AllocatesLessThanGoSPIFFE(t *testing.T) {
	ours, theirs := contenders(t)
	ln := loopback(t)
	const runs = 50
	own := testing.AllocsPerRun(runs, func() { shake(t, ln, ours) })
	other := testing.AllocsPerRun(runs, func() { shake(t, ln, theirs) })
	t.Logf("%.0f allocations a handshake, go-spiffe %.0f", own, other)
	if own >= other {
		t.Errorf("%.0f allocations a handshake, and go-spiffe's configuration makes %.0f", own, other)
	}
}

func BenchmarkHandshake(b *testing.B) {
	ours, theirs := contenders(b)
	ln := loopback(b)
	for _, c := range []struct {
		name string
		pair pair
	}{{"ours", ours}, {"go-spiffe", theirs}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				shake(b, ln, c.pair)
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime is what this process has used so far. Time on the wall says more of
// what else the machine does.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
