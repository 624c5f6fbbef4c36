package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"
)

// measure is one figure, less is better.
type measure struct {
	name, title, unit string
}

// cell is one thing that is done with a pair, and what is measured of it.
type cell struct {
	name     string
	carries  string   // what a pair must carry: http, tcp, or "" for any
	tools    []string // that do it
	measures []measure
	direct   bool              // also without a pair, straight to the app
	except   map[string]string // pairs that cannot, and why
	run      func(context.Context, *bench, *running) ([]float64, error)
}

// cells are all of them, in their order.
func cells() []cell {
	return []cell{
		requests("conns1", "1 connection", 1, orderPath),
		requests("conns8", "8 connections", 8, orderPath),
		requests("conns32", "32 connections", 32, orderPath),
		requests("conns128", "128 connections", 128, orderPath),
		requests("body64k", "64 KiB bodies, 32 connections", 32, path64k),
		requests("body1m", "1 MiB bodies, 8 connections", 8, path1m),
		{
			name: "h2c", carries: carriesHTTP, tools: []string{"h2load"}, run: h2c,
			except:   map[string]string{"nginx": "a port of its without TLS speaks either HTTP/1.1 or HTTP/2"},
			measures: []measure{{"h2c", "HTTP/2 from the client, 8 connections of 4 streams", "µs CPU/request"}},
		}, {
			name: "tcp1m", carries: carriesTCP, tools: []string{"wrk"}, run: relay,
			measures: []measure{{"tcp1m", "relaying TCP, 8 connections", "µs CPU/MiB"}},
		}, {
			name: "paced", carries: carriesHTTP, direct: true, run: latency,
			measures: []measure{
				{"p50", "latency at 1,000 requests/s, p50", "µs"},
				{"p99", "latency at 1,000 requests/s, p99", "µs"},
				{"paced", "1,000 requests/s", "µs CPU/request"},
			},
		}, {
			name: "handshake", run: handshake(tls.X25519),
			measures: []measure{{"handshake", "new mTLS connection and a request, X25519", "µs CPU"}},
		}, {
			name: "handshakepq", run: handshake(),
			measures: []measure{{"handshakepq", "the same, by the curve that each prefers", "µs CPU"}},
		}, {
			name: "idle", run: idleMemory,
			measures: []measure{
				{"rss", "memory of an idle process", "MiB"},
				{"idleconn", "memory of an idle connection", "KiB"},
			},
		},
	}
}

// binary is the size of everyhop's own.
func binary() measure { return measure{"binary", "binary", "MB"} }

// allMeasures are those of the cells, in their order.
func allMeasures(cells []cell) []measure {
	var all []measure
	for _, c := range cells {
		all = append(all, c.measures...)
	}
	return append(all, binary())
}

// cellNames are the names of all cells, in their order.
func cellNames() []string {
	var names []string
	for _, c := range cells() {
		names = append(names, c.name)
	}
	return names
}

// requests is wrk on one path.
func requests(name, title string, conns int, path string) cell {
	return cell{
		name: name, carries: carriesHTTP, tools: []string{"wrk"},
		measures: []measure{{name, title, "µs CPU/request"}},
		run: func(ctx context.Context, b *bench, r *running) ([]float64, error) {
			if err := b.warm(ctx, conns, r); err != nil {
				return nil, err
			}
			return each(r.pids(), func() (int, error) { return b.wrk(ctx, conns, "http://"+r.place.Plain+path) })
		},
	}
}

// warm makes every connection of the hop that a cell will use: what a handshake
// costs is another cell's.
func (b *bench) warm(ctx context.Context, conns int, r *running) error {
	clients := make([]*client, conns)
	defer closeAll(clients)
	for i := range clients {
		var err error
		if clients[i], err = dial(r.place.Plain, b.world.Token); err != nil {
			return err
		}
	}
	_, err := pace(ctx, clients, 0, 20*conns) // all due at once, so that all connections are busy together
	return err
}

func h2c(ctx context.Context, b *bench, r *running) ([]float64, error) {
	const conns, streams = 8, 4
	if err := b.warm(ctx, conns*streams, r); err != nil {
		return nil, err
	}
	return each(r.pids(), func() (int, error) { return b.h2load(ctx, conns, streams, "http://"+r.place.Plain+orderPath) })
}

// relay carries files of 1 MiB, so what is each is a MiB.
func relay(ctx context.Context, b *bench, r *running) ([]float64, error) {
	return each(r.pids(), func() (int, error) { return b.wrk(ctx, 8, "http://"+r.place.Plain+path1m) })
}

func latency(ctx context.Context, b *bench, r *running) ([]float64, error) {
	var took []time.Duration
	cpu, err := each(r.pids(), func() (n int, err error) {
		took, err = paced(ctx, r.place.Plain, b.world.Token, b.duration)
		return len(took), err
	})
	switch {
	case err != nil:
		return nil, err
	case r.pair == nil: // straight to the app: there is no one whose processor time it could be
		cpu = nil
	}
	return append([]float64{micros(took, 0.5), micros(took, 0.99)}, cpu...), nil
}

// handshake offers only the curves given, or whatever Go offers.
func handshake(curves ...tls.CurveID) func(context.Context, *bench, *running) ([]float64, error) {
	return func(ctx context.Context, b *bench, r *running) ([]float64, error) {
		config, err := b.clientTLS(curves...)
		if err != nil {
			return nil, err
		}
		return each(r.inPIDs, func() (int, error) { return b.handshakes(ctx, r.place.Hop, config) })
	}
}

func idleMemory(ctx context.Context, b *bench, r *running) ([]float64, error) {
	rss, conn, err := b.idle(ctx, r.pair)
	return []float64{rss / 1024, conn}, err
}

// each is the processor time in microseconds that the processes had for each of
// the things that do did.
func each(pids []int, do func() (int, error)) ([]float64, error) {
	before, err := cpuTime(pids)
	if err != nil {
		return nil, err
	}
	n, err := do()
	if err != nil {
		return nil, err
	}
	after, err := cpuTime(pids)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("nothing was done in the time given")
	}
	return []float64{float64(after-before) / float64(time.Microsecond) / float64(n)}, nil
}

// choose is the cells or pairs of those names; all if none is named.
func choose(kind string, known, names []string) ([]string, error) {
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no %s %q (there are: %v)", kind, name, known)
		}
	}
	if len(names) == 0 {
		return known, nil
	}
	return names, nil
}
