package audit

import (
	"io"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/everyhop/everyhop/policy"
)

func TestMetrics_PassTheLinter(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	l := open(t, Config{Writer: io.Discard, Registerer: registry})
	l.Write(fullRecord())
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if n, _ := testutil.GatherAndCount(registry); n == 0 {
		t.Error("nothing was linted")
	}
}

func decisionsOf(t *testing.T, registry *prometheus.Registry, want string) {
	t.Helper()
	const head = "# HELP everyhop_decisions_total Decisions, by what was decided, why, and the grant or call that decided.\n# TYPE everyhop_decisions_total counter\n"
	if want != "" {
		want = head + want
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "everyhop_decisions_total"); err != nil {
		t.Error(err)
	}
}

func TestMetrics_ReloadKeepsTheCountsOfGrantsThatStayAndForgetsTheRest(t *testing.T) {
	registry := prometheus.NewRegistry()
	l := open(t, Config{Writer: io.Discard, Registerer: registry})
	write := func(rule *policy.Rule) {
		l.Write(&Record{Direction: Inbound, Rule: rule, Verdict: policy.Allow, Reason: policy.Allowed})
	}
	stays, goes := &policy.Rule{Name: "stays"}, &policy.Rule{Name: "goes"}
	l.Resolve(&policy.Snapshot{Generation: 1, Grants: []*policy.Rule{stays, goes}})
	write(stays)
	write(goes)
	write(nil)
	next := &policy.Rule{Name: "stays"}
	l.Resolve(&policy.Snapshot{Generation: 2, Grants: []*policy.Rule{next}})
	write(next)
	write(stays) // of a request that the first policy judged
	decisionsOf(t, registry, `everyhop_decisions_total{direction="inbound",grant="",reason="allowed",verdict="allow"} 1
everyhop_decisions_total{direction="inbound",grant="stays",reason="allowed",verdict="allow"} 3
`)
	write(goes) // comes back late, and goes with the next policy
	l.Resolve(nil)
	decisionsOf(t, registry, `everyhop_decisions_total{direction="inbound",grant="",reason="allowed",verdict="allow"} 1
`)
}

func TestMetrics_NothingAClientChoosesIsALabel(t *testing.T) {
	registry := prometheus.NewRegistry()
	l := open(t, Config{Writer: io.Discard, Registerer: registry})
	for _, odd := range []string{"QUUX", "\xff\n\"", "another"} {
		r := fullRecord()
		r.Method, r.Route, r.Path, r.Trace, r.Direction = odd, odd, odd, odd, odd
		l.Write(r)
	}
	n, err := testutil.GatherAndCount(registry, "everyhop_decisions_total")
	if err != nil || n != 1 {
		t.Errorf("%d series, %v", n, err)
	}
}

// L13.
func TestMetrics_OddGrantNamesAreLegalLabels(t *testing.T) {
	registry := prometheus.NewRegistry()
	l := open(t, Config{Writer: io.Discard, Registerer: registry})
	l.Write(&Record{Direction: Outbound, Rule: &policy.Rule{Name: "a\"\\\n\xff"}, Shadow: &policy.Rule{Name: "\xfe"}})
	decisionsOf(t, registry, `everyhop_decisions_total{direction="outbound",grant="a\"\\\n�",reason="no_policy",verdict="deny"} 1
`)
}

func TestMetrics_TwoLogsInOneRegistryAreAnError(t *testing.T) {
	registry := prometheus.NewRegistry()
	open(t, Config{Writer: io.Discard, Registerer: registry})
	if _, err := Open(Config{Writer: io.Discard, Registerer: registry}); err == nil {
		t.Error("no error")
	}
}
