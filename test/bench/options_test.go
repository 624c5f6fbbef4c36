package main

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseOptions_ChoosesCellsAndPeers(t *testing.T) {
	o, err := parseOptions([]string{"-quick", "-only", "conns8,paced", "-peers", "nginx", "-cache", "/c"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 1 || o.duration != time.Second || len(o.cells) != 2 || o.cells[1].name != "paced" || !slices.Equal(o.pairs, []string{"nginx"}) {
		t.Errorf("got %d rounds of %s, %d cells, %v", o.rounds, o.duration, len(o.cells), o.pairs)
	}
}

func TestParseOptions_MeasuresEverythingIfNothingIsSaid(t *testing.T) {
	o, err := parseOptions([]string{"-cache", "/c"}, io.Discard)
	if err != nil || o.rounds != enoughRounds || o.duration != 3*time.Second || len(o.cells) != len(cells()) || !slices.Equal(o.pairs, peerNames()) {
		t.Errorf("got %d rounds of %s, %d cells, %v, %v", o.rounds, o.duration, len(o.cells), o.pairs, err)
	}
}

func TestParseOptions_RefusesWhatCannotBeMeasured(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"-only conns9", `no cell "conns9"`},
		{"-peers apache", `no peer "apache"`},
		{"-rounds 0", "at least one"},
		{"-duration 1500ms", "whole seconds"},
		{"-duration 0s", "whole seconds"},
		{"conns8", "unexpected argument"},
	} {
		if _, err := parseOptions(strings.Fields(c.args), io.Discard); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}

func TestWants_AsksWhichCellsThereAre(t *testing.T) {
	for _, c := range []struct{ only, peers, want string }{
		{"conns8", "", "everyhop haproxy nginx envoy envoy-checks"},
		{"conns8", "nginx", "everyhop nginx"},
		{"tcp1m", "", "everyhop-tcp ghostunnel"},
		{"handshake", "", "everyhop haproxy nginx envoy envoy-checks ghostunnel"},
		{"handshake,tcp1m", "ghostunnel", "everyhop everyhop-tcp ghostunnel"},
	} {
		o, err := parseOptions([]string{"-only", c.only, "-peers", c.peers, "-cache", "/c"}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{options: o}
		var got []string
		for _, p := range pairs() {
			if b.wants(&p) {
				got = append(got, p.name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("-only %q -peers %q: %v, want %s", c.only, c.peers, got, c.want)
		}
	}
}
