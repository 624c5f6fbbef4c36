//go:build linux

package spire

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A load is steady: so many clients, each with a request every so often, however
// slow the answers are.
const (
	clients = 4
	every   = 25 * time.Millisecond
)

// load is requests of web's app to orders, and what became of them.
type load struct {
	client *http.Client
	want   string // whom the app must have been told of
	end    chan struct{}
	loops  sync.WaitGroup
	asked  atomic.Int64

	mu      sync.Mutex
	answers []answer
}

// answer is what became of one request.
type answer struct {
	began time.Time
	fault string // empty: it passed, and the answer was right
}

// load begins to ask orders through web's sidecar.
func (d *domain) load(web *sidecar) *load {
	l := &load{client: web.caller("orders"), want: d.id("web"), end: make(chan struct{})}
	for range clients {
		l.loops.Go(l.ask)
	}
	d.t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) ask() {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-l.end:
			return
		case <-tick.C:
			l.add(l.askOnce())
		}
	}
}

func (l *load) askOnce() answer {
	path := fmt.Sprintf("/orders/%d", l.asked.Add(1))
	a := answer{began: time.Now()}
	status, body, err := get(l.client, path)
	if want := path + " for " + l.want; err != nil || status != http.StatusOK || body != want {
		a.fault = fmt.Sprintf("GET %s: %d %q, %v", path, status, body, err)
	}
	return a
}

func (l *load) add(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, a)
}

// firstPassed is the first request since then that passed, if there is one yet.
func (l *load) firstPassed(since time.Time) (a answer, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.answers {
		if a.fault == "" && !a.began.Before(since) {
			return a, true
		}
	}
	return answer{}, false
}

// stop ends the load, once, and tells what became of every request.
func (l *load) stop() []answer {
	l.mu.Lock()
	select {
	case <-l.end:
	default:
		close(l.end)
	}
	l.mu.Unlock()
	l.loops.Wait()
	return l.answers
}

// mustPass ends the load: no request may have failed.
func (d *domain) mustPass(l *load) {
	d.t.Helper()
	failed := 0
	answers := l.stop()
	for _, a := range answers {
		if a.fault == "" {
			continue
		}
		if failed++; failed <= 5 {
			d.t.Errorf("at %s: %s", a.began.Format(time.StampMilli), a.fault)
		}
	}
	if failed > 0 || len(answers) == 0 {
		d.t.Errorf("%d of %d requests failed", failed, len(answers))
	}
	d.t.Logf("%d requests, %d failed", len(answers), failed)
}
