package sidecar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/everyhop/everyhop/policy"
)

func TestCompare_NamesWhatCameAndWhatWent(t *testing.T) {
	added, removed := compare([]string{"a", "b", "b2"}, []string{"b", "c", "a"})
	if !slices.Equal(added, []string{"c"}) || !slices.Equal(removed, []string{"b2"}) {
		t.Errorf("added %v, removed %v", added, removed)
	}
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprint(i))
	}
	if added, removed = compare(many[:500], many[500:]); len(added) != maxNamed || len(removed) != maxNamed {
		t.Errorf("%d and %d names would be logged", len(added), len(removed))
	}
}

func TestTeardown_LastFirstAndPastEveryFault(t *testing.T) {
	var order []string
	var td teardown
	for _, name := range []string{"one", "two", "three"} {
		td.add(name, func(context.Context) error { order = append(order, name); return errors.New("stuck") })
	}
	err := td.run(t.Context())
	if !slices.Equal(order, []string{"three", "two", "one"}) {
		t.Errorf("order %v", order)
	}
	if err == nil || err.Error() != "three: stuck\ntwo: stuck\none: stuck" {
		t.Errorf("got %q", err)
	}
}

func TestReload_BadFileChangesNothingAndIsAnnounced(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	web, plain := shop.client("web"), shop.client("")
	before := s.Policy()
	shop.write("service: spiffe://example.org/orders\nalow: []\n")
	if err := s.Reload(); err == nil || !errors.As(err, new(policy.Problems)) {
		t.Errorf("reload: %v", err)
	}
	if s.Policy() != before {
		t.Error("the policy changed")
	}
	shop.want(web, orderURL(s), 200)
	if body := shop.want(plain, adminURL(s, "/readyz"), 200); !strings.HasPrefix(body, "ready, degraded\npolicy: still at generation 1: ") || !strings.Contains(body, "policy.yaml:2:1: ") {
		t.Errorf("readyz: %q", body)
	}
	if body := shop.want(plain, adminURL(s, "/metrics"), 200); !strings.Contains(body, "everyhop_policy_last_reload_successful 0") {
		t.Error("the metric says that all is well")
	}
	if body := shop.want(plain, adminURL(s, "/policy"), 200); !strings.Contains(body, "policy.yaml:2:1: ") {
		t.Errorf("policy: %s", body)
	}
	shop.write(strings.Replace(shop.policy(), "example.org/web", "example.org/billing", 1))
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	shop.want(web, orderURL(s), 403)
	shop.want(shop.client("billing"), orderURL(s), 200)
	if body := shop.want(plain, adminURL(s, "/readyz"), 200); body != "ready\n" {
		t.Errorf("readyz: %q", body)
	}
	if !strings.Contains(shop.log.String(), `msg="policy adopted"`) {
		t.Error(shop.log.String())
	}
}

func TestReload_FileIsWatched(t *testing.T) {
	shop := newShop(t)
	shop.config.Poll = 10 * time.Millisecond
	s := shop.start()
	shop.write(strings.Replace(shop.policy(), "example.org/web", "example.org/billing", 1))
	until(t, "the change", func() bool { return s.Policy().Generation > 1 })
	shop.want(shop.client("web"), orderURL(s), 403)
}

func TestReload_WhatDoesNotFitARunningProcessIsNotAdopted(t *testing.T) {
	taken := held(t)
	for _, c := range []struct{ name, want string }{
		{"service", "restart to become another service"},
		{"app", "restart to close the inbound listener"},
		{"call", "in use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			shop := newShop(t)
			s := shop.start()
			before := s.Policy()
			text := shop.policy()
			call := "calls:\n  db: {as: spiffe://example.org/db, at: 127.0.0.1:1, local: " + taken.Addr().String() + ", allow: [GET /]}\n"
			switch c.name {
			case "service":
				text = strings.Replace(text, "example.org/orders", "example.org/other", 1)
			case "app":
				text = "service: spiffe://example.org/orders\n" + strings.Replace(call, taken.Addr().String(), "127.0.0.1:1", 1)
			case "call":
				text += call
			}
			shop.write(text)
			if err := s.Reload(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("reload: %v", err)
			}
			if s.Policy() != before {
				t.Error("the policy changed")
			}
			shop.want(shop.client("web"), orderURL(s), 200)
			if body := shop.want(shop.client(""), adminURL(s, "/readyz"), 200); !strings.Contains(body, "degraded") || !strings.Contains(body, c.want) {
				t.Errorf("readyz: %q", body)
			}
		})
	}
}

func TestReload_CallAddedIsServed(t *testing.T) {
	shop := newShop(t)
	s := shop.start()
	if at := s.Addr("peer"); at != nil {
		t.Fatalf("a call that is not declared is at %s", at)
	}
	free := held(t)
	free.Close()
	shop.write(shop.policy() + "calls:\n  peer: {as: spiffe://example.org/peer, at: 127.0.0.1:1, local: " + free.Addr().String() + ", allow: [GET /x]}\n")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	at := s.Addr("peer")
	if at == nil {
		t.Fatal("the call has no address")
	}
	shop.want(shop.client(""), "http://"+at.String()+"/undeclared", 403)
	shop.want(shop.client(""), "http://"+at.String()+"/x", 502)
}
