package interop

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// backend is an app that others wrote, and that logs every request it makes out.
type backend struct{ name, config string }

var backends = []backend{{"nginx", "nginx-app.conf"}, {"apache2", "apache.conf"}, {"node", "node.js"}}

const corpusSeed = 1

// S60, I1, I2, I5: whatever a client sends, the back end makes out the requests
// that the sidecar says it let through, and no other.
func TestInbound_BackEndsAgreeOnEveryRequest(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			at := m.foreign(b.name, b.config, place{})
			orders := m.join("orders", ordersPolicy("http://"+at.Listen))
			d := &differential{t: t, address: orders.Addr("inbound").String(), tls: m.tls("web", "http/1.1"), n: scale(20_000, 200_000)}
			d.run()
			records := orders.stopAndRead()
			d.reconcile(records, readLog(t, filepath.Join(at.Dir, "access.log")))
		})
	}
}

// differential sends a corpus to a sidecar.
type differential struct {
	t       *testing.T
	address string
	tls     *tls.Config
	n       int

	next     atomic.Int64 // of the corpus
	conns    atomic.Int64
	canaries atomic.Int64 // that were answered
}

// run sends the whole corpus, each mutant before a good request: what a parser
// took for the end of one would show in the other.
func (d *differential) run() {
	pumps := 64
	if raced {
		pumps = 16
	}
	var pumping sync.WaitGroup
	for range pumps {
		pumping.Go(func() {
			for d.connection() {
			}
		})
	}
	pumping.Wait()
}

// connection sends mutants for as long as it is open, and says whether there are
// more.
func (d *differential) connection() bool {
	var c *tls.Conn
	ours := map[string]bool{}
	for {
		n := int(d.next.Add(1)) - 1
		if n >= d.n {
			if c != nil {
				_ = c.Close()
			}
			return false
		}
		if c == nil {
			d.conns.Add(1)
			var err error
			if c, err = tls.Dial("tcp", d.address, d.tls); err != nil {
				d.t.Errorf("connecting for mutant %d: %v", n, err)
				return true
			}
		}
		canary := fmt.Sprintf("canary-%d.", n)
		ours[canary] = true
		if !d.send(c, n, canary, ours) {
			_ = c.Close()
			return true
		}
	}
}

var canaries = regexp.MustCompile(`canary-\d+\.`)

// giveUp is when no more is expected of a connection: most mutants that are cut
// leave the sidecar waiting for the rest. What comes later is lost to the count
// of answers, and to nothing else.
const giveUp = 300 * time.Millisecond

// send sends one mutant and its canary, and says whether the canary was answered.
func (d *differential) send(c *tls.Conn, n int, canary string, ours map[string]bool) (healthy bool) {
	raw := append(mutant(corpusSeed, n), "GET /public/"+canary+" HTTP/1.1\r\nHost: app.test\r\n\r\n"...)
	_ = c.SetDeadline(time.Now().Add(patient))
	if _, err := c.Write(raw); err != nil {
		return false
	}
	var got []byte
	buffer := make([]byte, 16<<10)
	for {
		_ = c.SetReadDeadline(time.Now().Add(giveUp))
		k, err := c.Read(buffer)
		got = append(got, buffer[:k]...)
		for _, found := range canaries.FindAllString(string(got), -1) {
			if !ours[found] {
				d.t.Errorf("mutant %d got the answer of another connection: %q\nafter %q", n, got, raw)
				return false
			}
			healthy = healthy || found == canary
		}
		if healthy {
			d.canaries.Add(1)
			return !strings.Contains(string(got), "onnection: close")
		}
		if err != nil {
			return false
		}
	}
}

// ledger is how often each request is told of, by method and path.
type ledger map[string]int

// beyond are the entries of which there are more than in other.
func (l ledger) beyond(other ledger) (all []string) {
	for key, n := range l {
		if n > other[key] {
			all = append(all, fmt.Sprintf("%s (%d, not %d)", key, n, other[key]))
		}
	}
	slices.Sort(all)
	return all
}

func (l ledger) sum() (n int) {
	for _, k := range l {
		n += k
	}
	return n
}

// reconcile compares what the sidecar let through with what the back end saw.
func (d *differential) reconcile(records []record, back backLog) {
	t := d.t
	passed, answered, broken := ledger{}, ledger{}, ledger{}
	for _, r := range records {
		key := r.Method + " " + canonical(r.Path)
		switch {
		case r.Verdict == "allow" && r.Reason == "allowed" && r.Status < 400:
			answered[key]++
			passed[key]++
		case r.Verdict == "allow" && r.Reason == "allowed": // the back end's own refusal
			passed[key]++
		case r.Verdict == "allow", r.Grant != "" && r.Reason == "body_malformed":
			// It broke off in its body, when the back end had its head.
			broken[key]++
			passed[key]++
		}
	}
	for what, keys := range map[string][]string{
		"seen by the back end, and not let through":              back.seen.beyond(passed),
		"answered, and not seen by the back end":                 answered.beyond(back.seen),
		"whole when let through, but malformed for the back end": back.refused.beyond(broken),
	} {
		for _, key := range keys[:min(len(keys), 10)] {
			t.Errorf("%s: %s: the records: %v", what, key, about(records, key))
		}
	}
	for _, line := range back.garbled[:min(len(back.garbled), 10)] {
		t.Errorf("the back end could not make out %q", line)
	}
	if p := passed.sum(); p < d.n/4 || len(records)-p < d.n/10 || int(d.canaries.Load()) < d.n/20 {
		t.Errorf("the corpus is no test of this: %d of %d records let pass, %d canaries answered", p, len(records), d.canaries.Load())
	}
	t.Logf("%d mutants on %d connections, %d canaries answered: %d requests refused, %d let through, of which %d broke off; %d seen by the back end",
		d.n, d.conns.Load(), d.canaries.Load(), len(records)-passed.sum(), passed.sum(), broken.sum(), back.seen.sum())
}

// about are the records that may tell of a request.
func about(records []record, key string) (all []record) {
	path := strings.Fields(key)[1]
	for _, r := range records {
		if canonical(r.Path) == path {
			all = append(all, r)
		}
	}
	return all
}

// backLog is what a back end wrote down.
type backLog struct {
	seen    ledger   // every request
	refused ledger   // those that it answered by 400
	garbled []string // lines that are no request
}

func readLog(t *testing.T, path string) backLog {
	text, err := os.ReadFile(path)
	must(t, err)
	back := backLog{seen: ledger{}, refused: ledger{}}
	for line := range strings.Lines(string(text)) {
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case words[0] == "408", len(words) == 2 && words[1] == "-": // a connection without a request
		case len(words) == 2 && words[1] == "HPE_INVALID_EOF_STATE": // Node's word for a body that was broken off
		case len(words) != 4 || words[3] != "HTTP/1.1":
			back.garbled = append(back.garbled, line)
		default:
			path, _, _ := strings.Cut(words[2], "?")
			back.seen[words[1]+" "+path]++
			if words[0] == "400" {
				back.refused[words[1]+" "+path]++
			}
		}
	}
	return back
}

// canonical is the one form of a path: without an authority, what need not be
// encoded is not, and the rest is in upper case.
func canonical(path string) string {
	if _, rest, absolute := strings.Cut(path, "://"); absolute {
		path = rest[max(0, strings.IndexByte(rest, '/')):]
	}
	return encoded.ReplaceAllStringFunc(path, func(triplet string) string {
		var b byte
		if _, err := fmt.Sscanf(triplet, "%%%02x", &b); err == nil && strings.IndexByte(unreserved, b) >= 0 {
			return string(b)
		}
		return strings.ToUpper(triplet)
	})
}

var encoded = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
