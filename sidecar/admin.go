package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/everyhop/everyhop/policy"
)

const (
	adminTimeout   = 10 * time.Second
	adminMaxHeader = 8 << 10
)

// admin tells people and probes how the sidecar is. It changes nothing, and never
// shares a socket with traffic: what it says is for whoever runs the machine.
type admin struct {
	listener net.Listener
	http     *http.Server
}

func (s *Sidecar) bindAdmin() error {
	ln := s.config.AdminListener
	if ln == nil {
		var err error
		if ln, err = listen(s.config.Admin); err != nil {
			return fmt.Errorf("opening the admin listener: %w (try --admin with another address)", err)
		}
		s.teardown.add("closing the admin listener", func(context.Context) error { return closeListener(ln) })
	}
	if at, ok := ln.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() {
		s.logger.Warn("the admin listener can be reached from other machines", "admin", at.String())
	}
	s.admin = &admin{listener: ln, http: &http.Server{
		Handler:                      readOnly(s.config.Admin, s.adminRoutes()),
		ReadTimeout:                  adminTimeout,
		WriteTimeout:                 adminTimeout,
		IdleTimeout:                  adminTimeout,
		MaxHeaderBytes:               adminMaxHeader,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(io.Discard, "", 0),
	}}
	s.teardown.add("stopping the admin listener", s.admin.stop)
	return nil
}

func (a *admin) serve() error {
	if err := a.http.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// stop cuts what does not end by itself within a moment: a scrape is no traffic.
func (a *admin) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := a.http.Shutdown(ctx); err != nil {
		return a.http.Close()
	}
	return nil
}

func (s *Sidecar) adminRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "alive\n") })
	mux.HandleFunc("/readyz", s.serveReadyz)
	mux.HandleFunc("/policy", s.servePolicy)
	mux.HandleFunc("/identity", s.serveIdentity)
	mux.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	return mux
}

// readOnly lets through what only looks, and only from whoever meant to ask us: a
// web page must not read it through somebody's browser, neither across origins nor
// by having its own name resolve to 127.0.0.1 (DNS rebinding).
func readOnly(bound string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			writeText(w, http.StatusMethodNotAllowed, "only GET: there is nothing to change here\n")
		case len(r.Header["Origin"]) > 0:
			writeText(w, http.StatusForbidden, "no requests from web pages\n")
		case !knownHost(r.Host, bound):
			writeText(w, http.StatusForbidden, "ask by IP address or as localhost\n")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// knownHost says whether host cannot be a name that somebody else controls: it is
// an address, localhost, or what we were told to bind.
func knownHost(host, bound string) bool {
	if strings.HasPrefix(bound, "unix://") {
		return true // no browser reaches it
	}
	name := withoutPort(host)
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	return strings.EqualFold(name, "localhost") || name != "" && strings.EqualFold(name, withoutPort(bound))
}

func withoutPort(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

func (s *Sidecar) serveReadyz(w http.ResponseWriter, _ *http.Request) {
	r := s.readiness()
	status := http.StatusOK
	if len(r.reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	writeText(w, status, r.String())
}

type policyView struct {
	File       string     `json:"file"`
	Service    string     `json:"service"`
	Digest     string     `json:"digest"`
	Generation uint64     `json:"generation"`
	LoadedAt   time.Time  `json:"loaded_at"`
	LastError  string     `json:"last_error,omitempty"`
	Grants     []ruleView `json:"grants"`
	Calls      []callView `json:"calls"`
}

type ruleView struct {
	Name   string `json:"name"`
	At     string `json:"at"`
	Shadow bool   `json:"shadow,omitempty"`
}

type callView struct {
	Name  string `json:"name"`
	At    string `json:"at"`
	As    string `json:"as"`
	Local string `json:"local,omitempty"`
}

func (s *Sidecar) servePolicy(w http.ResponseWriter, _ *http.Request) {
	p := s.Policy()
	view := policyView{
		File: p.File, Service: p.Service.String(), Digest: p.Digest, Generation: p.Generation,
		LoadedAt: s.file.Status().LoadedAt,
		Grants:   make([]ruleView, 0, len(p.Grants)),
		Calls:    make([]callView, 0, len(p.Calls)),
	}
	if err := s.policyError(); err != nil {
		view.LastError = err.Error()
	}
	for _, rule := range p.Grants {
		view.Grants = append(view.Grants, ruleView{rule.Name, rule.Pos.String(), rule.Shadow})
	}
	for _, call := range p.Calls {
		view.Calls = append(view.Calls, s.viewCall(call))
	}
	writeJSON(w, view)
}

func (s *Sidecar) viewCall(call *policy.CallRule) callView {
	view := callView{Name: call.Name, At: call.Pos.String(), As: call.As.String()}
	if at := s.outbound.Addr(call.Name); at != nil {
		view.Local = at.String()
	}
	return view
}

type identityView struct {
	Source       string         `json:"source"`
	Service      string         `json:"service"`
	ID           string         `json:"id,omitempty"`
	Serial       string         `json:"serial,omitempty"`
	NotBefore    *time.Time     `json:"not_before,omitempty"`
	NotAfter     *time.Time     `json:"not_after,omitempty"`
	TrustDomains map[string]int `json:"trust_domains"` // and how many authorities each has
	Warnings     []string       `json:"warnings,omitempty"`
	LastUpdate   *time.Time     `json:"last_update,omitempty"`
	LastError    string         `json:"last_error,omitempty"`
	Updates      uint64         `json:"updates"`
	Failures     uint64         `json:"failures"`
}

func (s *Sidecar) serveIdentity(w http.ResponseWriter, _ *http.Request) {
	st := s.identity.Status()
	view := identityView{
		Source: st.Source, Service: s.Policy().Service.String(), Serial: st.Serial,
		NotBefore: orNil(st.NotBefore), NotAfter: orNil(st.NotAfter), TrustDomains: st.TrustDomains,
		Warnings: st.Warnings, LastUpdate: orNil(st.LastUpdate), LastError: st.LastError,
		Updates: st.Updates, Failures: st.Failures,
	}
	if !st.ID.IsZero() {
		view.ID = st.ID.String()
	}
	writeJSON(w, view)
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func writeText(w http.ResponseWriter, status int, text string) {
	header(w, "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // the client went away
}

func writeJSON(w http.ResponseWriter, view any) {
	header(w, "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(view) // the client went away
}

func header(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
}
