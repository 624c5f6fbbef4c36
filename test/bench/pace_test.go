package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// app answers as the app behind the pairs does.
func app(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func clientsOf(t *testing.T, address string, n int) []*client {
	t.Helper()
	clients := make([]*client, n)
	t.Cleanup(func() { closeAll(clients) })
	for i := range clients {
		var err error
		if clients[i], err = dial(address, "token"); err != nil {
			t.Fatal(err)
		}
	}
	return clients
}

func TestTick_GivesEveryMomentAndNoneEarly(t *testing.T) {
	const n, step = 20, time.Millisecond
	due := make(chan time.Time, n)
	tick(context.Background(), due, step, n)
	close(due)
	var last time.Time
	got := 0
	for moment := range due {
		if got > 0 && moment.Sub(last) != step {
			t.Errorf("moment %d is %s after the one before", got, moment.Sub(last))
		}
		last = moment
		got++
	}
	if got != n || time.Now().Before(last) {
		t.Errorf("%d moments, the last of them %s ahead", got, time.Until(last))
	}
}

func TestPace_AsksOnceForEachMomentWhateverTheStep(t *testing.T) {
	for _, step := range []time.Duration{0, 100 * time.Microsecond} {
		var asked atomic.Int32
		address := app(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != orderPath || r.Header.Get("Authorization") != "Bearer token" {
				t.Errorf("asked for %s with %v", r.URL, r.Header)
			}
			asked.Add(1)
			io.WriteString(w, order)
		})
		took, err := pace(context.Background(), clientsOf(t, address, 4), step, 100)
		if err != nil || len(took) != 100 || asked.Load() != 100 || !slices.IsSorted(took) {
			t.Errorf("step %s: %d times of %d requests, %v", step, len(took), asked.Load(), err)
		}
	}
}

func TestPace_FailsWhereAnyAnswerIsNotTheApps(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"another status": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, order)
		},
		"cut off": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, order[1:]) },
	} {
		var asked atomic.Int32
		address := app(t, func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) == 50 {
				answer(w, r)
				return
			}
			io.WriteString(w, order)
		})
		if _, err := pace(context.Background(), clientsOf(t, address, 2), 0, 100); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A request that was due an hour ago has taken an hour, however fast its answer.
func TestAnswerDue_CountsFromTheMomentItWasDue(t *testing.T) {
	address := app(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, order) })
	due := make(chan time.Time, 1)
	due <- time.Now().Add(-time.Hour)
	close(due)
	took, err := clientsOf(t, address, 1)[0].answerDue(due)
	if err != nil || len(took) != 1 || took[0] < time.Hour {
		t.Errorf("it took %v, %v", took, err)
	}
}

func TestPace_EndsWithItsContext(t *testing.T) {
	address := app(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, order) })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if took, err := pace(ctx, clientsOf(t, address, 1), time.Hour, 2); err == nil {
		t.Errorf("%v without an error", took)
	}
}

func TestMicros_AreMicroseconds(t *testing.T) {
	if got := micros([]time.Duration{time.Microsecond, 2500 * time.Nanosecond, time.Second}, 0.5); got != 2.5 {
		t.Errorf("got %g", got)
	}
}
