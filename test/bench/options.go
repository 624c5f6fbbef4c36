package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const usageText = `usage: go run ./test/bench [flags]

Measures everyhop beside its peers on this machine, path by path:
client, proxy, mutual TLS 1.3, proxy, app; all on loopback. It builds everyhop, and
starts and stops everything itself. What it cannot have it says.

`

// options are what the command line says.
type options struct {
	rounds     int
	duration   time.Duration // of one cell of one pair
	timeout    time.Duration // of the whole run
	cells      []cell
	pairs      []string
	profile    string // folder for perf's records
	given      string // everyhop's binary, if it is not to be built
	cache      string
	gomaxprocs int // of everyhop, 0 for its own choice
}

func parseOptions(args []string, out io.Writer) (options, error) {
	var o options
	var only, peers string
	var quick bool
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprint(out, usageText)
		f.PrintDefaults()
		fmt.Fprintf(out, "\ncells: %s\npeers: %s\n", strings.Join(cellNames(), " "), strings.Join(peerNames(), " "))
	}
	f.IntVar(&o.rounds, "rounds", enoughRounds, "how often everything is measured")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "of each cell of each pair, in whole seconds")
	f.DurationVar(&o.timeout, "timeout", time.Hour, "of the whole run")
	f.StringVar(&only, "only", "", "measure only these `cells`, separated by commas")
	f.StringVar(&peers, "peers", "", "compare only with these `peers`, separated by commas")
	f.BoolVar(&quick, "quick", false, "one round of one second: to see that it runs")
	f.StringVar(&o.profile, "profile", "", "afterwards, record everyhop with Linux perf into `DIR`")
	f.StringVar(&o.given, "everyhop", "", "measure this `BINARY` instead of building one")
	f.StringVar(&o.cache, "cache", "", "keep fetched tools in `DIR` (default: everyhop-bench in the user's cache)")
	f.IntVar(&o.gomaxprocs, "gomaxprocs", 0, "GOMAXPROCS of everyhop's processes (default: their own choice)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if quick {
		o.rounds, o.duration = 1, time.Second
	}
	return o, o.resolve(f.Args(), split(only), split(peers))
}

// resolve turns names to what they name, and refuses what cannot be.
func (o *options) resolve(rest, only, peers []string) (err error) {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.rounds < 1:
		return fmt.Errorf("-rounds %d: at least one is needed", o.rounds)
	case o.duration < time.Second || o.duration%time.Second != 0:
		return fmt.Errorf("-duration %s: wrk takes whole seconds only", o.duration)
	}
	names, err := choose("cell", cellNames(), only)
	if err != nil {
		return err
	}
	for _, c := range cells() {
		if slices.Contains(names, c.name) {
			o.cells = append(o.cells, c)
		}
	}
	if o.pairs, err = choose("peer", peerNames(), peers); err != nil {
		return err
	}
	if o.cache != "" {
		o.cache, err = filepath.Abs(o.cache)
		return err
	}
	folder, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("finding where fetched tools may be kept: %w (say -cache DIR)", err)
	}
	o.cache = filepath.Join(folder, "everyhop-bench")
	return nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
