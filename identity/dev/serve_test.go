package dev

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc/codes"
)

func TestServe_GoSPIFFESourceGetsIdentityAndBundle(t *testing.T) {
	d := serve(t, Options{TrustDomain: "td.test"}, "shop/web")
	s := source(t, d, "shop/web")
	svid, err := s.GetX509SVID()
	must(t, err)
	if got := svid.ID.String(); got != "spiffe://td.test/shop/web" {
		t.Errorf("got identity %s", got)
	}
	bundle, err := s.GetX509BundleForTrustDomain(d.TrustDomain())
	must(t, err)
	must(t, verify(svid.Certificates[0], bundle.X509Authorities(), time.Now()))
	if !strings.HasSuffix(d.Socket("shop/web"), "/shop.web.sock") {
		t.Errorf("slashes of a name must become dots in %s", d.Socket("shop/web"))
	}
}

func TestServe_TwoWorkloadsDoMutualTLS(t *testing.T) {
	d := serve(t, Options{}, "web", "orders")
	web, orders := source(t, d, "web"), source(t, d, "orders")
	client := tlsconfig.MTLSClientConfig(web, web, tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://example.org/orders")))
	server := tlsconfig.MTLSServerConfig(orders, orders, tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://example.org/web")))
	if err := handshake(t, client, server); err != nil {
		t.Errorf("the server refused: %v", err)
	}
	stranger := tlsconfig.MTLSServerConfig(orders, orders, tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://example.org/billing")))
	if err := handshake(t, client, stranger); err == nil {
		t.Error("a server that expects billing accepted web")
	}
}

func TestServe_CertificatesAreAsSPIREMakesThem(t *testing.T) {
	d := serve(t, Options{TTL: time.Minute}, "web")
	svid, err := source(t, d, "web").GetX509SVID()
	must(t, err)
	leaf := svid.Certificates[0]
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement {
		t.Errorf("key usage %b", leaf.KeyUsage)
	}
	if leaf.IsCA || !leaf.BasicConstraintsValid || len(leaf.URIs) != 1 || len(leaf.DNSNames) != 0 {
		t.Errorf("CA %v, URIs %v, DNS names %v", leaf.IsCA, leaf.URIs, leaf.DNSNames)
	}
	if got := leaf.NotAfter.Sub(leaf.NotBefore); got != time.Minute+10*time.Second {
		t.Errorf("it lives %v, not the TTL and the 10 s before it", got)
	}
	for _, ext := range leaf.Extensions {
		if ext.Id.String() == "2.5.29.15" && !ext.Critical {
			t.Error("key usage is not critical (X509-SVID section 4.3)")
		}
	}
	ca := d.Bundle()[0]
	if !ca.IsCA || ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || ca.URIs[0].String() != "spiffe://example.org" {
		t.Errorf("the authority: CA %v, key usage %b, URIs %v", ca.IsCA, ca.KeyUsage, ca.URIs)
	}
}

func TestServe_RefusesWhatCannotBeServed(t *testing.T) {
	long := strings.Repeat("a", 100)
	for _, tc := range []struct{ why, name, want string }{
		{"empty", "", "is no name for a workload"},
		{"slash first", "/web", "is no name for a workload"},
		{"slash last", "web/", "is no name for a workload"},
		{"dot segment", "../web", "is no name for a workload"},
		{"space", "the web", "is no name for a workload"},
		{"escape", "w%65b", "is no name for a workload"},
		{"whole ID", "spiffe://example.org/web", "is no name for a workload"},
		{"same socket", "shop.web", `is that of "shop/web"`},
		{"long path", long, "a unix socket may have 107: use a directory with a shorter path"},
	} {
		d := serve(t, Options{}, "shop/web")
		err := d.Serve("new", tc.name)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q in it", tc.why, err, tc.want)
		}
		if _, err := os.Stat(filepath.Join(d.Dir(), "new.sock")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the other name's socket was left behind (%v)", tc.why, err)
		}
	}
}

func TestServe_ReplacesSocketOfKilledProcessOnly(t *testing.T) {
	d := open(t, tempDir(t), Options{})
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(d.Dir(), "web.sock")})
	must(t, err)
	stale.SetUnlinkOnClose(false) // as a kill -9 would leave it
	must(t, stale.Close())
	must(t, d.Serve("web"))
	source(t, d, "web")

	must(t, os.WriteFile(filepath.Join(d.Dir(), "notes.sock"), []byte("mine"), 0o600))
	if err := d.Serve("notes"); err == nil || !strings.Contains(err.Error(), "is no socket: remove it") {
		t.Errorf("got %v for a file in the way", err)
	}
}

func TestServe_OneProcessAtATime(t *testing.T) {
	first := serve(t, Options{}, "web")
	second := open(t, first.Dir(), Options{})
	if err := second.Serve("orders"); err == nil || !strings.Contains(err.Error(), "serves "+first.Dir()+" already") {
		t.Errorf("two served one directory: %v", err)
	}
	if _, err := second.Mint("orders"); err != nil {
		t.Errorf("minting beside the one that serves: %v", err)
	}
	must(t, first.Close())
	must(t, second.Serve("web"))
	source(t, second, "web")
}

func TestClose_EndsSocketsAndIsIdempotent(t *testing.T) {
	d := serve(t, Options{}, "web")
	w := watch(t, d, "web")
	w.next(t)
	must(t, d.Close())
	must(t, d.Close())
	<-w.errors
	if _, err := os.Stat(filepath.Join(d.Dir(), "web.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there (%v)", err)
	}
	if err := d.Serve("web"); !errors.Is(err, errClosed) {
		t.Errorf("serving after Close: %v", err)
	}
}

func TestStop_ClientsReturnWhenServedAgain(t *testing.T) {
	d := serve(t, Options{}, "web")
	w := watch(t, d, "web")
	before := serial(w.next(t))
	must(t, d.Stop("web"))
	<-w.errors
	must(t, d.Serve("web"))
	if after := serial(w.next(t)); after == before {
		t.Error("the same SVID came back")
	}
}

func TestServe_AfterKill9OfTheProcessBefore(t *testing.T) {
	dir := tempDir(t)
	before := exec.CommandContext(t.Context(), os.Args[0])
	before.Env = append(os.Environ(), serveForever+"="+dir)
	stdout, err := before.StdoutPipe()
	must(t, err)
	must(t, before.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	if line != "served <nil>\n" {
		t.Fatalf("the process before said %q", line)
	}
	d := open(t, dir, Options{})
	if err := d.Serve("web"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d serves", before.Process.Pid)) {
		t.Errorf("got %v while it lives", err)
	}
	must(t, before.Process.Kill())
	_ = before.Wait()
	if _, err := os.Stat(filepath.Join(dir, "web.sock")); err != nil {
		t.Fatalf("the kill left no socket to test with: %v", err)
	}
	must(t, d.Serve("web"))
	source(t, d, "web")
}

func TestDomain_BearsManyUsersAtOnce(t *testing.T) {
	d := serve(t, Options{}, "web")
	source(t, d, "web")
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			name := fmt.Sprint("w", i)
			for range 5 {
				must := func(err error) {
					if err != nil && !errors.Is(err, errClosed) {
						t.Error(err)
					}
				}
				must(d.Serve(name))
				must(d.Rotate("web"))
				must(d.Fail("web", codes.Unavailable))
				must(d.Clear("web"))
				must(d.Cut("web"))
				if i == 0 {
					must(d.RotateCA())
				}
				must(d.Stop(name))
			}
			_ = d.Close() // the first ends the rest, at whatever they are
		})
	}
	all.Wait()
}
