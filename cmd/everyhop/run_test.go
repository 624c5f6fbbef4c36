package main

import (
	"testing"

	"github.com/everyhop/everyhop/sidecar"
)

func TestShare_NoneIsNotTheZeroValue(t *testing.T) {
	for _, c := range []struct {
		text string
		want float64
		ok   bool
	}{
		{"1", 1, true},
		{"0.25", 0.25, true},
		{"0", sidecar.NoAllows, true},
		{"-0.1", 0, false},
		{"1.01", 0, false},
		{"NaN", 0, false},
		{"+Inf", 0, false},
		{"half", 0, false},
		{"0.5 ", 0, false},
		{"", 0, false},
	} {
		var got float64
		if err := (&share{&got}).Set(c.text); (err == nil) != c.ok || got != c.want {
			t.Errorf("%q: got %v, %v", c.text, got, err)
		}
	}
}

func FuzzNewRequest(f *testing.F) {
	f.Add("spiffe://example.org/web", "GET", "/orders/7?a=b", "Host: [::1]:8443")
	f.Add("web", "", "", "upgrade")
	f.Fuzz(func(t *testing.T, caller, method, target, header string) {
		r, err := newRequest(caller, []string{method, target}, []string{header})
		if err != nil {
			return
		}
		if r.Caller.IsZero() || r.Method != method {
			t.Errorf("%+v", r)
		}
		if back := r.Path + "?" + r.Query; back != target && back != target+"?" {
			t.Errorf("%q became %q and %q", target, r.Path, r.Query)
		}
	})
}

func TestNewRequest_HeadersThatTakePartInADecision(t *testing.T) {
	r, err := newRequest("spiffe://example.org/web", []string{"POST", "/a"}, []string{
		"Host: Orders.Test:8443", "content-type: application/json", "Content-Length: 3", "UPGRADE: WebSocket", "x-other: 1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Host != "orders.test" || r.ContentType != "application/json" || !r.Body || r.Upgrade != "websocket" {
		t.Errorf("%+v", r)
	}
	if r, _ = newRequest("spiffe://example.org/web", []string{"GET", "/a"}, []string{"Host: [::1]", "content-length: 0"}); r.Host != "[::1]" || r.Body {
		t.Errorf("%+v", r)
	}
}

func FuzzParseClaims(f *testing.F) {
	f.Add(`tenant="acme"`)
	f.Add("a=b=c")
	f.Fuzz(func(t *testing.T, text string) {
		if claims, err := parseClaims([]string{text}); err == nil && len(claims) != 1 {
			t.Errorf("%q became %v", text, claims)
		}
	})
}
