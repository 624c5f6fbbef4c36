package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestReport_HoldsMediansAgainstTargets(t *testing.T) {
	o, err := parseOptions([]string{"-only", "conns8,idle", "-peers", "haproxy,nginx,envoy-checks", "-cache", "/c", "-rounds", "3"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{options: o, log: io.Discard, results: samples{}, tools: &toolbox{}, machine: "a machine"}
	for round, v := range []float64{40, 50, 45} {
		b.results.add("conns8", own, round, v)
		b.results.add("conns8", "haproxy", round, 50)
		b.results.add("conns8", "nginx", round, 40)
	}
	b.results.add("rss", own, 0, 19)
	b.results.add("idleconn", own, 0, 41)
	b.note("NOT RUN: %s: no such package", "envoy-checks")
	b.note("NOT RUN: %s: no such package", "envoy-checks")

	var out strings.Builder
	b.report(&out)
	text := out.String()
	for _, want := range []string{
		"8 connections haproxy 0.90 (0.80..1.00) ≤ 1 yes",
		"8 connections nginx 1.12 (1.00..1.25) ≤ 1.1 NO",
		"8 connections envoy-checks NOT RUN ≤ 0.5 not known",
		"memory of an idle process - 19.00 (19.00..19.00) MiB ≤ 20 yes",
		"memory of an idle connection - 41.00 (41.00..41.00) KiB ≤ 40 NO",
		"binary - NOT RUN ≤ 30 not known",
	} {
		if !hasLine(text, want) {
			t.Errorf("there is no line %q in\n%s", want, text)
		}
	}
	if strings.Count(text, "NOT RUN: envoy-checks") != 1 || !strings.Contains(text, "Fewer than 5 rounds") {
		t.Errorf("what was not run is not said once:\n%s", text)
	}
}

// hasLine is blind to how wide the columns are.
func hasLine(text, want string) bool {
	for line := range strings.Lines(text) {
		if strings.Join(strings.Fields(line), " ") == want {
			return true
		}
	}
	return false
}

func TestFirstProblem_IsWhatIsNotThereYet(t *testing.T) {
	err := errors.New("everyhop check /x/everyhop-in.yaml: exit status 1: /x/everyhop-in.yaml:3:8: limit: is not supported yet (remove it)\nmore")
	if got, want := firstProblem(err), "limit: is not supported yet (remove it)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := firstProblem(errors.New("no such file")); got != "no such file" {
		t.Errorf("got %q", got)
	}
}

func TestBench_TimeoutIsNamed(t *testing.T) {
	o, err := parseOptions([]string{"-cache", t.TempDir(), "-everyhop", "/nowhere", "-timeout", "1ns"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{options: o, log: io.Discard, results: samples{}, tools: &toolbox{log: io.Discard, found: map[string]tool{}}}
	if err := b.run(t.Context()); err == nil || !strings.Contains(err.Error(), time.Nanosecond.String()) {
		t.Errorf("got: %v", err)
	}
}
