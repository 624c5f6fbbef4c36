package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// report prints all that was found, then all that was not.
func (b *bench) report(out io.Writer) {
	fmt.Fprintf(out, "\n%s\n%s\n", b.machine, strings.Join(b.tools.versions(), "; "))
	fmt.Fprintf(out, "\nMedians (rounds: %d; each cell: %s). CPU is of both processes of a pair, of the inbound one for connections.\n\n", b.rounds, b.duration)
	b.medians(out)
	fmt.Fprintf(out, "\neveryhop to each peer, round by round: median (min..max).\n\n")
	b.ratioTable(out)
	fmt.Fprintln(out)
	if len(b.world.Features) > 0 {
		fmt.Fprintf(out, "Also on, in everyhop and in envoy-checks: %s.\n", strings.Join(b.world.Features, ", "))
	}
	fmt.Fprintln(out, "A decision and a token from the cache are measured by make microbench.")
	if b.rounds < enoughRounds {
		fmt.Fprintf(out, "Fewer than %d rounds: this shows that it runs, not how fast anything is.\n", enoughRounds)
	}
	for _, line := range b.notes {
		fmt.Fprintln(out, line)
	}
}

// enoughRounds is what a target is judged by.
const enoughRounds = 5

// columns are the pairs that anything was measured of, and the app alone.
func (b *bench) columns() []string {
	var names []string
	for _, name := range append(pairNames(), straight) {
		for _, m := range allMeasures(cells()) {
			if len(b.results[m.name][name]) > 0 {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

func (b *bench) medians(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	columns := b.columns()
	fmt.Fprintf(w, "measure\tunit\t%s\n", strings.Join(columns, "\t"))
	for _, m := range allMeasures(b.cells) {
		if len(b.results[m.name]) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%s", m.title, m.unit)
		for _, name := range columns {
			fmt.Fprintf(w, "\t%s", figure(summarize(b.results.of(m.name, name))))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

func figure(s spread) string {
	switch {
	case s.n == 0:
		return "-"
	case s.median < 100:
		return fmt.Sprintf("%.1f", s.median)
	}
	return fmt.Sprintf("%.0f", s.median)
}

func (b *bench) ratioTable(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measure\tagainst\tfound\ttarget\tmet")
	for _, c := range append(slices.Clone(b.cells), cell{measures: []measure{binary()}}) {
		for _, m := range c.measures {
			b.rows(w, c, m)
		}
	}
	w.Flush()
}

// rows are those of one measure: one for each peer that it was measured of or that
// has a target, and one for an absolute target.
func (b *bench) rows(w io.Writer, c cell, m measure) {
	us := ours(c.carries)
	if most, ok := targetOf(m.name, ""); ok {
		row(w, m, "-", summarize(b.results.of(m.name, us)), most, ok, m.unit)
	}
	for _, peer := range peerNames() {
		most, promised := targetOf(m.name, peer)
		found := summarize(b.results.ratios(m.name, us, peer))
		if found.n > 0 || promised && slices.Contains(b.pairs, peer) {
			row(w, m, peer, found, most, promised, "")
		}
	}
}

func row(w io.Writer, m measure, peer string, found spread, most float64, promised bool, unit string) {
	text, limit, met := "NOT RUN", "-", "-"
	if found.n > 0 {
		text = fmt.Sprintf("%.2f (%.2f..%.2f) %s", found.median, found.min, found.max, unit)
	}
	if promised {
		limit, met = fmt.Sprintf("≤ %g", most), verdict(found, most)
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.title, peer, strings.TrimSpace(text), limit, met)
}

// verdict says whether a target is met; what was not measured is not.
func verdict(found spread, most float64) string {
	switch {
	case found.n == 0:
		return "not known"
	case found.median <= most:
		return "yes"
	}
	return "NO"
}
