package demo

import (
	"errors"
	"fmt"
	"net"
)

// policyText is a service's policy as the demo begins, with ports that are free.
// Those services that it calls are open already.
func (s *shop) policyText(a *app, free func() string) string {
	app := a.listener.Addr()
	switch a.name {
	case "orders":
		return fmt.Sprintf(ordersPolicy, app)
	case "billing":
		return fmt.Sprintf(billingPolicy, app, s.inbound("orders"), free())
	}
	return fmt.Sprintf(webPolicy, app, s.inbound("orders"), s.inbound("billing"), free(), free(), free())
}

func (s *shop) inbound(name string) net.Addr { return s.services[name].sidecar.Addr("inbound") }

// reservation is ports that nobody has. They are held until the sidecar is about
// to open them, for a policy says which port it is.
type reservation struct {
	held []net.Listener
	err  error
}

func (r *reservation) free() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.err = errors.Join(r.err, err)
		return ""
	}
	r.held = append(r.held, ln)
	return ln.Addr().String()
}

func (r *reservation) release() error {
	for _, ln := range r.held {
		r.err = errors.Join(r.err, ln.Close())
	}
	r.held = nil
	return r.err
}

const ordersPolicy = `# orders is read by web, invoiced by billing, and reached by nobody else.
service: spiffe://example.org/orders
app: http://%s

allow:
  - name: read-order
    from: spiffe://example.org/web
    to: GET /orders/{id}
    query: [expand]
    headers: [x-request-id]
    cookies: [theme]

  - name: invoice
    from: spiffe://example.org/billing
    to: POST /orders/{id}/invoice
    body: {types: [application/json], max: 64KiB}
`

const billingPolicy = `# billing shows statements to web, and writes invoices to orders.
service: spiffe://example.org/billing
app: http://%s

allow:
  - name: read-statement
    from: spiffe://example.org/web
    to: GET /statements/{month}

calls:
  orders:
    as: spiffe://example.org/orders
    at: %s
    local: %s
    allow: ["POST /orders/{id}/invoice"]
`

const webPolicy = `# web is the front. Nobody here calls it; it calls orders and billing.
service: spiffe://example.org/web
app: http://%s

allow:
  - name: health
    from: spiffe://example.org/ops/**
    to: GET /healthz

calls:
  orders:
    as: spiffe://example.org/orders
    at: %[2]s
    local: %[4]s
    allow: ["GET /orders/{id}", "GET /orders/{id}/items"]
  billing:
    as: spiffe://example.org/billing
    at: %[3]s
    local: %[5]s
    allow: ["GET /statements/{month}"]
  # As if somebody had got the name or the address of orders: billing answers.
  hijacked:
    as: spiffe://example.org/orders
    at: %[3]s
    local: %[6]s
    allow: ["GET /orders/{id}"]
`

// The edits of the live policy, at the end of that of orders.
const (
	itemsGrant = `
  - name: read-items
    from: spiffe://example.org/web
    to: GET /orders/{id}/items
`
	brokenGrant = `
  - name: read-everything
    from: spiffe://example.org/web
    too: GET /**
`
)
