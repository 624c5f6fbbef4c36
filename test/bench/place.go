package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"
)

const (
	hostName  = "orders.internal" // of the service's certificate, for peers that need one
	startTime = 30 * time.Second  // until a program must answer
	nap       = 20 * time.Millisecond
)

// What the app answers.
const (
	order     = `{"id":7,"customer":"c-1842","state":"paid","total":"129.90","currency":"EUR","lines":[{"sku":"A-17","n":2}]}`
	orderPath = "/orders/7"
	path64k   = "/files/64k"
	path1m    = "/files/1m"
)

// sizes are the bodies of the app's answers by path.
func sizes() map[string]int64 {
	return map[string]int64{orderPath: int64(len(order)), path64k: 64 << 10, path1m: 1 << 20}
}

// world is what all pairs have in common.
type world struct {
	Dev, Web, Orders string // folders: the trust domain, and SVIDs of two of its services
	App              string // address
	Features         []string
	Token            string // of a user, where the feature users is on
}

// place is where one pair runs: what its templates see.
type place struct {
	world
	Dir        string
	Plain, Hop string // addresses of out and of in
	Config     string // path of the program's file
	Checks     bool
	Root       bool
	HostName   string
	Order      string
}

// Has says whether everyhop has a feature, so that a peer has its like on.
func (p place) Has(feature string) bool { return slices.Contains(p.Features, feature) }

// Grants are the policy of the service orders.
func (place) Grants() []grant { return grants() }

// newPlace makes a folder below dir, and finds addresses.
func newPlace(dir, name string, w world) (place, error) {
	folder, err := os.MkdirTemp(dir, name+"-")
	if err != nil {
		return place{}, err
	}
	plain, err1 := freeAddress()
	hop, err2 := freeAddress()
	return place{
		world: w, Dir: folder, Plain: plain, Hop: hop,
		Root: os.Geteuid() == 0, HostName: hostName, Order: order,
	}, errors.Join(err1, err2)
}

// freeAddress is on loopback, with a port that was free when it was asked for:
// the programs cannot be told to choose one and say which.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// render writes config/NAME to the place's folder, and returns its path.
func (p place) render(name string) (string, error) {
	t := template.New(name).Funcs(template.FuncMap{"host": hostOf, "port": portOf}).Option("missingkey=error")
	t, err := t.ParseFS(configs, "config/"+name, "config/envoy-log.yaml")
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if err := t.ExecuteTemplate(&text, name, p); err != nil {
		return "", err
	}
	path := filepath.Join(p.Dir, name)
	return path, os.WriteFile(path, text.Bytes(), 0o600)
}

// fill is one argument with the place in it.
func (p place) fill(arg string) (string, error) {
	t, err := template.New("argument").Parse(arg)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = t.Execute(&text, p)
	return text.String(), err
}

func hostOf(address string) (string, error) {
	host, _, err := net.SplitHostPort(address)
	return host, err
}

func portOf(address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	return port, err
}

// running is a pair that answers.
type running struct {
	*pair
	place   place
	out, in *process
	outPIDs []int
	inPIDs  []int
}

// start starts both programs of a pair, and returns when the app's answers come
// through it whole. What it started before an error it has stopped.
func (b *bench) start(ctx context.Context, p *pair) (*running, error) {
	place, err := newPlace(b.dir, p.name, b.world)
	if err != nil {
		return nil, err
	}
	place.Checks = p.checks
	r := &running{pair: p, place: place}
	if err := b.startBoth(ctx, r); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

func (b *bench) startBoth(ctx context.Context, r *running) (err error) {
	if r.in, err = b.program(ctx, r, "in", r.pair.in); err != nil {
		return err
	}
	if r.out, err = b.program(ctx, r, "out", r.pair.out); err != nil {
		return err
	}
	if err := r.await(ctx); err != nil {
		return err
	}
	if r.inPIDs, err = family(r.in.cmd.Process.Pid); err != nil {
		return err
	}
	if r.outPIDs, err = family(r.out.cmd.Process.Pid); err != nil {
		return err
	}
	if err := b.strangers(ctx, r); err != nil {
		return err
	}
	return r.judges(ctx)
}

func (b *bench) program(ctx context.Context, r *running, side string, p program) (_ *process, err error) {
	t := b.tools.get(ctx, p.tool)
	if t.missing != nil {
		return nil, t.missing
	}
	place := r.place
	if p.config != "" {
		if place.Config, err = place.render(p.config); err != nil {
			return nil, err
		}
	}
	args := make([]string, len(p.args))
	for i, arg := range p.args {
		if args[i], err = place.fill(arg); err != nil {
			return nil, err
		}
	}
	return startProcess(filepath.Join(r.place.Dir, side+".out"), t.env, t.path, args...)
}

// await asks until every answer of the app's comes through whole.
func (r *running) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		err := r.asked(ctx)
		if err == nil {
			return nil
		}
		for _, p := range []*process{r.in, r.out} {
			if end := p.ended(); end != nil {
				return end
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w\nin: %s\nout: %s", r.name, err, tail(r.in.log), tail(r.out.log))
		case <-time.After(nap): // nobody tells when a foreign program is ready
		}
	}
}

// asked gets each path once.
func (r *running) asked(ctx context.Context) error {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for path, size := range sizes() {
		if err := askWhole(ctx, transport, r.place, path, size); err != nil {
			return err
		}
	}
	return nil
}

func askWhole(ctx context.Context, transport *http.Transport, p place, path string, size int64) error {
	res, err := askOnce(ctx, transport, p, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.Copy(io.Discard, res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || got != size) {
		err = fmt.Errorf("GET %s through %s is answered by %s and %d bytes, not 200 and %d", path, p.Plain, res.Status, got, size)
	}
	return err
}

func askOnce(ctx context.Context, transport *http.Transport, p place, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Plain+path, nil)
	if err != nil {
		return nil, err
	}
	if p.Token != "" {
		req.Header.Set("Authorization", "Bearer "+p.Token)
	}
	return transport.RoundTrip(req)
}

// judges is an error if a pair that is said to check requests lets one pass that
// no grant allows.
func (r *running) judges(ctx context.Context) error {
	if !r.checks || r.carries != carriesHTTP {
		return nil
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := askOnce(ctx, transport, r.place, "/undeclared")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		return fmt.Errorf("%s answers a request that no grant allows by %s", r.name, res.Status)
	}
	return nil
}

// forget empties the logs, which would otherwise fill the disk.
func (r *running) forget() error {
	logs, err := filepath.Glob(filepath.Join(r.place.Dir, "*.log"))
	for _, log := range logs {
		err = errors.Join(err, os.Truncate(log, 0))
	}
	return err
}

func (r *running) pids() []int { return slices.Concat(r.outPIDs, r.inPIDs) }

// stop ends both programs and removes the place.
func (r *running) stop() {
	r.out.stop()
	r.in.stop()
	_ = os.RemoveAll(r.place.Dir) // below the run's own folder, whose removal is checked
}
