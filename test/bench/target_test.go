package main

import (
	"slices"
	"testing"
)

func TestTargets_AreOfMeasuresThatAreTakenAndPeersThatAreStarted(t *testing.T) {
	var measures []string
	for _, m := range allMeasures(cells()) {
		measures = append(measures, m.name)
	}
	seen := map[[2]string]bool{}
	for _, c := range targets() {
		if !slices.Contains(measures, c.measure) {
			t.Errorf("nothing measures %q", c.measure)
		}
		if c.peer != "" && !slices.Contains(peerNames(), c.peer) {
			t.Errorf("there is no peer %q", c.peer)
		}
		if c.most <= 0 || seen[[2]string{c.measure, c.peer}] {
			t.Errorf("the target %+v cannot be met, or is there twice", c)
		}
		seen[[2]string{c.measure, c.peer}] = true
	}
}

func TestTargetOf_KnowsOnlyWhatIsPromised(t *testing.T) {
	if most, ok := targetOf("conns32", "nginx"); !ok || most != 0.85 {
		t.Errorf("conns32 against nginx: %g, %v", most, ok)
	}
	if most, ok := targetOf("rss", ""); !ok || most != 20 {
		t.Errorf("rss: %g, %v", most, ok)
	}
	if _, ok := targetOf("rss", "nginx"); ok {
		t.Error("rss has a target against nginx")
	}
}

func TestCells_HaveNamesOfTheirOwn(t *testing.T) {
	var names []string
	for _, c := range cells() {
		names = append(names, c.name)
	}
	for _, m := range allMeasures(cells()) {
		if m.title == "" || m.unit == "" {
			t.Errorf("measure %s has no title or no unit", m.name)
		}
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(cells()) {
		t.Error("two cells have one name")
	}
}
