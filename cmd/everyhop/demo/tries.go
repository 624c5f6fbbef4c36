package demo

import "github.com/everyhop/everyhop/policy"

// tries is the table: what is tried, in order, and what must come of it.
func tries() []section {
	return []section{
		{"what is declared passes: the app's plain request, mutual TLS between the sidecars, the other app", []try{
			{by: "web", to: "orders", ask: "GET /orders/7", want: allowed("web")},
			{by: "web", to: "orders", ask: "GET /orders/7?expand=items", want: allowed("web")},
			{by: "web", to: "billing", ask: "GET /statements/2026-11", want: allowed("web")},
			{by: "billing", to: "orders", ask: "POST /orders/7/invoice", header: jsonBody, body: "{}", want: allowed("billing")},
		}},
		{"what is not declared does not (* is that service's SVID, used without its sidecar)", []try{
			{by: "web*", to: "orders", ask: "GET /admin", want: refused(policy.RouteUndeclared)},
			{by: "web*", to: "orders", ask: "DELETE /orders/7", want: refused(policy.RouteUndeclared)},
			{by: "web*", to: "orders", ask: "HEAD /orders/7", note: "(GET does not imply it)", want: refused(policy.RouteUndeclared)},
			{by: "web*", to: "orders", ask: "GET /orders/7?debug=1", want: refused(policy.QueryUndeclared)},
			{by: "web*", to: "orders", ask: "GET /orders/7", header: jsonBody, body: "{}", note: "with a body", want: refused(policy.BodyUndeclared)},
			{by: "mallory", to: "orders", ask: "GET /orders/7", note: "with an SVID of example.org", want: refused(policy.CallerUndeclared)},
			{by: "billing*", to: "orders", ask: "GET /orders/7", note: "which web may", want: refused(policy.CallerUndeclared)},
			{by: "web*", to: "orders", ask: "POST /orders/7/invoice", header: jsonBody, body: "{}", note: "which billing may", want: refused(policy.CallerUndeclared)},
		}},
		{"the caller's own sidecar holds it to its declared calls, and proves who answers", []try{
			{by: "web", to: "orders", ask: "DELETE /orders/7", want: refused(policy.RouteUndeclared)},
			{by: "web", to: "hijacked", ask: "GET /orders/7", note: "where billing answers for orders", want: refused(policy.UpstreamUnverified)},
		}},
		{"who calls is proved by the handshake, and by nothing else", []try{
			{by: "partner", to: "orders", ask: "GET /orders/7", note: "as spiffe://partner.test/web", want: cut("TLS alert: bad certificate", `no trust bundle for trust domain "partner.test"`)},
			{by: "forged", to: "orders", ask: "GET /orders/7", note: "as spiffe://example.org/web, self-signed", want: cut("TLS alert: bad certificate", "unknown authority")},
			{by: "expired", to: "orders", ask: "GET /orders/7", note: "with an old SVID of web", want: cut("TLS alert: bad certificate", "expired")},
			{by: "nobody", to: "orders", ask: "GET /orders/7", note: "without a certificate", want: cut("TLS alert: certificate required", "certificate")},
			{by: "tls12", to: "orders", ask: "GET /orders/7", note: "with web's SVID, on TLS 1.2", want: cut("TLS alert: protocol version not supported", "versions")},
			{by: "plain", to: "orders", ask: "GET /orders/7", note: "as plain HTTP", want: cut("closed", "does not look like a TLS handshake")},
		}},
		{"headers say nothing about who calls, and what is not declared is dropped", []try{
			{by: "web*", to: "orders", ask: "GET /orders/7", header: spoofed, note: "with six headers of another identity", want: allowed("web", "admin")},
			{by: "web*", to: "orders", ask: "GET /orders/7", header: []string{"X_Spiffe_Id: spiffe://example.org/admin"}, note: "with X_Spiffe_Id, the twin that CGI reads", want: refused(policy.HeaderMalformed)},
			{by: "web*", to: "orders", ask: "GET /orders/7", header: []string{"Connection: close, everyhop-caller"}, note: "with Connection: everyhop-caller, to strip it", want: allowed("web")},
			{by: "web*", to: "orders", ask: "GET /orders/7", header: []string{"X-Debug: on", "Cookie: theme=dark; sid=secret"}, note: "with X-Debug and a cookie sid", want: allowed("web", "x-debug", "secret")},
		}},
		{"a path that could be read in two ways is refused, never cleaned, never redirected", []try{
			{by: "web*", to: "orders", ask: "GET /orders/../admin", want: refused(policy.TargetAmbiguous)},
			{by: "web*", to: "orders", ask: "GET /orders/%2e%2e/admin", want: refused(policy.TargetAmbiguous)},
			{by: "web*", to: "orders", ask: "GET //orders/7", want: refused(policy.TargetAmbiguous)},
			{by: "web*", to: "orders", ask: "GET /orders%2F7", want: refused(policy.TargetAmbiguous)},
			{by: "web*", to: "orders", ask: "GET /orders/7%00", want: refused(policy.TargetAmbiguous)},
			{by: "web*", to: "orders", ask: "GET /orders/7;admin=1", want: refused(policy.TargetAmbiguous)},
			{by: "web*", to: "orders", ask: "GET /orders/7", header: twoLengths, body: smuggled, note: "with GET /admin hidden in a body of two lengths", want: refused(policy.BodyMalformed)},
		}},
		{"the policy of orders is edited while it runs", []try{
			{by: "web", to: "orders", ask: "GET /orders/7/items", note: "before the edit", want: refused(policy.RouteUndeclared)},
			{by: "web", to: "orders", ask: "GET /orders/7/items", note: "with a grant for it", before: addItems, want: allowed("web")},
			{by: "operator", to: "orders", ask: "GET /readyz", note: "after an edit with a mistake", before: breakPolicy, want: want{status: 200, why: "degraded"}},
			{by: "web", to: "orders", ask: "GET /orders/7/items", note: "by the last good policy", want: allowed("web")},
			{by: "operator", to: "orders", ask: "GET /readyz", note: "with both edits undone", before: restorePolicy, want: want{status: 200, why: "ready"}},
			{by: "web", to: "orders", ask: "GET /orders/7/items", note: "and it is closed again", want: refused(policy.RouteUndeclared)},
		}},
	}
}

var jsonBody = []string{"Content-Type: application/json", "Content-Length: 2"}

var spoofed = []string{
	"Everyhop-Caller: spiffe://example.org/admin",
	"EVERYHOP.USER: admin",
	"X-Spiffe-Id: spiffe://example.org/admin",
	"X-Forwarded-Client-Cert: URI=spiffe://example.org/admin",
	"X-Forwarded-For: 10.0.0.1, admin",
	"Forwarded: for=admin",
}

var twoLengths = []string{"Content-Length: 4", "Transfer-Encoding: chunked"}

const smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: orders\r\n\r\n"
