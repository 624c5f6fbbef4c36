package lease

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everyhop/everyhop/policy"
)

// guest is a holder whose standing a test sets.
type guest struct {
	lease Lease

	mu       sync.Mutex
	standing Standing
	judged   int
	why      []policy.Reason
	at       time.Time
}

func (g *guest) Judge(time.Time) Standing {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.judged++
	return g.standing
}

func (g *guest) Expel(reason policy.Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.why, g.at = append(g.why, reason), time.Now()
}

func (g *guest) set(reason policy.Reason, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.standing = Standing{reason, until}
}

func (g *guest) expelled(t *testing.T, reason policy.Reason, after time.Duration, begun time.Time) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.why) != 1 || g.why[0] != reason || g.at.Sub(begun) != after {
		t.Errorf("expelled because of %v after %v, want %v after %v", g.why, g.at.Sub(begun), reason, after)
	}
}

func (g *guest) stays(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.why) > 0 {
		t.Errorf("expelled because of %v", g.why)
	}
}

func (g *guest) wasJudged(t *testing.T, times int) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.judged != times {
		t.Errorf("judged %d times, want %d", g.judged, times)
	}
}

// in runs a test with a book whose chance is fixed, in time that passes by itself.
func in(t *testing.T, chance float64, run func(t *testing.T, b *Book, g *guest)) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBook(Config{Random: func() float64 { return chance }})
		g := &guest{standing: Standing{Reason: policy.Allowed}}
		b.Begin(&g.lease, g)
		run(t, b, g)
		g.mu.Lock()
		stays := len(g.why) == 0
		g.mu.Unlock()
		if stays || b.Count() > 0 {
			g.lease.End()
		}
		if b.Count() != 0 {
			t.Errorf("%d leases are left", b.Count())
		}
		time.Sleep(3 * time.Hour) // of this bubble: nothing happens any more
		synctest.Wait()
	})
}

func TestLease_WhatMustNotGoOnForAMomentEndsAtOnce(t *testing.T) {
	for _, reason := range []policy.Reason{policy.CallerBanned, policy.PeerBanned, policy.PeerUnverified, policy.PeerExpired, policy.NoPolicy} {
		in(t, 0.5, func(t *testing.T, b *Book, g *guest) {
			begun := time.Now()
			g.set(reason, time.Time{})
			b.Recheck()
			g.expelled(t, reason, 0, begun)
		})
	}
}

// The spread is four seconds, of which the first is for requests to be answered in.
func TestLease_WhatThePolicyNarrowsEndsWithinTheSpread(t *testing.T) {
	for chance, after := range map[float64]time.Duration{0: time.Second, 0.5: 2500 * time.Millisecond, 0.999: 3997 * time.Millisecond} {
		in(t, chance, func(t *testing.T, b *Book, g *guest) {
			begun := time.Now()
			g.set(policy.CallerUndeclared, time.Time{})
			for range 40 { // a policy that changes all the time postpones nothing
				b.Recheck()
				time.Sleep(100 * time.Millisecond)
			}
			g.expelled(t, policy.CallerUndeclared, after, begun)
		})
	}
}

func TestLease_WhatIsAllowedAgainInTimeStays(t *testing.T) {
	in(t, 0.5, func(t *testing.T, b *Book, g *guest) {
		g.set(policy.CallerUndeclared, time.Time{})
		b.Recheck()
		time.Sleep(time.Second)
		g.set(policy.Allowed, time.Time{})
		time.Sleep(10 * time.Second)
		g.stays(t)
	})
}

func TestLease_EndsWithItsStanding(t *testing.T) {
	in(t, 0.5, func(t *testing.T, b *Book, g *guest) {
		begun := time.Now()
		g.set(policy.Allowed, begun.Add(time.Minute))
		time.Sleep(time.Minute - 1)
		g.stays(t)
		g.set(policy.GrantEnded, time.Time{})
		time.Sleep(2 * time.Nanosecond)
		g.expelled(t, policy.GrantEnded, time.Minute, begun)
	})
}

// Nobody lives longer than an hour, and not all of them equally long.
func TestLease_EndsAtItsMaximumAge(t *testing.T) {
	for chance, age := range map[float64]time.Duration{0: time.Hour, 0.5: 54 * time.Minute} {
		in(t, chance, func(t *testing.T, b *Book, g *guest) {
			begun := time.Now()
			time.Sleep(2 * time.Hour)
			g.expelled(t, policy.LeaseEnded, age, begun)
		})
	}
}

// Most holders are gone before anybody looks, and cost nothing.
func TestLease_IsNotJudgedBeforeItHasSettled(t *testing.T) {
	in(t, 0.5, func(t *testing.T, b *Book, g *guest) {
		time.Sleep(settle - 1)
		g.wasJudged(t, 0)
	})
	in(t, 0.5, func(t *testing.T, b *Book, g *guest) {
		for range 10 {
			time.Sleep(settle)
		}
		g.wasJudged(t, 1)
	})
}

func TestLease_OneThatHasEndedIsNotExpelled(t *testing.T) {
	in(t, 0.5, func(t *testing.T, b *Book, g *guest) {
		g.set(policy.CallerUndeclared, time.Time{})
		b.Recheck()
		g.lease.End()
		g.set(policy.CallerBanned, time.Time{})
		b.Recheck()
		time.Sleep(10 * time.Second)
		g.stays(t)
		b.Begin(&g.lease, g) // the fixture ends it
		g.set(policy.Allowed, time.Time{})
	})
}

func TestBook_KeepsItsListWhoeverLeaves(t *testing.T) {
	b := NewBook(Config{})
	guests := make([]guest, 5)
	for i := range guests {
		guests[i].set(policy.Allowed, time.Time{})
		b.Begin(&guests[i].lease, &guests[i])
	}
	for n, i := range []int{2, 0, 4, 1, 3} {
		guests[i].lease.End()
		if b.Count() != 4-n {
			t.Fatalf("%d are left after %d left", b.Count(), n+1)
		}
		b.Recheck()
	}
	for i := range guests {
		if want := []int{1, 3, 0, 4, 2}[i]; guests[i].judged != want {
			t.Errorf("guest %d was judged %d times, want %d", i, guests[i].judged, want)
		}
	}
}

func TestBook_AShortStayAllocatesNothing(t *testing.T) {
	b := NewBook(Config{})
	g := &guest{}
	if n := testing.AllocsPerRun(100, func() { g.lease = Lease{}; b.Begin(&g.lease, g); g.lease.End() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
