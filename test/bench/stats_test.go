package main

import (
	"math"
	"slices"
	"testing"
)

func TestSummarize_IsTheMiddleAndTheEnds(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{7}, spread{7, 7, 7, 1}},
		{[]float64{3, 1, 2}, spread{2, 1, 3, 3}},
		{[]float64{4, 1, 3, 2}, spread{2.5, 1, 4, 4}},
		{[]float64{9, 1, 1, 1, 1}, spread{1, 1, 9, 5}},
	} {
		given := slices.Clone(c.values)
		if got := summarize(given); got != c.want {
			t.Errorf("summarize(%v) = %+v, want %+v", c.values, got, c.want)
		}
		if !slices.Equal(given, c.values) {
			t.Errorf("summarize changed %v to %v", c.values, given)
		}
	}
}

func TestQuantile_IsAValueThatWasMeasured(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 0, 1},
		{hundred, 1, 100},
		{[]float64{5}, 0.5, 5},
		{[]float64{5, 6}, 0.99, 6},
		{[]float64{5, 6, 7}, 0.5, 6},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile %g of %d values is %g, want %g", c.q, len(c.values), got, c.want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("of nothing the quantile is %g", got)
	}
}

func TestRatios_DivideOnlyFiguresOfTheSameRound(t *testing.T) {
	s := samples{}
	s.add("cpu", "us", 0, 10)
	s.add("cpu", "us", 1, 30)
	s.add("cpu", "us", 2, 50)
	s.add("cpu", "them", 0, 20)
	s.add("cpu", "them", 2, 25)
	s.add("cpu", "zero", 0, 0)
	s.add("rss", "them", 1, 1)

	got := s.ratios("cpu", "us", "them")
	slices.Sort(got)
	if want := []float64{0.5, 2}; !slices.Equal(got, want) {
		t.Errorf("the ratios are %v, want %v", got, want)
	}
	for _, peer := range []string{"zero", "nobody"} {
		if got := s.ratios("cpu", "us", peer); len(got) != 0 {
			t.Errorf("against %s the ratios are %v, want none", peer, got)
		}
	}
	if got := s.of("cpu", "us"); len(got) != 3 {
		t.Errorf("of three rounds there are %v", got)
	}
}
