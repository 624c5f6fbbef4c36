package sidecar

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	probeTimeout = 2 * time.Second
	probeLength  = 64 << 10 // bytes of an answer that are of interest
)

// Probe asks the sidecar whose admin listener is at address, as in [Config.Admin],
// what /readyz says. It is for probes in an image that has no shell and no curl.
// The error is that nobody answered.
func Probe(ctx context.Context, address string) (ready bool, says string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	network, at, host := "tcp", address, address
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		network, at, host = "unix", path, "localhost"
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/readyz", nil)
	if err != nil {
		return false, "", fmt.Errorf("asking the admin listener at %s: %w", address, err)
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return false, "", fmt.Errorf("asking the admin listener at %s: %w", address, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, probeLength))
	if err != nil {
		return false, "", fmt.Errorf("reading the answer of the admin listener at %s: %w", address, err)
	}
	return answer.StatusCode == http.StatusOK, string(text), nil
}
