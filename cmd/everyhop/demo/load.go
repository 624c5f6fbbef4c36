package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

const (
	loadRequests = 2000
	loadWorkers  = 8
	rotations    = 5
)

// load is requests of the web app, one after another on each of several
// connections, until it is ended.
type load struct {
	url    string
	client http.Client
	end    chan struct{}

	sent, lost atomic.Int64
	first      atomic.Pointer[error] // why the first was lost
}

// rotateUnderLoad gives web and orders new SVIDs while requests run between them.
// After each rotation it waits until orders has recorded the new one.
func (s *shop) rotateUnderLoad(ctx context.Context) (row, error) {
	at, err := s.addr("web", "orders")
	if err != nil {
		return row{}, err
	}
	from := s.audits.size()
	transport := &http.Transport{MaxIdleConnsPerHost: loadWorkers}
	defer transport.CloseIdleConnections()
	l := &load{url: "http://" + at + "/orders/7", client: http.Client{Transport: transport}, end: make(chan struct{})}
	var workers sync.WaitGroup
	for range loadWorkers {
		workers.Go(func() { l.run(ctx) })
	}
	fault := s.rotateDuring(ctx, l)
	close(l.end)
	workers.Wait()
	if ctx.Err() != nil {
		return row{}, ctx.Err()
	}
	return s.judgeLoad(l, from, fault)
}

// rotateDuring rotates, in even parts of the load.
func (s *shop) rotateDuring(ctx context.Context, l *load) error {
	for range rotations {
		if err := l.more(ctx, loadRequests/(rotations+1)); err != nil {
			return err
		}
		for _, name := range []string{"orders", "web"} {
			if err := s.rotate(ctx, name); err != nil {
				return err
			}
		}
	}
	return l.more(ctx, max(loadRequests/(rotations+1), loadRequests-l.sent.Load()))
}

// rotate gives a service a new SVID. The one of web is seen at orders.
func (s *shop) rotate(ctx context.Context, name string) error {
	var was, now struct{ Serial string }
	if err := s.admin(ctx, name, "/identity", &was); err != nil {
		return err
	}
	if err := s.domain.Rotate(name); err != nil {
		return err
	}
	err := eventually(ctx, func() (bool, error) {
		err := s.admin(ctx, name, "/identity", &now)
		return now.Serial != was.Serial, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the new SVID of %s: %w", name, err)
	}
	if name != "web" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var r record
	return s.audits.find(ctx, `"caller_serial":"`+now.Serial+`"`, &r)
}

func (s *shop) judgeLoad(l *load, from int, fault error) (row, error) {
	records, err := s.audits.records(from)
	if err != nil {
		return row{}, err
	}
	serials := map[string]bool{}
	for _, r := range records {
		if r.Direction == "inbound" {
			serials[r.Serial] = true
		}
	}
	r := row{
		tried: fmt.Sprintf("web -> orders GET /orders/7 on %d connections, while both get %d new SVIDs", loadWorkers, rotations),
		back:  fmt.Sprintf("%d x 200, %d lost", l.sent.Load()-l.lost.Load(), l.lost.Load()),
		why:   fmt.Sprintf("orders recorded %d serial numbers of web's SVIDs", len(serials)),
	}
	switch {
	case l.lost.Load() > 0:
		r.wrong = fmt.Sprintf("none to be lost; the first: %v", *l.first.Load())
	case fault != nil:
		r.wrong = fmt.Sprintf("every new SVID to be used: %v", fault)
	case len(serials) != rotations+1:
		r.wrong = fmt.Sprintf("%d serial numbers", rotations+1)
	}
	return r, nil
}

func (l *load) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-l.end:
			return
		default:
		}
		if err := l.request(ctx); err != nil && ctx.Err() == nil {
			l.first.CompareAndSwap(nil, &err)
			l.lost.Add(1)
		}
		l.sent.Add(1)
	}
}

func (l *load) request(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url, nil)
	if err != nil {
		return err
	}
	answer, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s %s", answer.Status, bytes.TrimSpace(body))
	case !bytes.Contains(body, []byte(`"everyhop-caller": "spiffe://`+home+`/web"`)):
		return errors.New("the app was not told that web calls")
	}
	return nil
}

// more waits until n more requests were made.
func (l *load) more(ctx context.Context, n int64) error {
	until := l.sent.Load() + n
	return eventually(ctx, func() (bool, error) { return l.sent.Load() >= until, nil })
}
