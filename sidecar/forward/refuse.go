package forward

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// Refusal is what a client is told: that it was refused, and where to look it up.
// The zero Refusal answers 503.
type Refusal struct {
	Status     int    // the HTTP status
	GRPCStatus int    // what a gRPC client gets in its place
	Decision   string // the decision's id
	Allow      string // the methods of a 405: RFC 9110 section 15.5.6 wants them
}

// Refuse answers the request with a refusal: application/problem+json (RFC 9457),
// or on gRPC a trailers-only answer. It is the one form that every refusal has.
// An HTTP/1 connection on which something was malformed is closed: its next bytes
// are not to be trusted.
func Refuse(w http.ResponseWriter, r *http.Request, refusal Refusal) {
	if refusal.Status == 0 {
		refusal.Status, refusal.GRPCStatus = http.StatusServiceUnavailable, 14
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if refusal.Decision != "" {
		header.Set("Everyhop-Decision", refusal.Decision)
	}
	if IsGRPC(r) {
		header.Set("Content-Type", "application/grpc")
		header.Set("Grpc-Status", strconv.Itoa(refusal.GRPCStatus))
		w.WriteHeader(http.StatusOK)
		return
	}
	if r.ProtoMajor == 1 && (endsConnection(refusal.Status) || r.ContentLength != 0 && !drain(r, http.NewResponseController(w))) {
		header.Set("Connection", "close")
	}
	if refusal.Status == http.StatusUpgradeRequired {
		sayVersion(header, r)
	}
	if refusal.Allow != "" {
		header.Set("Allow", refusal.Allow)
	}
	body := problem(refusal)
	header.Set("Content-Type", "application/problem+json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(refusal.Status)
	_, _ = w.Write(body) // a client that went away has its refusal too
}

func problem(refusal Refusal) []byte {
	title := http.StatusText(refusal.Status)
	if title == "" {
		title = "Refused"
	}
	body, err := json.Marshal(struct {
		Title    string `json:"title"`
		Status   int    `json:"status"`
		Decision string `json:"decision,omitempty"`
	}{title, refusal.Status, refusal.Decision})
	if err != nil { // of strings and a number there is none
		return nil
	}
	return append(body, '\n')
}

func endsConnection(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong,
		http.StatusExpectationFailed, http.StatusMisdirectedRequest, http.StatusRequestHeaderFieldsTooLarge,
		http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return true
	}
	return false
}

// cutTarget splits a target as received into path and query. asked reports a
// question mark, with or without something behind it.
func cutTarget(target string) (path, query string, asked bool) {
	return strings.Cut(target, "?")
}
