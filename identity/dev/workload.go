package dev

import (
	"context"
	"maps"
	"slices"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// requireHeader refuses a client that did not mean to call the Workload API,
// such as one made to by a forged request (SPIFFE Workload Endpoint section 3).
func requireHeader(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := checkHeader(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func requireHeaderOfStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := checkHeader(stream.Context()); err != nil {
		return err
	}
	return next(srv, stream)
}

func checkHeader(ctx context.Context) error {
	if !slices.Equal(metadata.ValueFromIncomingContext(ctx, "workload.spiffe.io"), []string{"true"}) {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	return nil
}

// workloadAPI answers for one endpoint. The WIT-SVID calls are Unimplemented.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	e *endpoint
}

// FetchX509SVID streams the SVID and all bundles (Workload API section 5.2.1).
func (w *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	return follow(stream, w.e.x509SVID)
}

// FetchX509Bundles streams the bundles alone (section 5.2.2).
func (w *workloadAPI) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return follow(stream, w.e.x509Bundles)
}

// FetchJWTBundles streams the key sets of JWT-SVIDs (section 6.2.2).
func (w *workloadAPI) FetchJWTBundles(_ *workload.JWTBundlesRequest, stream grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	return follow(stream, w.e.jwtBundles)
}

// follow sends what answer gives now and after each change, until the client
// leaves, the socket closes or answer has an error.
func follow[M any](stream grpc.ServerStreamingServer[M], answer func() (*M, <-chan struct{}, error)) error {
	for {
		message, changed, err := answer()
		if err != nil {
			return err
		}
		if err := stream.Send(message); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// x509SVID is the answer now, and what says that it is another.
func (e *endpoint) x509SVID() (*workload.X509SVIDResponse, <-chan struct{}, error) {
	e.d.mu.Lock()
	defer e.d.mu.Unlock()
	if e.failure != nil || e.pushed != nil {
		return e.pushed, e.svids.next, e.failure
	}
	resp, err := e.d.message(e.svid)
	return resp, e.svids.next, err
}

func (e *endpoint) x509Bundles() (*workload.X509BundlesResponse, <-chan struct{}, error) {
	e.d.mu.Lock()
	defer e.d.mu.Unlock()
	bundles := e.d.federatedX509()
	bundles[e.d.td.IDString()] = concatenate(e.d.ca.bundle)
	return &workload.X509BundlesResponse{Bundles: bundles}, e.bundles.next, e.failure
}

func (e *endpoint) jwtBundles() (*workload.JWTBundlesResponse, <-chan struct{}, error) {
	e.d.mu.Lock()
	defer e.d.mu.Unlock()
	bundles := map[string][]byte{}
	for _, b := range e.d.bundles() {
		keys, err := spiffebundle.FromJWTAuthorities(b.TrustDomain(), b.JWTAuthorities()).Marshal()
		if err != nil {
			return nil, nil, status.Errorf(codes.Internal, "writing the JWT bundle of %s: %v", b.TrustDomain(), err)
		}
		bundles[b.TrustDomain().IDString()] = keys
	}
	return &workload.JWTBundlesResponse{Bundles: bundles}, e.bundles.next, e.failure
}

// FetchJWTSVID makes a JWT-SVID for the audience (section 6.2.1).
func (w *workloadAPI) FetchJWTSVID(_ context.Context, req *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	if err := w.e.failed(); err != nil {
		return nil, err
	}
	if len(req.GetAudience()) == 0 || slices.Contains(req.GetAudience(), "") {
		return nil, status.Error(codes.InvalidArgument, "audience must be specified")
	}
	if want := req.GetSpiffeId(); want != "" && want != w.e.id.String() {
		return nil, status.Error(codes.PermissionDenied, "no identity issued")
	}
	token, err := w.e.d.jwtSVID(w.e.id, req.GetAudience())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{SpiffeId: w.e.id.String(), Svid: token}}}, nil
}

// ValidateJWTSVID verifies a JWT-SVID of our domain or a federated one for the
// audience (section 6.2.3).
func (w *workloadAPI) ValidateJWTSVID(_ context.Context, req *workload.ValidateJWTSVIDRequest) (*workload.ValidateJWTSVIDResponse, error) {
	if err := w.e.failed(); err != nil {
		return nil, err
	}
	if req.GetAudience() == "" || req.GetSvid() == "" {
		return nil, status.Error(codes.InvalidArgument, "audience and svid must be specified")
	}
	svid, err := jwtsvid.ParseAndValidate(req.GetSvid(), w.e.d.jwtKeys(), []string{req.GetAudience()})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	claims, err := structpb.NewStruct(svid.Claims)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "reading its claims: %v", err)
	}
	return &workload.ValidateJWTSVIDResponse{SpiffeId: svid.ID.String(), Claims: claims}, nil
}

func (e *endpoint) failed() error {
	e.d.mu.Lock()
	defer e.d.mu.Unlock()
	return e.failure
}

// jwtKeys is the keys of every domain that we trust, each for its own SVIDs.
func (d *Domain) jwtKeys() jwtbundle.Source {
	d.mu.Lock()
	defer d.mu.Unlock()
	return spiffebundle.NewSet(d.bundles()...)
}

// bundles is our own and the federated ones; d.mu is held.
func (d *Domain) bundles() []*spiffebundle.Bundle {
	bundles := []*spiffebundle.Bundle{d.bundle()}
	for p := range maps.Values(d.partners) {
		bundles = append(bundles, p.bundle)
	}
	return bundles
}

// federatedX509 is the federated bundles as the API writes them; d.mu is held.
func (d *Domain) federatedX509() map[string][]byte {
	bundles := map[string][]byte{}
	for td, p := range d.partners {
		bundles[td.IDString()] = concatenate(p.bundle.X509Authorities())
	}
	return bundles
}
