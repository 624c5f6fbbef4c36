package policy

// Verdict says whether a request may pass. The zero Verdict is Deny.
type Verdict uint8

// The verdicts.
const (
	Deny Verdict = iota
	Allow
)

// String is "deny" or "allow".
func (v Verdict) String() string {
	if v == Allow {
		return "allow"
	}
	return "deny"
}

// Reason says why, from a closed set: it is the metric label, the audit field
// and what explain prints. The zero Reason is a denial by no rule at all.
type Reason uint8

// The reasons.
const (
	NoPolicy Reason = iota // no good policy was ever loaded
	Allowed
	RouteUndeclared
	CallerUndeclared
	CallerBanned
	GrantEnded
	OutsideWindow
	SourceUndeclared
	HostUndeclared
	QueryMalformed
	QueryUndeclared
	QueryRepeated
	BodyUndeclared
	BodyType
	BodyTooLarge
	UpgradeUndeclared
	OriginUndeclared
	UpgradeMalformed
	UpgradeVersion
	TargetAmbiguous
	TargetForm
	TargetTooLong
	MethodMalformed
	HostMalformed
	HostMismatch
	HeaderMalformed
	HeadersTooLarge
	BodyMalformed
	RequestMalformed
	CodingRefused
	ExpectationRefused
	RequestSlow
	MethodRefused
	VersionRefused
	SchemeMismatch
	PeerUnverified
	PeerExpired
	PeerBanned
	LeaseEnded
	IdentityMissing
	AuditUnavailable
	EvaluatorPanic
	RequestLoop
	UpstreamUnreachable
	UpstreamUnverified
	UpstreamTimeout
	UpstreamFault
	ClientGone
	Stopped
	reasonCount
)

type reasonRow struct {
	name   string
	status int    // what an HTTP client gets: RFC 9110 section 15
	grpc   int    // what a gRPC client gets: the gRPC status code
	says   string // for a person: a clause that fits after "because"
}

// One row a reason: the one place where a reason becomes a status.
var reasons = [reasonCount]reasonRow{
	NoPolicy:            {"no_policy", 503, 14, "no good policy is loaded"},
	Allowed:             {"allowed", 200, 0, "a grant allows it"},
	RouteUndeclared:     {"route_undeclared", 403, 7, "no grant names this method and path"},
	CallerUndeclared:    {"caller_undeclared", 403, 7, "no grant on this route names this caller"},
	CallerBanned:        {"caller_banned", 403, 7, "the caller is banned"},
	GrantEnded:          {"grant_ended", 403, 7, "the grant has ended"},
	OutsideWindow:       {"outside_window", 403, 7, "the grant is not open at this time"},
	SourceUndeclared:    {"source_undeclared", 403, 7, "the grant does not name the address it comes from"},
	HostUndeclared:      {"host_undeclared", 403, 7, "the grant does not name this host"},
	QueryMalformed:      {"query_malformed", 400, 3, "the query is malformed"},
	QueryUndeclared:     {"query_undeclared", 400, 3, "the grant does not declare this query parameter"},
	QueryRepeated:       {"query_repeated", 400, 3, "a query parameter is given more than once"},
	BodyUndeclared:      {"body_undeclared", 400, 3, "this method carries a body only where the grant has body:"},
	BodyType:            {"body_type", 415, 3, "the grant does not declare this content type"},
	BodyTooLarge:        {"body_too_large", 413, 8, "the body is larger than the grant allows"},
	UpgradeUndeclared:   {"upgrade_undeclared", 403, 7, "the grant opens no upgrade"},
	OriginUndeclared:    {"origin_undeclared", 403, 7, "the grant does not declare the header origin, and a browser asks for the upgrade"},
	UpgradeMalformed:    {"upgrade_malformed", 400, 3, "the WebSocket handshake is malformed"},
	UpgradeVersion:      {"upgrade_version", 426, 12, "only version 13 of WebSocket is spoken"},
	TargetAmbiguous:     {"target_ambiguous", 400, 3, "the path could be read in more than one way"},
	TargetForm:          {"target_form", 400, 3, "the request target has a form that is not accepted"},
	TargetTooLong:       {"target_too_long", 414, 3, "the request target is too long"},
	MethodMalformed:     {"method_malformed", 400, 3, "the method is not an HTTP token of at most 32 bytes"},
	HostMalformed:       {"host_malformed", 400, 3, "the host is not one valid host[:port]"},
	HostMismatch:        {"host_mismatch", 400, 3, "the target's authority and the host differ"},
	HeaderMalformed:     {"header_malformed", 400, 3, "a header field is malformed or repeated"},
	HeadersTooLarge:     {"headers_too_large", 431, 8, "there are too many header fields or cookies"},
	BodyMalformed:       {"body_malformed", 400, 3, "the body is not framed as HTTP demands"},
	RequestMalformed:    {"request_malformed", 400, 3, "the request line or a pseudo-field is malformed"},
	CodingRefused:       {"coding_refused", 501, 12, "the transfer coding is not only chunked"},
	ExpectationRefused:  {"expectation_refused", 417, 3, "the expectation is not 100-continue"},
	RequestSlow:         {"request_slow", 408, 4, "the request did not come in time"},
	MethodRefused:       {"method_refused", 405, 12, "CONNECT and TRACE are never forwarded"},
	VersionRefused:      {"version_refused", 505, 12, "only HTTP/1.1 and HTTP/2 are spoken"},
	SchemeMismatch:      {"scheme_mismatch", 421, 3, "the scheme is not the connection's"},
	PeerUnverified:      {"peer_unverified", 403, 16, "the connection proves no peer"},
	PeerExpired:         {"peer_expired", 403, 16, "the peer's certificate has expired"},
	PeerBanned:          {"peer_banned", 403, 7, "whoever must answer is banned"},
	LeaseEnded:          {"lease_ended", 503, 16, "it has lived as long as it may, and has to be asked for anew"},
	IdentityMissing:     {"identity_missing", 503, 14, "this sidecar has no valid identity"},
	AuditUnavailable:    {"audit_unavailable", 503, 14, "the decision could not be recorded"},
	EvaluatorPanic:      {"evaluator_panic", 500, 13, "the evaluator failed"},
	RequestLoop:         {"request_loop", 508, 9, "the request came round again"},
	UpstreamUnreachable: {"upstream_unreachable", 502, 14, "the upstream could not be reached"},
	UpstreamUnverified:  {"upstream_unverified", 502, 14, "the upstream did not prove the expected identity"},
	UpstreamTimeout:     {"upstream_timeout", 504, 4, "the upstream did not answer in time"},
	UpstreamFault:       {"upstream_fault", 502, 14, "the upstream's answer was broken"},
	ClientGone:          {"client_gone", 499, 1, "the client went away"},
	Stopped:             {"stopped", 503, 14, "this sidecar stopped before the connection had ended"},
}

// String is the reason's name in metrics, audit records and tests:.
func (r Reason) String() string { return r.row().name }

// Status is the HTTP status a client gets for it.
func (r Reason) Status() int { return r.row().status }

// GRPCStatus is the gRPC status code a gRPC client gets for it.
func (r Reason) GRPCStatus() int { return r.row().grpc }

// Explain is a clause for a person, to follow "because".
func (r Reason) Explain() string { return r.row().says }

func (r Reason) row() reasonRow {
	if r >= reasonCount {
		return reasons[NoPolicy]
	}
	return reasons[r]
}

// ParseReason is the reason of that name. "allow" is Allowed, as tests: say it.
func ParseReason(name string) (Reason, bool) {
	if name == "allow" {
		return Allowed, true
	}
	for r, row := range reasons {
		if row.name == name {
			return Reason(r), true
		}
	}
	return NoPolicy, false
}

// Reasons is the closed set, for metrics and docs.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}
