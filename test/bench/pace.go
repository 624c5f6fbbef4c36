package main

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	paceRate  = 1000 // requests a second
	paceConns = 32
)

// paced asks paceRate times a second, whether or not the answers before are here,
// for so long. It returns how long each took, sorted, from the moment it was due:
// waiting for a connection counts, so a pair that stalls cannot hide it.
func paced(ctx context.Context, address, token string, length time.Duration) ([]time.Duration, error) {
	clients := make([]*client, paceConns)
	defer closeAll(clients)
	for i := range clients {
		var err error
		if clients[i], err = dial(address, token); err != nil {
			return nil, err
		}
		if err := clients[i].ask(); err != nil { // a connection's first request is not what is measured
			return nil, err
		}
	}
	return pace(ctx, clients, time.Second/paceRate, int(length*paceRate/time.Second))
}

// pace gives out n moments, one each step, to whichever client is free. It is an
// error if one of them is not answered.
func pace(ctx context.Context, clients []*client, step time.Duration, n int) ([]time.Duration, error) {
	due := make(chan time.Time, n) // room for all: the clock never waits for an answer
	took := make([][]time.Duration, len(clients))
	faults := make([]error, len(clients))
	var asking sync.WaitGroup
	for i, c := range clients {
		asking.Go(func() { took[i], faults[i] = c.answerDue(due) })
	}
	tick(ctx, due, step, n)
	close(due)
	asking.Wait()
	if err := errors.Join(append(faults, ctx.Err())...); err != nil {
		return nil, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return all, nil
}

// tick sends n moments when they come. It sleeps by the kernel: Go's own timers
// may be late by a millisecond where the only other work is network.
func tick(ctx context.Context, due chan<- time.Time, step time.Duration, n int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	next := time.Now()
	for range n {
		if ctx.Err() != nil {
			return
		}
		for wait := time.Until(next); wait > 0; wait = time.Until(next) {
			pause := syscall.NsecToTimespec(int64(wait))
			_ = syscall.Nanosleep(&pause, nil) // a signal ends it early, hence the loop
		}
		due <- next
		next = next.Add(step)
	}
}

// answerDue asks once for each moment, until there are no more.
func (c *client) answerDue(due <-chan time.Time) ([]time.Duration, error) {
	var took []time.Duration
	for moment := range due {
		if err := c.ask(); err != nil {
			return took, err
		}
		took = append(took, time.Since(moment))
	}
	return took, nil
}

// micros is a quantile of sorted times in microseconds.
func micros(sorted []time.Duration, q float64) float64 {
	values := make([]float64, len(sorted))
	for i, d := range sorted {
		values[i] = float64(d) / float64(time.Microsecond)
	}
	return quantile(values, q)
}
