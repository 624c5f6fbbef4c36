package dev

import (
	"testing"
	"time"
)

func TestRotate_PushesNewSVIDOnOpenStreams(t *testing.T) {
	d := serve(t, Options{}, "web", "orders")
	web, orders := watch(t, d, "web"), watch(t, d, "orders")
	web1, orders1 := serial(web.next(t)), serial(orders.next(t))

	must(t, d.Rotate("web"))
	web2 := serial(web.next(t))
	if web2 == web1 {
		t.Error("the same SVID came again")
	}
	must(t, d.Rotate())
	if got := serial(web.next(t)); got == web2 {
		t.Error("rotating all left web its SVID")
	}
	// It was told nothing when web alone rotated: this is its second message.
	if got := serial(orders.next(t)); got == orders1 {
		t.Error("rotating web was told to orders too, or rotating all was not")
	}
	if err := d.Rotate("nobody"); err == nil {
		t.Error("rotated a name that is not served")
	}
}

func TestRotate_HappensByItselfBeforeExpiry(t *testing.T) {
	d := serve(t, Options{TTL: minTTL}, "web")
	w := watch(t, d, "web")
	first := w.next(t)
	second := w.next(t)
	if serial(first) == serial(second) {
		t.Error("the same SVID came again")
	}
	if end := first.DefaultSVID().Certificates[0].NotAfter; !time.Now().Before(end) {
		t.Errorf("the second came at %v, after the first had expired at %v", time.Now(), end)
	}
}

func TestRenew_IsDueAboutHalfOfTheLife(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := serve(t, Options{TTL: 100 * time.Second, Now: func() time.Time { return now }}, "web")
	early, late := 0, 0
	for range 200 {
		must(t, d.Rotate())
		d.mu.Lock()
		due := d.endpoints["web"].renewAt.Sub(now)
		d.mu.Unlock()
		if due < 40*time.Second || due > 60*time.Second {
			t.Fatalf("due after %v of 100s", due)
		}
		if due < 50*time.Second {
			early++
		} else {
			late++
		}
	}
	if early == 0 || late == 0 {
		t.Errorf("no jitter: %d early, %d late", early, late)
	}
}

func TestRotateDue_RenewsOnlyWhatIsDue(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := serve(t, Options{TTL: time.Hour, Now: func() time.Time { return now }}, "web", "orders")
	d.mu.Lock()
	d.endpoints["web"].renewAt = now
	web, orders := d.endpoints["web"].svid, d.endpoints["orders"].svid
	d.mu.Unlock()
	if wait := d.rotateDue(); wait != d.opt.TTL/3 {
		t.Errorf("waits %v for the next", wait)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.endpoints["web"].svid == web {
		t.Error("web was due and kept its SVID")
	}
	if d.endpoints["orders"].svid != orders {
		t.Error("orders was not due and lost its SVID")
	}
}

func TestRotateCA_OldIsTrustedUntilRetired(t *testing.T) {
	d := serve(t, Options{}, "web")
	old, err := d.Mint("orders")
	must(t, err)
	w := watch(t, d, "web")
	w.next(t)

	must(t, d.RotateCA())
	if got := len(d.Bundle()); got != 2 {
		t.Fatalf("the bundle has %d authorities", got)
	}
	must(t, verify(old.Certificates[0], d.Bundle(), time.Now()))
	fresh := w.next(t)
	leaf := fresh.DefaultSVID().Certificates[0]
	must(t, leaf.CheckSignatureFrom(d.Bundle()[0]))
	bundle, err := fresh.Bundles.GetX509BundleForTrustDomain(d.TrustDomain())
	must(t, err)
	if got := len(bundle.X509Authorities()); got != 2 {
		t.Errorf("the client has %d authorities", got)
	}

	must(t, d.RetireCA())
	if err := verify(old.Certificates[0], d.Bundle(), time.Now()); err == nil {
		t.Error("what the retired authority signed is still trusted")
	}
	must(t, verify(leaf, d.Bundle(), time.Now()))
}

func TestRotateCA_SurvivesReopening(t *testing.T) {
	dir := tempDir(t)
	d := open(t, dir, Options{})
	must(t, d.RotateCA())
	must(t, d.Close())
	again := open(t, dir, Options{})
	svid, err := again.Mint("web")
	must(t, err)
	must(t, svid.Certificates[0].CheckSignatureFrom(d.Bundle()[0]))
}
