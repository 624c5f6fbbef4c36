package dev

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// raw is a client that speaks the protocol and checks nothing.
func raw(t *testing.T, d *Domain, name string) workload.SpiffeWorkloadAPIClient {
	t.Helper()
	conn, err := grpc.NewClient(d.Socket(name), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	return workload.NewSpiffeWorkloadAPIClient(conn)
}

func TestPush_SendsAnyMessageUntilCleared(t *testing.T) {
	d := serve(t, Options{}, "web")
	stream, err := raw(t, d, "web").FetchX509SVID(metadata.AppendToOutgoingContext(testContext(t), "workload.spiffe.io", "true"), nil)
	must(t, err)
	good, err := stream.Recv()
	must(t, err)

	must(t, d.Push("web", &workload.X509SVIDResponse{Svids: []*workload.X509SVID{{SpiffeId: "garbage", X509Svid: []byte{1, 2}}}}))
	bad, err := stream.Recv()
	must(t, err)
	if got := bad.GetSvids()[0].GetSpiffeId(); got != "garbage" {
		t.Errorf("got %q", got)
	}
	must(t, d.Clear("web"))
	again, err := stream.Recv()
	must(t, err)
	if got, want := again.GetSvids()[0].GetSpiffeId(), good.GetSvids()[0].GetSpiffeId(); got != want {
		t.Errorf("got %q after clearing, want %q", got, want)
	}
	if err := d.Push("web", nil); err == nil {
		t.Error("pushed nothing")
	}
}

func TestPush_MessageOfTwoSVIDsReachesClient(t *testing.T) {
	d := serve(t, Options{}, "web")
	a, err := d.Mint("a")
	must(t, err)
	b, err := d.Mint("b")
	must(t, err)
	resp, err := d.Message(a, b)
	must(t, err)
	must(t, d.Push("web", resp))
	svids, err := dial(t, d, "web").FetchX509SVIDs(testContext(t))
	must(t, err)
	if len(svids) != 2 || svids[0].ID != a.ID || svids[1].ID != b.ID {
		t.Errorf("got %v", svids)
	}
}

func TestFail_EndsStreamsAndRefusesEveryCall(t *testing.T) {
	d := serve(t, Options{}, "web")
	w := watch(t, d, "web")
	w.next(t)
	for _, code := range []codes.Code{codes.PermissionDenied, codes.Unavailable} {
		must(t, d.Fail("web", code))
		if got := status.Code(<-w.errors); got != code {
			t.Errorf("the open stream ended with %v, want %v", got, code)
		}
		ctx := metadata.AppendToOutgoingContext(testContext(t), "workload.spiffe.io", "true")
		client := raw(t, d, "web")
		_, err := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"a"}})
		if got := status.Code(err); got != code {
			t.Errorf("FetchJWTSVID: %v, want %v", got, code)
		}
		_, err = client.ValidateJWTSVID(ctx, &workload.ValidateJWTSVIDRequest{Audience: "a", Svid: "b"})
		if got := status.Code(err); got != code {
			t.Errorf("ValidateJWTSVID: %v, want %v", got, code)
		}
		bundles, err := client.FetchX509Bundles(ctx, nil)
		must(t, err)
		if _, err = bundles.Recv(); status.Code(err) != code {
			t.Errorf("FetchX509Bundles: %v, want %v", err, code)
		}
		keys, err := client.FetchJWTBundles(ctx, nil)
		must(t, err)
		if _, err = keys.Recv(); status.Code(err) != code {
			t.Errorf("FetchJWTBundles: %v, want %v", err, code)
		}
		must(t, d.Clear("web"))
		w.next(t)
	}
	if err := d.Fail("web", codes.OK); err == nil {
		t.Error("OK was taken for a failure")
	}
}

func TestCut_BreaksConnectionsAndAcceptsNewOnes(t *testing.T) {
	d := serve(t, Options{}, "web")
	w := watch(t, d, "web")
	w.next(t)
	must(t, d.Cut("web"))
	if got := status.Code(<-w.errors); got != codes.Unavailable {
		t.Errorf("the stream ended with %v", got)
	}
	w.next(t)
}

func TestFaults_NameWhoIsNotServed(t *testing.T) {
	d := serve(t, Options{}, "web")
	for what, err := range map[string]error{
		"Push":  d.Push("x", &workload.X509SVIDResponse{}),
		"Fail":  d.Fail("x", codes.Internal),
		"Clear": d.Clear("x"),
		"Cut":   d.Cut("x"),
		"Stop":  d.Stop("x"),
	} {
		if err == nil || err.Error() != `identity "x" is not served here` {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCalls_NeedTheSecurityHeader(t *testing.T) {
	d := serve(t, Options{}, "web")
	client := raw(t, d, "web")
	for _, header := range [][]string{{}, {"workload.spiffe.io", "false"}, {"workload.spiffe.io", "true", "workload.spiffe.io", "true"}} {
		ctx := metadata.AppendToOutgoingContext(testContext(t), header...)
		_, err := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"a"}})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: a call got %v", header, err)
		}
		stream, err := client.FetchX509SVID(ctx, nil)
		must(t, err)
		if _, err = stream.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: a stream got %v", header, err)
		}
	}
}

func TestCalls_WITIsUnimplemented(t *testing.T) {
	d := serve(t, Options{}, "web")
	if _, err := dial(t, d, "web").FetchWITSVIDs(testContext(t), ""); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}
