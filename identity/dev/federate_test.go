package dev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func TestFederate_WorkloadsOfTwoDomainsDoMutualTLS(t *testing.T) {
	a := serve(t, Options{TrustDomain: "a.test"}, "web")
	b := serve(t, Options{TrustDomain: "b.test"}, "orders")
	must(t, a.Federate(b.Dir()))
	must(t, b.Federate(a.Dir()))
	web, orders := source(t, a, "web"), source(t, b, "orders")
	client := tlsconfig.MTLSClientConfig(web, web, tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://b.test/orders")))
	server := tlsconfig.MTLSServerConfig(orders, orders, tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://a.test/web")))
	must(t, handshake(t, client, server))

	ctx := testContext(t)
	token, err := dial(t, a, "web").FetchJWTSVID(ctx, jwtsvid.Params{Audience: "orders"})
	must(t, err)
	if _, err := dial(t, b, "orders").ValidateJWTSVID(ctx, token.Marshal(), "orders"); err != nil {
		t.Errorf("a federated JWT-SVID: %v", err)
	}
}

func TestFederate_TrustsNobodyWithoutIt(t *testing.T) {
	a := serve(t, Options{TrustDomain: "a.test"}, "web")
	b := serve(t, Options{TrustDomain: "b.test"}, "orders")
	must(t, a.Federate(b.Dir()))
	web, orders := source(t, a, "web"), source(t, b, "orders")
	client := tlsconfig.MTLSClientConfig(web, web, tlsconfig.AuthorizeAny())
	server := tlsconfig.MTLSServerConfig(orders, orders, tlsconfig.AuthorizeAny())
	if err := handshake(t, client, server); err == nil {
		t.Error("b trusted a, with which it does not federate")
	}
}

// authorities is how many of td's the client was told of, 0 if not of td.
func authorities(c *workloadapi.X509Context, td spiffeid.TrustDomain) int {
	b, err := c.Bundles.GetX509BundleForTrustDomain(td)
	if err != nil {
		return 0
	}
	return len(b.X509Authorities())
}

func TestFederate_FollowsTheOtherDirectory(t *testing.T) {
	a := serve(t, Options{TrustDomain: "a.test"}, "web")
	b := open(t, tempDir(t), Options{TrustDomain: "b.test"})
	w := watch(t, a, "web")
	before := w.next(t)
	for i, step := range []struct {
		do   func() error
		want int
	}{
		{func() error { return a.Federate(b.Dir()) }, 1},
		{b.RotateCA, 2},
		{b.RetireCA, 1},
		{func() error { a.Unfederate(b.TrustDomain()); return nil }, 0},
	} {
		must(t, step.do())
		c := w.next(t)
		if got := authorities(c, b.TrustDomain()); got != step.want {
			t.Errorf("step %d: %d authorities of b.test, want %d", i, got, step.want)
		}
		if serial(c) != serial(before) {
			t.Errorf("step %d: the SVID changed with a bundle", i)
		}
	}
}

func TestFederate_KeepsLastGoodBundle(t *testing.T) {
	a := serve(t, Options{TrustDomain: "a.test"}, "web")
	b := open(t, tempDir(t), Options{TrustDomain: "b.test"})
	must(t, a.Federate(b.Dir()))
	w := watch(t, a, "web")
	w.next(t)
	for _, bad := range []string{"", "{", `{"keys":[]}`} {
		must(t, os.WriteFile(filepath.Join(b.Dir(), bundleFile), []byte(bad), 0o600))
		a.refreshPartners()
		if c, err := dial(t, a, "web").FetchX509Context(testContext(t)); err != nil || authorities(c, b.TrustDomain()) != 1 {
			t.Errorf("%q: the last good bundle is gone (%v)", bad, err)
		}
	}
	must(t, b.RotateCA())
	if got := authorities(w.next(t), b.TrustDomain()); got != 2 {
		t.Errorf("%d authorities after it is good again", got)
	}
}

func TestFederate_RefusesWhatIsNoOtherDomain(t *testing.T) {
	a := open(t, tempDir(t), Options{TrustDomain: "a.test"})
	twin := open(t, tempDir(t), Options{TrustDomain: "a.test"})
	bad := t.TempDir()
	must(t, os.WriteFile(filepath.Join(bad, bundleFile), []byte("{"), 0o600))
	for _, tc := range []struct{ dir, want string }{
		{twin.Dir(), `it is trust domain "a.test" too`},
		{t.TempDir(), "there is no trust domain there: start one with"},
		{bad, "reading bundle.json: spiffebundle: unable to parse JWKS"},
	} {
		if err := a.Federate(tc.dir); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q in it", err, tc.want)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	d, err := Open(filepath.Join(f.TempDir(), "d"), Options{TrustDomain: "td.test"})
	if err != nil {
		f.Fatal(err)
	}
	defer d.Close()
	raw, err := d.bundle().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"use":"x509-svid"}]}`))
	f.Add([]byte(`{"keys":null,"spiffe_sequence":-1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := parseBundle(raw)
		if err != nil {
			return
		}
		if b.TrustDomain().IsZero() || len(b.X509Authorities()) == 0 {
			t.Errorf("took a bundle of nobody: %q", raw)
		}
	})
}
