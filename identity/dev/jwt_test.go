package dev

import (
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestJWTSVID_FetchedValidatedAndVerifiedByBundle(t *testing.T) {
	d := serve(t, Options{}, "web", "orders")
	web, orders := dial(t, d, "web"), dial(t, d, "orders")
	ctx := testContext(t)
	svid, err := web.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "orders", ExtraAudiences: []string{"billing"}})
	must(t, err)

	remote, err := orders.ValidateJWTSVID(ctx, svid.Marshal(), "billing")
	must(t, err)
	if remote.ID.String() != "spiffe://example.org/web" || remote.Claims["sub"] != "spiffe://example.org/web" {
		t.Errorf("validated as %s with claims %v", remote.ID, remote.Claims)
	}
	bundles, err := orders.FetchJWTBundles(ctx)
	must(t, err)
	local, err := jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{"orders"})
	must(t, err)
	if left := time.Until(local.Expiry); left <= 4*time.Minute || left > 5*time.Minute {
		t.Errorf("it lives %v more", left)
	}
	if _, err := orders.ValidateJWTSVID(ctx, svid.Marshal(), "shipping"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another audience: %v", err)
	}
	forged := svid.Marshal()[:len(svid.Marshal())-8] + "AAAAAAAA"
	if _, err := orders.ValidateJWTSVID(ctx, forged, "orders"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another signature: %v", err)
	}
}

func TestJWTSVID_RefusesBadRequests(t *testing.T) {
	d := serve(t, Options{}, "web")
	client := raw(t, d, "web")
	ctx := metadata.AppendToOutgoingContext(testContext(t), "workload.spiffe.io", "true")
	for _, tc := range []struct {
		req  *workload.JWTSVIDRequest
		want codes.Code
	}{
		{&workload.JWTSVIDRequest{}, codes.InvalidArgument},
		{&workload.JWTSVIDRequest{Audience: []string{""}}, codes.InvalidArgument},
		{&workload.JWTSVIDRequest{Audience: []string{"a"}, SpiffeId: "spiffe://example.org/orders"}, codes.PermissionDenied},
		{&workload.JWTSVIDRequest{Audience: []string{"a"}, SpiffeId: "spiffe://example.org/web"}, codes.OK},
	} {
		if _, err := client.FetchJWTSVID(ctx, tc.req); status.Code(err) != tc.want {
			t.Errorf("%v: %v, want %v", tc.req, err, tc.want)
		}
	}
	if _, err := client.ValidateJWTSVID(ctx, &workload.ValidateJWTSVIDRequest{Svid: "x"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no audience: %v", err)
	}
}

func TestJWTBundle_SaysWhatItIsFor(t *testing.T) {
	d := serve(t, Options{}, "web")
	stream, err := raw(t, d, "web").FetchJWTBundles(metadata.AppendToOutgoingContext(testContext(t), "workload.spiffe.io", "true"), nil)
	must(t, err)
	resp, err := stream.Recv()
	must(t, err)
	keys := string(resp.GetBundles()["spiffe://example.org"])
	for _, want := range []string{`"use":"jwt-svid"`, `"kid":"`, `"crv":"P-256"`} {
		if !strings.Contains(keys, want) {
			t.Errorf("%s lacks %s", keys, want)
		}
	}
	if strings.Contains(keys, `"d":`) {
		t.Error("the private key is in the bundle")
	}
}

func TestX509Bundles_AreServedWithoutAnSVID(t *testing.T) {
	d := serve(t, Options{}, "web")
	bundles, err := dial(t, d, "web").FetchX509Bundles(testContext(t))
	must(t, err)
	b, err := bundles.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("example.org"))
	must(t, err)
	if !b.HasX509Authority(d.Bundle()[0]) {
		t.Error("our own authority is not in it")
	}
}
