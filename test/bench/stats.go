package main

import (
	"math"
	"slices"
)

// spread is what is said of several rounds: the middle one and the two ends. The
// zero value is that of no round at all, see n.
type spread struct {
	median, min, max float64
	n                int
}

// summarize sorts a copy; the median of an even number is the mean of the two in
// the middle.
func summarize(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{
		median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		min:    sorted[0],
		max:    sorted[n-1],
		n:      n,
	}
}

// quantile is the smallest of the sorted values that at least a share q of them do
// not exceed. Of no values it is NaN: no latency is a good one.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// samples are the results of a run: what was measured of whom, by round.
type samples map[string]map[string]map[int]float64

func (s samples) add(measure, pair string, round int, value float64) {
	if s[measure] == nil {
		s[measure] = map[string]map[int]float64{}
	}
	if s[measure][pair] == nil {
		s[measure][pair] = map[int]float64{}
	}
	s[measure][pair][round] = value
}

// of is everything measured of a pair.
func (s samples) of(measure, pair string) []float64 {
	var values []float64
	for _, v := range s[measure][pair] {
		values = append(values, v)
	}
	return values
}

// ratios divides round by round: only two figures of one round were taken of the
// same machine. A round in which one of them is missing says nothing.
func (s samples) ratios(measure, ours, peer string) []float64 {
	var values []float64
	for round, v := range s[measure][ours] {
		if p, ok := s[measure][peer][round]; ok && p > 0 {
			values = append(values, v/p)
		}
	}
	return values
}
