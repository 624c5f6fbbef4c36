package sidecar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestCompare_NamesWhatCameAndWhatWent(t *testing.T) {
	added, removed := compare([]string{"a", "b", "b2"}, []string{"b", "c", "a"})
	if !slices.Equal(added, []string{"c"}) || !slices.Equal(removed, []string{"b2"}) {
		t.Errorf("added %v, removed %v", added, removed)
	}
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprint(i))
	}
	if added, removed = compare(many[:500], many[500:]); len(added) != maxNamed || len(removed) != maxNamed {
		t.Errorf("%d and %d names would be logged", len(added), len(removed))
	}
}

func TestTeardown_LastFirstAndPastEveryFault(t *testing.T) {
	var order []string
	var td teardown
	for _, name := range []string{"one", "two", "three"} {
		td.add(name, func(context.Context) error { order = append(order, name); return errors.New("stuck") })
	}
	err := td.run(t.Context())
	if !slices.Equal(order, []string{"three", "two", "one"}) {
		t.Errorf("order %v", order)
	}
	if err == nil || err.Error() != "three: stuck\ntwo: stuck\none: stuck" {
		t.Errorf("got %q", err)
	}
}
