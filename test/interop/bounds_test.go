package interop

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/test/tools"
)

// bounded is a sidecar in a process of its own, whose memory can be told from the
// test's, with a client that behaves itself.
type bounded struct {
	*mesh
	process *process
	address string
	app     *busyApp
	good    *http.Transport
	base    int // KiB in RAM before anything is asked of it
}

// busyApp counts what it does at once.
type busyApp struct{ running, peak, all atomic.Int64 }

func (a *busyApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := a.running.Add(1)
	defer a.running.Add(-1)
	for peak := a.peak.Load(); now > peak && !a.peak.CompareAndSwap(peak, now); peak = a.peak.Load() {
	}
	a.all.Add(1)
	switch {
	case strings.HasPrefix(r.URL.Path, "/a/wait"):
		<-r.Context().Done()
	case strings.HasPrefix(r.URL.Path, "/a/large"):
		w.Header().Set("Content-Length", fmt.Sprint(32*mebibyte))
		piece := make([]byte, 64<<10)
		for range 32 * mebibyte / len(piece) {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	default:
		_, _ = io.WriteString(w, "answer")
	}
}

func newBounded(t *testing.T) *bounded {
	t.Helper()
	b := &bounded{mesh: newMesh(t), app: &busyApp{}, address: freeAddress(t)}
	file := filepath.Join(b.dir, "orders.yaml")
	must(t, os.WriteFile(file, []byte(ordersPolicy("http://"+b.serve(b.app, false))), 0o600))
	b.process = start(t, filepath.Join(b.dir, "orders.out"), tools.Tool{Path: everyhop(t)}, "run", "--policy", file,
		"--identity", b.domain.Socket("orders"), "--inbound", b.address, "--admin", "unix://"+filepath.Join(b.dir, "admin.sock"),
		"--audit", filepath.Join(b.dir, "orders.audit"), "--drain", "1s", "--log", "text")
	b.process.awaitPort(t, b.address)
	b.good = &http.Transport{TLSClientConfig: b.tls("web", "h2"), ForceAttemptHTTP2: true}
	t.Cleanup(b.good.CloseIdleConnections)
	await(t, "the first answer", func() bool {
		status, _, err := ask(b.good, "GET", "https://"+b.address+"/a/canary", nil)
		return err == nil && status == http.StatusOK
	})
	b.base = b.memory("VmRSS")
	return b
}

// memory is a line of the process's status, in KiB: VmRSS is what is in RAM, and
// VmHWM the most that ever was.
func (b *bounded) memory(line string) (kib int) {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.process.cmd.Process.Pid))
	must(b.t, err)
	_, rest, found := bytes.Cut(text, []byte(line+":"))
	if _, err := fmt.Sscan(string(rest), &kib); !found || err != nil {
		b.t.Fatalf("there is no %s of the sidecar: %v", line, err)
	}
	return kib
}

// holds says what memory it took, and that it is not more than the bound in KiB.
func (b *bounded) holds(what string, grown, bound int) {
	b.t.Helper()
	b.t.Logf("%s: %d KiB more than the %d KiB at rest; the bound is %d", what, grown, b.base, bound)
	if grown > bound {
		b.t.Errorf("%s takes %d KiB, more than %d", what, grown, bound)
	}
}

// canary is a good request on the connection of the first, and one on a new one.
func (b *bounded) canary() {
	b.t.Helper()
	fresh := &http.Transport{TLSClientConfig: b.tls("web", "http/1.1")}
	defer fresh.CloseIdleConnections()
	for what, by := range map[string]*http.Transport{"an old": b.good, "a new": fresh} {
		if status, _, err := ask(by, "GET", "https://"+b.address+"/a/canary", nil); err != nil || status != http.StatusOK {
			b.t.Errorf("a good request on %s connection is answered by %d, %v", what, status, err)
		}
	}
}

// latencies asks good requests until stop is closed.
func (b *bounded) latencies(stop <-chan struct{}) (all []time.Duration) {
	for {
		select {
		case <-stop:
			slices.Sort(all)
			return all
		default:
		}
		begun := time.Now()
		if status, _, err := ask(b.good, "GET", "https://"+b.address+"/a/canary", nil); err != nil || status != http.StatusOK {
			b.t.Errorf("a good request is answered by %d, %v", status, err)
			return all
		}
		all = append(all, time.Since(begun))
		time.Sleep(time.Millisecond) // a rate, and no load
	}
}

func show(sorted []time.Duration) string {
	if len(sorted) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d, p50 %s, p99 %s", len(sorted), sorted[len(sorted)/2].Round(time.Microsecond), sorted[len(sorted)*99/100].Round(time.Microsecond))
}

// dial opens n connections, some at once, and begins each of them.
func (b *bounded) dial(n int, protocol string, begin func(c *tls.Conn) error) (conns []*tls.Conn) {
	b.t.Helper()
	config := b.tls("web", protocol)
	var mu sync.Mutex
	var dialing sync.WaitGroup
	var next atomic.Int64
	for range 16 {
		dialing.Go(func() {
			for next.Add(1) <= int64(n) {
				c, err := tls.Dial("tcp", b.address, config)
				if err == nil {
					err = begin(c)
				}
				if err != nil {
					b.t.Errorf("connecting: %v", err)
					return
				}
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	dialing.Wait()
	b.t.Cleanup(func() {
		for _, c := range conns {
			_ = c.NetConn().Close()
		}
	})
	return conns
}

// RT11: heads that never end are cut at their limit, and cost little until then.
func TestBounds_SlowConnectionsAreCut(t *testing.T) {
	b := newBounded(t)
	n := size(2_000, 9_900) // a sidecar takes 10,000 connections
	stop, measured := make(chan struct{}), make(chan []time.Duration)
	go func() { measured <- b.latencies(stop) }()
	conns := b.dial(n, "http/1.1", func(c *tls.Conn) error {
		_, err := io.WriteString(c, "GET /a/slow HTTP/1.1\r\nHost: app.test\r\nX-Slow: ")
		return err
	})
	atFull := b.memory("VmRSS") - b.base
	begun := time.Now()
	var waiting sync.WaitGroup
	var late atomic.Int64
	for _, c := range conns {
		waiting.Go(func() {
			_ = c.SetReadDeadline(begun.Add(patient))
			if _, err := io.Copy(io.Discard, c); err != nil && os.IsTimeout(err) {
				late.Add(1)
			}
		})
	}
	// They are slow, and not silent.
	ended := make(chan struct{})
	go func() { waiting.Wait(); close(ended) }()
	for dripping := true; dripping; {
		for _, c := range conns {
			_, _ = io.WriteString(c, "x")
		}
		select {
		case <-ended:
			dripping = false
		case <-time.After(500 * time.Millisecond):
		}
	}
	cut := time.Since(begun)
	close(stop)
	latencies := <-measured
	t.Logf("%d slow connections, the last gone after %s of a limit of 5 s; good requests meanwhile: %s", n, cut.Round(time.Millisecond), show(latencies))
	if late.Load() > 0 {
		t.Errorf("%d connections were not cut", late.Load())
	}
	b.each("slow connections", n, atFull, 40, 64)
	b.canary()
	if b.app.all.Load() > int64(len(latencies))+10 {
		t.Error("a request that never ended reached the app")
	}
}

// RT12.
func TestBounds_IdleConnectionsCostLittle(t *testing.T) {
	b := newBounded(t)
	n := size(2_000, 9_900)
	b.dial(n, "http/1.1", func(c *tls.Conn) error {
		_, err := io.WriteString(c, "GET /a/x HTTP/1.1\r\nHost: app.test\r\n\r\n")
		if err != nil {
			return err
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, answer.Body)
		}
		return err
	})
	steady(func() int { return b.memory("VmRSS") })
	b.each("idle HTTP/1.1 connections", n, b.memory("VmRSS")-b.base, 40, 40)
	b.canary()
}

func TestBounds_IdleHTTP2ConnectionsCostLittle(t *testing.T) {
	b := newBounded(t)
	n := size(1_000, 2_000)
	b.dial(n, "h2", func(c *tls.Conn) error {
		h := newRaw(c)
		for i := range 10 {
			h.get(uint32(2*i+1), "/a/x")
		}
		return errors.Join(h.flush(), h.answers(10))
	})
	steady(func() int { return b.memory("VmRSS") })
	b.each("idle HTTP/2 connections that had ten streams each", n, b.memory("VmRSS")-b.base, 80, 80)
	b.canary()
}

// each holds what n things take to a bound of KiB for each of them, and 16 MiB
// for the garbage that few leave as well as many. The goal is what they should
// take: where that is not so it is said, and no failure.
func (b *bounded) each(what string, n, grown, goal, bound int) {
	b.t.Helper()
	b.holds(fmt.Sprintf("%d %s", n, what), grown, bound*n+16<<10)
	if grown > goal*n {
		b.t.Logf("OWED: %s should take %d KiB each, and take %d", what, goal, grown/n)
	}
}

// size is how much of something to do to a sidecar in a process of its own, which
// the race detector does not slow.
func size(short, full int) int {
	if long {
		return full
	}
	return short
}

// T05, RT21: what is small on the wire and large when it is decoded.
func TestBounds_HPACKBombsAreRefused(t *testing.T) {
	b := newBounded(t)
	block := append(requestBlock("/a/bomb"), 0x40, 1, 'a', 0) // a: with an empty value, to the table
	block = append(block, bytes.Repeat([]byte{0x80 | 62}, 31_000)...)
	var uncut atomic.Int64
	b.attack(t, 10, func(h *raw) error {
		must(t, h.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
		for i := range 250 {
			h.block(uint32(2*i+1), block)
			if err := h.flush(); err != nil {
				return err
			}
		}
		for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(100 * time.Millisecond) { // a drip
			must(t, h.framer.WriteWindowUpdate(1, 1))
			if err := h.flush(); err != nil {
				return err
			}
		}
		uncut.Add(1)
		return nil
	})
	if uncut.Load() > 0 {
		t.Errorf("%d connections were not cut within 10 s of 250 bombs", uncut.Load())
	}
	b.holds("ten HPACK bombs at once", b.memory("VmHWM")-b.base, 32<<10)
	b.canary()
	if n := b.app.all.Load(); n > 20 {
		t.Errorf("the app got %d requests", n)
	}
}

// T06, RT21: a header that never ends.
func TestBounds_EndlessContinuationIsCut(t *testing.T) {
	b := newBounded(t)
	endless := bytes.Repeat([]byte{0x10, 1, 'a', 1, 'b'}, 3_000) // literals that are never indexed
	var uncut atomic.Int64
	b.attack(t, 10, func(h *raw) error {
		must(t, h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: requestBlock("/a/bomb")}))
		for range 64 * mebibyte / len(endless) {
			must(t, h.framer.WriteContinuation(1, false, endless))
			if err := h.flush(); err != nil {
				return err
			}
		}
		uncut.Add(1)
		return nil
	})
	if uncut.Load() > 0 {
		t.Errorf("%d connections could send a header of 64 MiB", uncut.Load())
	}
	b.holds("ten endless headers at once", b.memory("VmHWM")-b.base, 256<<10)
	b.canary()
}

// T02, RT22: streams that are reset at once do not pile up at the app.
func TestBounds_RapidResetReachesTheAppBounded(t *testing.T) {
	b := newBounded(t)
	total := scale(40_000, 1_000_000)
	stop, measured := make(chan struct{}), make(chan []time.Duration)
	go func() { measured <- b.latencies(stop) }()
	sent, conns, most := 0, 0, 0
	config := b.tls("web", "h2")
	begun := time.Now()
	for sent < total && time.Since(begun) < patient {
		conns++
		c, err := tls.Dial("tcp", b.address, config)
		must(t, err)
		h := newRaw(c)
		ended := make(chan struct{})
		go func() { defer close(ended); _, _ = io.Copy(io.Discard, c) }()
		id := uint32(1)
		for open := true; open && sent < total; id += 2 {
			h.get(id, "/a/wait")
			must(t, h.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			sent++
			if id%32 != 31 {
				continue
			}
			select {
			case <-ended:
				open = false
			default:
				open = h.flush() == nil
			}
		}
		most = max(most, int(id/2))
		_ = c.NetConn().Close()
		<-ended
	}
	took := time.Since(begun)
	close(stop)
	t.Logf("%d streams opened and reset on %d connections (%d at most on one) in %s: the app had %d requests, %d at once; good requests meanwhile: %s",
		sent, conns, most, took.Round(time.Millisecond), b.app.all.Load(), b.app.peak.Load(), show(<-measured))
	if peak := b.app.peak.Load(); peak > 2*100 { // of one connection, and one that ends meanwhile
		t.Errorf("the app had %d requests at once", peak)
	}
	b.holds("rapid reset", b.memory("VmHWM")-b.base, 64<<10)
	b.canary()
	await(t, "the app's requests to end", func() bool { return b.app.running.Load() == 0 })
}

// RT12, U16: who asks for much and reads nothing costs little.
func TestBounds_StalledReadersCostLittle(t *testing.T) {
	b := newBounded(t)
	n, streams := size(40, 400), 10
	b.dial(n, "h2", func(c *tls.Conn) error {
		h := newRaw(c)
		for i := range streams {
			h.get(uint32(2*i+1), "/a/large")
		}
		return h.flush() // with a window of 64 KiB for all of them
	})
	b.dial(n, "http/1.1", func(c *tls.Conn) error {
		_, err := io.WriteString(c, "GET /a/large HTTP/1.1\r\nHost: app.test\r\n\r\n")
		return err
	})
	time.Sleep(3 * time.Second)
	await(t, "the app to be asked for all of it", func() bool { return b.app.all.Load() >= int64(n*streams+n) })
	steady(func() int { return b.memory("VmRSS") })
	b.holds(fmt.Sprintf("%d answers that nobody reads", n*streams+n), b.memory("VmRSS")-b.base, 128*(n*streams+n))
	b.canary()
}

// steady waits until a figure no longer changes much.
func steady(figure func() int) {
	for was, same := figure(), 0; same < 5; {
		time.Sleep(100 * time.Millisecond)
		now := figure()
		if same++; now > was+was/50 || now < was-was/50 {
			same = 0
		}
		was = now
	}
}

// attack does the same on n connections at once, each until it is closed.
func (b *bounded) attack(t *testing.T, n int, do func(h *raw) error) {
	t.Helper()
	var attacking sync.WaitGroup
	var closed atomic.Int64
	for _, c := range b.dial(n, "h2", func(*tls.Conn) error { return nil }) {
		attacking.Go(func() {
			h := newRaw(c)
			reading := make(chan struct{})
			go func() { defer close(reading); _, _ = io.Copy(io.Discard, c) }()
			_ = c.SetWriteDeadline(time.Now().Add(patient))
			if do(h) != nil {
				closed.Add(1)
			}
			_ = c.NetConn().Close()
			<-reading
		})
	}
	attacking.Wait()
	t.Logf("%d of %d connections were cut while they attacked", closed.Load(), n)
}

// raw writes frames of HTTP/2 as it is told to.
type raw struct {
	conn    net.Conn
	out     bytes.Buffer
	framer  *http2.Framer
	encoder *hpack.Encoder
	encoded bytes.Buffer
}

func newRaw(c net.Conn) *raw {
	h := &raw{conn: c}
	h.out.WriteString(http2.ClientPreface)
	h.framer = http2.NewFramer(&h.out, c)
	h.framer.AllowIllegalWrites = true
	h.encoder = hpack.NewEncoder(&h.encoded)
	_ = h.framer.WriteSettings() // to a buffer
	return h
}

func (h *raw) flush() error {
	_, err := h.conn.Write(h.out.Bytes())
	h.out.Reset()
	return err
}

// get writes a whole request.
func (h *raw) get(id uint32, path string) {
	h.encoded.Reset()
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "app.test"}, {Name: ":path", Value: path}} {
		_ = h.encoder.WriteField(f) // to a buffer
	}
	_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.encoded.Bytes(), EndStream: true, EndHeaders: true})
}

// block writes a header block in as many frames as it takes.
func (h *raw) block(id uint32, block []byte) {
	const frame = 16 << 10
	first := block[:min(frame, len(block))]
	rest := block[len(first):]
	_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: true, EndHeaders: len(rest) == 0})
	for len(rest) > 0 {
		piece := rest[:min(frame, len(rest))]
		rest = rest[len(piece):]
		_ = h.framer.WriteContinuation(id, len(rest) == 0, piece)
	}
}

// answers reads until that many streams have ended.
func (h *raw) answers(n int) error {
	_ = h.conn.SetReadDeadline(time.Now().Add(patient))
	for n > 0 {
		frame, err := h.framer.ReadFrame()
		if err != nil {
			return err
		}
		if frame.Header().StreamID != 0 && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			n--
		}
	}
	return nil
}

// requestBlock is the header of a GET, in literals that no table keeps.
func requestBlock(path string) []byte {
	var block []byte
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "app.test"}, {":path", path}} {
		block = append(block, 0x10, byte(len(f[0])))
		block = append(block, f[0]...)
		block = append(block, byte(len(f[1])))
		block = append(block, f[1]...)
	}
	return block
}
