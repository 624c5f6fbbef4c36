package interop

import (
	"net"
	"path/filepath"
	"testing"
)

// grpcCases are the cases of grpc-go's interop client, but
//   - compute_engine_creds, service_account_creds, jwt_token_creds, per_rpc_creds,
//     oauth2_auth_token, google_default_credentials and
//     compute_engine_channel_credentials, which need an account with Google, and
//     TLS of the app's own, where ours is the sidecars';
//   - pick_first_unary, which grpc-go's own server fails when it is asked without
//     us: it never fills in the server's id.
var grpcCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
	"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
	"rpc_soak", "channel_soak", "orca_per_rpc", "orca_oob",
}

// orcaBalancer is the balancer that the cases of ORCA read their reports from.
const orcaBalancer = `{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`

// T32.
func TestHop_PassesEveryCaseOfGRPCInterop(t *testing.T) {
	server, client := need(t, "grpc-interop-server"), need(t, "grpc-interop-client")
	address := freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	must(t, err)
	start(t, filepath.Join(t.TempDir(), "server"), server, "--port", port).awaitPort(t, address)
	p := newMesh(t).pair("h2c://" + address)
	host, port, err := net.SplitHostPort(p.local)
	must(t, err)
	for _, name := range grpcCases {
		t.Run(name, func(t *testing.T) {
			run(t, client, "--server_host", host, "--server_port", port, "--test_case", name, "--service_config_json", orcaBalancer)
		})
	}
}
