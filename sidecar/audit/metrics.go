package audit

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everyhop/everyhop/policy"
)

// metrics is what the records add up to. Every label is of a closed set: the
// directions, verdicts and reasons are ours, the grants are the policy's. Nothing
// that a client chooses, a method least of all, is ever a label.
type metrics struct {
	decisions *prometheus.CounterVec
	shadows   *prometheus.CounterVec
	headers   [directions]prometheus.Counter
	durations [directions]prometheus.Observer
	dropped   prometheus.Counter
	up        prometheus.Gauge

	none  [directions]*cells // of decisions by no rule
	rules atomic.Pointer[map[*policy.Rule]*cells]

	mu    sync.Mutex          // guards names
	names map[string]struct{} // of grants and calls that may have series
}

const directions = 2

// cells are the counters of one rule, one a verdict and reason, each looked up
// when it is first counted.
type cells struct {
	direction string
	grant     string
	slots     atomic.Pointer[[]atomic.Pointer[cell]]
}

// cell is one counter, in a struct because an interface has no atomic pointer.
type cell struct{ prometheus.Counter }

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "everyhop_decisions_total",
			Help: "Decisions, by what was decided, why, and the grant or call that decided.",
		}, []string{"direction", "verdict", "reason", "grant"}),
		shadows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "everyhop_shadow_allowed_total",
			Help: "Requests that a shadow grant would have allowed.",
		}, []string{"direction", "grant"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "everyhop_audit_dropped_total",
			Help: "Audit records that could not be written.",
		}),
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "everyhop_audit_up",
			Help: "1 while the audit log takes records, 0 while it is broken.",
		}),
		names: map[string]struct{}{},
	}
	headers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "everyhop_headers_dropped_total",
		Help: "Header fields and cookies dropped because nothing declares them.",
	}, []string{"direction"})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "everyhop_request_duration_seconds",
		Help:    "Time from a request's header to the end of its answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"direction"})
	for i, direction := range []string{Inbound, Outbound} {
		m.headers[i] = headers.WithLabelValues(direction)
		m.durations[i] = durations.WithLabelValues(direction)
		m.none[i] = &cells{direction: direction}
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.decisions, m.shadows, headers, durations, m.dropped, m.up} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) count(r *Record) {
	d := directionIndex(r.Direction)
	if !r.Tunnel {
		m.durations[d].Observe(r.Duration.Seconds())
	}
	m.cells(d, r.Rule).inc(m, r.Verdict, r.Reason)
	if r.DroppedHeaders > 0 {
		m.headers[d].Add(float64(r.DroppedHeaders))
	}
	if r.Shadow != nil {
		name := m.remember(r.Shadow.Name)
		m.shadows.WithLabelValues(m.none[d].direction, name).Inc()
	}
}

func directionIndex(direction string) int {
	if direction == Outbound {
		return 1
	}
	return 0
}

// cells are the counters of a rule. A rule of a snapshot that is no longer the
// one in use gets them by its name.
func (m *metrics) cells(direction int, rule *policy.Rule) *cells {
	if rule == nil {
		return m.none[direction]
	}
	if rules := m.rules.Load(); rules != nil {
		if c := (*rules)[rule]; c != nil {
			return c
		}
	}
	return &cells{direction: m.none[direction].direction, grant: rule.Name}
}

// remember notes that the name is about to have series, and returns it as a label.
func (m *metrics) remember(name string) string {
	name = strings.ToValidUTF8(name, "\ufffd")
	m.mu.Lock()
	m.names[name] = struct{}{}
	m.mu.Unlock()
	return name
}

func (c *cells) inc(m *metrics, v policy.Verdict, r policy.Reason) {
	slots := c.slots.Load()
	if slots == nil {
		fresh := make([]atomic.Pointer[cell], 2*len(policy.Reasons()))
		if slots = &fresh; !c.slots.CompareAndSwap(nil, slots) {
			slots = c.slots.Load()
		}
	}
	at := 2*int(r) + int(min(v, policy.Allow))
	if at >= len(*slots) {
		at = 0
	}
	slot := &(*slots)[at]
	counter := slot.Load()
	if counter == nil {
		counter = &cell{m.decisions.WithLabelValues(c.direction, v.String(), r.String(), m.remember(c.grant))}
		slot.Store(counter)
	}
	counter.Inc()
}

// resolve makes the table of the snapshot's rules, and deletes the series of
// names that it no longer has, so that reloads do not add up.
func (m *metrics) resolve(s *policy.Snapshot) {
	rules := make(map[*policy.Rule]*cells)
	kept := map[string]struct{}{"": {}} // of decisions by no rule
	add := func(direction string, rule *policy.Rule) {
		rules[rule] = &cells{direction: direction, grant: rule.Name}
		kept[strings.ToValidUTF8(rule.Name, "\ufffd")] = struct{}{}
	}
	if s != nil {
		for _, rule := range s.Grants {
			add(Inbound, rule)
		}
		for _, call := range s.Calls {
			add(Outbound, &call.Rule)
		}
	}
	m.rules.Store(&rules)
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.names {
		if _, still := kept[name]; !still {
			m.forget(name)
			delete(m.names, name)
		}
	}
}

// forget deletes the series of one name. It names each, because a partial match
// would walk all series there are.
func (m *metrics) forget(name string) {
	for _, direction := range []string{Inbound, Outbound} {
		m.shadows.DeleteLabelValues(direction, name)
		for _, reason := range policy.Reasons() {
			m.decisions.DeleteLabelValues(direction, policy.Allow.String(), reason.String(), name)
			m.decisions.DeleteLabelValues(direction, policy.Deny.String(), reason.String(), name)
		}
	}
}
