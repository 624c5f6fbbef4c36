package hop

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/audit"
	"github.com/everyhop/everyhop/sidecar/forward"
	"github.com/everyhop/everyhop/sidecar/lease"
)

// methods are those that a route may name and we forward, for the Allow of a 405.
const methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// Exchange is one request that is being answered: its record, and the one way to
// refuse it.
type Exchange struct {
	Record audit.Record
	// Facts are what the decision was made of, About what else Config.Judge has to
	// know. They do not change once Forward is called.
	Facts policy.Request
	About any

	config     *Config
	lease      lease.Lease
	rein       forward.Rein
	expelled   atomic.Uint32 // a policy.Reason: why the request was ended from here
	w          http.ResponseWriter
	r          *http.Request
	log        *audit.Log
	logger     *slog.Logger
	now        func() time.Time
	forwarding bool // the head may be out: only cutting tells the client now
	cut        bool
	closed     policy.Reason // why a WebSocket was closed from here; Allowed: it was not
}

// Config is what an [Exchange] needs of the hop.
type Config struct {
	Direction string // audit.Inbound or audit.Outbound
	Audit     *audit.Log
	Logger    *slog.Logger
	Now       func() time.Time
	// Policy is the snapshot of this moment, and Judge whether what it allowed may go
	// on: of a request that is being forwarded, or of the WebSocket it has become.
	// Nil: it is not asked.
	Policy  func() *policy.Snapshot
	Judge   func(x *Exchange, now time.Time) lease.Standing
	Leases  *lease.Book
	Sockets *Sockets
}

// Begin opens the record of a request. The caller defers [Exchange.End] at once.
func Begin(w http.ResponseWriter, r *http.Request, config *Config) *Exchange {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return &Exchange{
		config: config, w: w, r: r, log: config.Audit, logger: config.Logger, now: config.Now, closed: policy.Allowed,
		Record: audit.Record{
			Time:      config.Now(),
			ID:        config.Audit.NewID(),
			Direction: config.Direction,
			Method:    r.Method,
			Path:      path,
			Trace:     traceID(r.Header.Get("Traceparent")),
		},
	}
}

// Under notes which policy judges the request.
func (x *Exchange) Under(s *policy.Snapshot) {
	if s != nil {
		x.Record.Digest, x.Record.Generation = s.Digest, s.Generation
	}
}

// Decided notes the decision, and refuses the request if it is a denial.
func (x *Exchange) Decided(d policy.Decision) (allowed bool) {
	x.Record.Rule, x.Record.Shadow, x.Record.Route = d.Grant, d.Shadow, d.Route
	if d.Verdict != policy.Allow {
		x.Refuse(d.Reason)
		return false
	}
	x.Record.Verdict, x.Record.Reason = policy.Allow, policy.Allowed
	return true
}

// Recordable reports whether the request's record can be written, and refuses it
// if not: nothing passes that cannot be accounted for.
func (x *Exchange) Recordable() bool {
	if x.log.Ready() != nil {
		x.Refuse(policy.AuditUnavailable)
		return false
	}
	return true
}

// Refuse answers with the one form of refusal, and records the reason.
func (x *Exchange) Refuse(reason policy.Reason) {
	x.Record.Verdict, x.Record.Reason = policy.Deny, reason
	x.answer(reason)
}

func (x *Exchange) answer(reason policy.Reason) {
	refusal := forward.Refusal{Status: reason.Status(), GRPCStatus: reason.GRPCStatus(), Decision: x.Record.ID}
	if refusal.Status == http.StatusMethodNotAllowed {
		refusal.Allow = methods
	}
	x.Record.Status = refusal.Status
	if forward.IsGRPC(x.r) {
		x.Record.Status = http.StatusOK
	}
	forward.Refuse(x.w, x.r, refusal)
}

// Select makes the header that goes on, or refuses the request.
func (x *Exchange) Select(pass *forward.Pass) (header http.Header, ok bool) {
	header, dropped, err := pass.Select(x.r.Header)
	x.Record.DroppedHeaders = dropped
	switch err {
	case nil:
		return header, true
	case forward.ErrCookieCount:
		x.Refuse(policy.HeadersTooLarge)
	default:
		x.Refuse(policy.HeaderMalformed)
	}
	return nil, false
}

// Forward carries the request, and answers in the upstream's place where that
// does not.
func (x *Exchange) Forward(job *forward.Job) {
	x.forwarding = true
	result := x.carry(job)
	x.forwarding = false
	x.Record.Status, x.Record.BytesIn, x.Record.BytesOut = result.Status, result.BytesIn, result.BytesOut
	if x.closed != policy.Allowed {
		x.Record.Reason = x.closed
		return
	}
	if result.Fault == forward.None {
		return
	}
	if result.Fault >= forward.Unreachable {
		x.Record.Fault = result.ErrorType()
		x.logger.Warn("forwarding", "decision", x.Record.ID, "direction", x.Record.Direction, "fault", result.Fault.String(), "err", result.Err)
	}
	x.Record.Reason = x.reasonOf(result.Fault)
	if x.cut = result.Cut(); result.Status == 0 {
		x.answer(x.Record.Reason)
	}
	if result.Fault == forward.BodyTooLarge || result.Fault == forward.BodyBroken || result.Fault == forward.Withdrawn && result.Status == 0 {
		x.Record.Verdict = policy.Deny // it was the request's own fault
	}
}

// carry carries the request under a lease. A WebSocket has one of its own.
func (x *Exchange) carry(job *forward.Job) forward.Result {
	switch {
	case x.config.Judge == nil:
		return forward.Do(x.w, x.r, job)
	case job.Upgrade != "":
		x.keep(job)
		return forward.Do(x.w, x.r, job)
	}
	job.Rein = &x.rein
	x.config.Leases.Begin(&x.lease, x)
	defer x.lease.End()
	if s := x.config.Policy(); s == nil || s.Generation != x.Record.Generation {
		x.lease.Recheck() // it changed before the book knew of us
	}
	return forward.Do(x.w, x.r, job)
}

// Judge is whether the request may go on.
func (x *Exchange) Judge(now time.Time) lease.Standing { return x.config.Judge(x, now) }

// Expel ends the request.
func (x *Exchange) Expel(reason policy.Reason) {
	x.expelled.Store(uint32(reason))
	x.rein.Pull(reason.GRPCStatus())
}

// reasonOf is the reason for a fault. Where a connection broke, it may be we who
// cut it, for what its peer's standing has become.
func (x *Exchange) reasonOf(fault forward.Fault) policy.Reason {
	if fault == forward.Withdrawn {
		return policy.Reason(x.expelled.Load())
	}
	if (fault == forward.ClientGone || fault == forward.Broken) && x.config.Judge != nil {
		if s := x.Judge(x.now()); s.Urgent() {
			return s.Reason
		}
	}
	return reasonOf(fault)
}

// End writes the record. It is deferred, so that a panic is recorded too, as a
// denial; and it breaks the connection where an answer was begun that has no end.
func (x *Exchange) End() {
	if fault := recover(); fault != nil {
		x.logger.Error("a request made the evaluator panic", "decision", x.Record.ID, "panic", fault, "stack", string(debug.Stack()))
		if x.cut = x.forwarding || x.cut; x.cut {
			x.Record.Verdict, x.Record.Reason = policy.Deny, policy.EvaluatorPanic
		} else {
			x.Refuse(policy.EvaluatorPanic)
		}
	}
	x.Record.Duration = x.now().Sub(x.Record.Time)
	x.log.Write(&x.Record)
	if x.cut {
		panic(http.ErrAbortHandler) // how the wire is told to break it
	}
}

// reasons are what each fault is called; one without is the upstream's.
var reasons = [...]policy.Reason{
	forward.None:         policy.Allowed,
	forward.Withdrawn:    policy.LeaseEnded, // where nobody says why
	forward.ClientGone:   policy.ClientGone,
	forward.BodyTooLarge: policy.BodyTooLarge,
	forward.BodyBroken:   policy.BodyMalformed,
	forward.Unreachable:  policy.UpstreamUnreachable,
	forward.Unverified:   policy.UpstreamUnverified,
	forward.Timeout:      policy.UpstreamTimeout,
	forward.Broken:       policy.UpstreamFault,
}

func reasonOf(f forward.Fault) policy.Reason {
	if int(f) < len(reasons) {
		return reasons[f]
	}
	return policy.UpstreamFault
}

// Mark tells the sidecars of a service from others in Via, and its two directions
// from each other, without naming the service to whoever is called.
func Mark(direction string, service spiffeid.ID) string {
	h := hashOn(hashOn(hashOn(fnvOffset, direction), " "), service.String())
	return strconv.FormatUint(h, 36)
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// hashOn goes on with an FNV-1a hash. That of hash/fnv wants the bytes in one
// piece of memory, for each request.
func hashOn(h uint64, text string) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * fnvPrime
	}
	return h
}

// traceID is the trace id of a traceparent, empty if it is none: W3C Trace
// Context, section 3.2.
func traceID(traceparent string) string {
	version, rest, _ := strings.Cut(traceparent, "-")
	id, rest, _ := strings.Cut(rest, "-")
	parent, rest, ok := strings.Cut(rest, "-")
	flags, _, _ := strings.Cut(rest, "-")
	if !ok || len(version) != 2 || len(id) != 32 || len(parent) != 16 || len(flags) != 2 {
		return ""
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	return id
}
