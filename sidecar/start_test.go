package sidecar

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/everyhop/everyhop/identity/svid"
)

func TestStart_DeclaredCallerPassesAndNobodyElse(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	if body := shop.want(shop.client("web"), orderURL(s), 200); body != "order" {
		t.Errorf("got %q", body)
	}
	shop.want(shop.client("billing"), orderURL(s), 403)
	if status, _, err := get(shop.client(""), orderURL(s)); err == nil {
		t.Errorf("without a certificate: %d", status)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"caller":"spiffe://example.org/web"`, `"grant":"read-order"`, `"verdict":"allow"`,
		`"caller":"spiffe://example.org/billing"`, `"reason":"caller_undeclared"`, `"generation":1`,
	} {
		if !strings.Contains(shop.audit.String(), want) {
			t.Errorf("no %s in the audit log:\n%s", want, shop.audit.String())
		}
	}
}

func TestStart_NotReadyAndNothingPassesBeforeTheFirstSVID(t *testing.T) {
	shop := newShop(t)
	svids := filepath.Join(shop.dir, "svids")
	if err := os.Mkdir(svids, 0o700); err != nil {
		t.Fatal(err)
	}
	shop.config.Identity = "dir:" + svids
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(context.Background())
	started := make(chan error, 1)
	go func() { started <- s.Start(t.Context()) }()
	plain := shop.client("")
	until(t, "the admin listener", func() bool { status, _, _ := get(plain, adminURL(s, "/livez")); return status == 200 })
	if body := shop.want(plain, adminURL(s, "/readyz"), 503); !strings.Contains(body, "starting\n") || !strings.Contains(body, "identity: ") {
		t.Errorf("got %q", body)
	}
	if status, _, err := get(shop.client("web"), orderURL(s)); err == nil {
		t.Errorf("a request was answered: %d", status)
	}
	if err := shop.domain.WriteSVID("orders", svids); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	shop.want(plain, adminURL(s, "/readyz"), 200)
	shop.want(shop.client("web"), orderURL(s), 200)
}

func TestStart_SVIDOfSomebodyElseIsAnError(t *testing.T) {
	shop := newShop(t)
	shop.write(strings.Replace(shop.policy(), "example.org/orders", "example.org/billing", 1))
	s, err := New(shop.config)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Start(t.Context())
	if !errors.Is(err, svid.ErrNotOurs) || !strings.Contains(err.Error(), "got spiffe://example.org/orders") {
		t.Errorf("got %v", err)
	}
	if err := s.Start(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("started again: %v", err)
	}
}

func TestNew_FailureLeavesNothingBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name, want string
		spoil      func(*shop)
	}{
		{"bad policy", "policy.yaml:1:", func(s *shop) { s.write("nonsense: true\n") }},
		{"empty policy", "policy.yaml", func(s *shop) { s.write("") }},
		{"no policy", "no such file", func(s *shop) { s.config.PolicyFile += ".not" }},
		{"no socket", "opening the identity: " + filepath.Join("/no/such.sock") + " is not there", func(s *shop) { s.config.Identity = "unix:///no/such.sock" }},
		{"no identity", "opening the identity", func(s *shop) { s.config.Identity = "" }},
		{"admin port in use", "opening the admin listener: " + taken.Addr().String() + " is in use", func(s *shop) { s.config.Admin = taken.Addr().String() }},
		{"inbound port in use", "opening the inbound listener: " + taken.Addr().String() + " is in use", func(s *shop) { s.config.Inbound = taken.Addr().String() }},
		{"audit directory", "opening the audit log", func(s *shop) { s.config.Audit = "/no/such/dir/audit.log" }},
		{"audit mode", "neither refuse nor count", func(s *shop) { s.config.AuditOnFailure = "shrug" }},
		{"call's port in use", "in use", func(s *shop) {
			s.write(s.policy() + "calls:\n  db: {as: spiffe://example.org/db, at: 127.0.0.1:1, local: " + taken.Addr().String() + ", allow: [GET /]}\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			shop := newShop(t)
			c.spoil(shop)
			admin, inbound := held(t), held(t)
			shop.config.AdminListener, shop.config.InboundListener = admin, inbound
			if strings.HasPrefix(c.name, "admin port") {
				shop.config.AdminListener = nil
			}
			if strings.HasPrefix(c.name, "inbound port") {
				shop.config.InboundListener = nil
			}
			before := goleak.IgnoreCurrent()
			s, err := New(shop.config)
			if err == nil {
				s.Stop(context.Background())
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want …%s…", err, c.want)
			}
			goleak.VerifyNone(t, before)
			for _, ln := range []net.Listener{shop.config.AdminListener, shop.config.InboundListener} {
				if ln != nil && ln.Close() == nil {
					t.Errorf("%s is still open", ln.Addr())
				}
			}
		})
	}
}

func held(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestNew_TwoInOneProcess(t *testing.T) {
	one, two := newShop(t), newShop(t)
	first, second := one.start(), two.start()
	one.want(one.client("web"), orderURL(first), 200)
	two.want(two.client("web"), orderURL(second), 200)
	if err := first.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	two.want(two.client("web"), orderURL(second), 200)
}
