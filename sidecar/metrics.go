package sidecar

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/everyhop/everyhop/sidecar/audit"
)

// status is the sidecar's own metrics: read from its parts when they are asked
// for, so that there is nothing to keep up to date.
type status struct {
	sidecar *Sidecar

	ready, generation, loaded, reloaded, policy *prometheus.Desc
	notAfter, updates, failures, build, tunnels *prometheus.Desc
}

func (s *Sidecar) registerMetrics() error {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("everyhop_"+name, help, labels, nil)
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&status{
			sidecar:    s,
			ready:      desc("ready", "1 while requests should be sent here, as /readyz says."),
			generation: desc("policy_generation", "How many policies this sidecar has compiled up to the one in use."),
			loaded:     desc("policy_loaded_timestamp_seconds", "When the policy in use was read, in Unix time."),
			reloaded:   desc("policy_last_reload_successful", "1 while what is in the policy file is what is in use."),
			policy:     desc("policy_info", "The policy in use, by the SHA-256 of its file.", "digest"),
			notAfter:   desc("svid_not_after_seconds", "When this sidecar's SVID expires, in Unix time; 0 without one."),
			updates:    desc("svid_updates_total", "Good messages of the identity source."),
			failures:   desc("svid_failures_total", "Everything that went wrong with the identity source."),
			tunnels:    desc("tunnels", "Connections of bytes and WebSockets that are open.", "direction"),
			build:      desc("build_info", "The version of everyhop that runs.", "version", "goversion"),
		},
	} {
		if err := s.registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *status) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.ready, m.generation, m.loaded, m.reloaded, m.policy, m.notAfter, m.updates, m.failures, m.build, m.tunnels} {
		ch <- d
	}
}

func (m *status) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	p, st := m.sidecar.Policy(), m.sidecar.identity.Status()
	gauge(m.ready, yes(m.sidecar.Ready() == nil))
	gauge(m.generation, float64(p.Generation))
	gauge(m.loaded, float64(m.sidecar.file.Status().LoadedAt.Unix()))
	gauge(m.reloaded, yes(m.sidecar.policyError() == nil))
	gauge(m.policy, 1, p.Digest)
	gauge(m.tunnels, float64(m.sidecar.outbound.Tunnels()), audit.Outbound)
	if in := m.sidecar.inbound; in != nil {
		gauge(m.tunnels, float64(in.Tunnels()), audit.Inbound)
	}
	notAfter := 0.0
	if !st.NotAfter.IsZero() {
		notAfter = float64(st.NotAfter.Unix())
	}
	gauge(m.notAfter, notAfter)
	ch <- prometheus.MustNewConstMetric(m.updates, prometheus.CounterValue, float64(st.Updates))
	ch <- prometheus.MustNewConstMetric(m.failures, prometheus.CounterValue, float64(st.Failures))
	gauge(m.build, 1, m.sidecar.config.Version, runtime.Version())
}

func yes(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}
