package svid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// endpoint is a SPIFFE Workload API. go-spiffe's own client is not used: it
// drops a whole message for one bad federated bundle, ends its watch for good on
// two status codes, and drops revocation lists unseen.
type endpoint struct {
	network, address string

	mu      sync.Mutex
	dialErr error // why the last connection could not be made, in a person's words
}

// follow keeps one stream of the Workload API open until ctx ends.
func (e *endpoint) follow(ctx context.Context, s *Source) {
	conn, err := e.connect()
	if err != nil {
		s.fail(err)
		return
	}
	defer conn.Close()
	e.warnRemote(s)
	for failures := 0; ; failures++ {
		began := time.Now() // how long a stream lived is no matter of certificates
		err := e.stream(ctx, conn, s)
		if ctx.Err() != nil {
			return // what the stream says of its own end is noise
		}
		e.report(s, err)
		if time.Since(began) >= healthyStream {
			failures = 0
		}
		if !pause(ctx, retryAfter(status.Code(err), failures, rand.Float64())) {
			return
		}
		// Without this, gRPC would repeat its last failure until its own back-off ends.
		conn.ResetConnectBackoff()
	}
}

// connect makes the client side of the connection; nothing is dialled yet.
func (e *endpoint) connect() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///workload-api",
		grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // SPIFFE Workload Endpoint section 3.1
		grpc.WithNoProxy(),
		grpc.WithContextDialer(e.dial),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastRetry},
			MinConnectTimeout: time.Second,
		}),
	)
}

func (e *endpoint) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := e.dialChecked(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dialErr = err
	return conn, err
}

func (e *endpoint) dialChecked(ctx context.Context) (net.Conn, error) {
	if e.network == schemeUnix {
		if err := checkDirectories(e.address); err != nil {
			return nil, err
		}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, e.network, e.address)
	if err != nil && e.network == schemeUnix {
		err = explainDial(e.address, err)
	}
	return conn, err
}

// stream takes every message of one stream, and returns what ended it.
func (e *endpoint) stream(ctx context.Context, conn *grpc.ClientConn, s *Source) error {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true"))
	defer cancel()
	stream, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		s.offer(message)
	}
}

// report says what the end of a stream means for what we hold: Workload API
// section 5.2.1, SPIFFE Workload Endpoint section 6.
func (e *endpoint) report(s *Source, err error) {
	switch status.Code(err) {
	case codes.PermissionDenied:
		s.withdraw(fmt.Errorf("the Workload API gives this process no identity: %s"+
			" (register the workload, with selectors that match this process)", status.Convert(err).Message()))
	case codes.InvalidArgument, codes.Unimplemented:
		s.fail(fmt.Errorf("the Workload API refuses the request, and is asked again only every %v: %w", refusedRetry, err))
	default:
		s.fail(e.explain(err))
	}
}

// explain prefers what the dialler saw to what gRPC makes of it.
func (e *endpoint) explain(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dialErr != nil && status.Code(err) == codes.Unavailable {
		return e.dialErr
	}
	if err == nil {
		err = errors.New("it ended")
	}
	return fmt.Errorf("the stream of the Workload API broke: %w", err)
}

// warnRemote warns of keys that cross a network in the clear.
func (e *endpoint) warnRemote(s *Source) {
	host, _, err := net.SplitHostPort(e.address)
	if ip := net.ParseIP(host); e.network == schemeTCP && err == nil && !ip.IsLoopback() {
		s.logger.Warn("the Workload API is not on this machine: our private key crosses the network in the clear",
			"source", s.identity)
	}
}

// How soon the source is asked again.
const (
	firstRetry    = 200 * time.Millisecond
	lastRetry     = time.Second
	refusedRetry  = 30 * time.Second
	healthyStream = time.Second // one that lived this long is asked again at once
)

// retryAfter is how long to wait before the next stream, after a number of
// failures in a row. jitter is in [0,1).
func retryAfter(code codes.Code, failures int, jitter float64) time.Duration {
	switch {
	case code == codes.InvalidArgument || code == codes.Unimplemented:
		return refusedRetry + time.Duration(jitter*float64(refusedRetry/5))
	case failures == 0:
		return 0
	}
	wait := min(firstRetry<<min(failures-1, 8), lastRetry*4/5)
	return wait + time.Duration(jitter*float64(wait/4))
}

// pause waits, and is false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
