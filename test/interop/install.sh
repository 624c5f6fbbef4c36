#!/usr/bin/env bash
# Get the foreign programs that the tests here speak to: what is not installed is
# unpacked into a cache folder. Nothing is installed, and no service is started.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec go run ./test/tools/fetch nginx haproxy apache2 nghttp h2load curl node python3 envoy grpc-interop-client grpc-interop-server
