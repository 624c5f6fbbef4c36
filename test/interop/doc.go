// Package interop holds the sidecar against programs that others wrote: h2spec,
// grpc-go, curl, nghttp, nginx, HAProxy, Envoy, Apache, Node and Python speak to
// real sidecars over real sockets, and what arrived is compared with what the
// sidecars say they let through.
//
// install.sh gets the programs. Without them the tests that need one say NOT RUN;
// on CI they fail. EVERYHOP_LONG=1 runs everything at its full size.
package interop
