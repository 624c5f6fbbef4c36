package inbound_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/everyhop/everyhop/identity/dev"
	"github.com/everyhop/everyhop/identity/svid"
	"github.com/everyhop/everyhop/inbound"
	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
	"github.com/everyhop/everyhop/sidecar/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	service = "ns/a/sa/app"
	web     = "ns/a/sa/web"
	admin   = "ns/a/sa/admin"
	patient = 20 * time.Second // longer than anything takes that is no fault
)

// house is a sidecar's inbound hop between real connections: a trust domain, an
// app that records every byte, a log.
type house struct {
	t       testing.TB
	domain  *dev.Domain
	app     *app
	address string
	policy  atomic.Pointer[policy.Snapshot]
	records chan record
	sink    *sink
	logged  *lockedBuffer
	server  *inbound.Server
	clock   atomic.Int64 // added to the real time, in nanoseconds
}

type record struct {
	ID, Direction, Caller, Method, Route, Path, Grant, Shadow, Verdict, Reason string

	Status         int
	BytesIn        int64 `json:"bytes_in"`
	BytesOut       int64 `json:"bytes_out"`
	DroppedHeaders int   `json:"dropped_headers"`
	Policy, Trace  string
}

func newHouse(t testing.TB, edit func(*inbound.Config)) *house {
	t.Helper()
	h := &house{t: t, app: newApp(t), records: make(chan record, 1000), logged: &lockedBuffer{}}
	d, err := dev.Open(t.TempDir(), dev.Options{TrustDomain: "td.test"})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	h.domain = d
	must(t, d.Serve(service))
	source, err := svid.Open(context.Background(), svid.Config{Identity: d.Socket(service), Service: id(t, service)})
	must(t, err)
	t.Cleanup(func() { source.Close() })
	ready, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	must(t, source.WaitReady(ready))

	h.sink = &sink{records: h.records, t: t}
	log, err := audit.Open(audit.Config{Writer: h.sink, Paths: true, Now: h.now})
	must(t, err)
	t.Cleanup(func() { log.Close() })
	h.policy.Store(basePolicy(t, h.app.address()))
	config := inbound.Config{
		Policy: h.policy.Load,
		TLS:    source.ServerConfig([]string{"h2", "http/1.1"}, false),
		Audit:  log,
		PeerOf: svid.PeerOf,
		Now:    h.now,
		Logger: slog.New(slog.NewTextHandler(h.logged, nil)),
	}
	if edit != nil {
		edit(&config)
	}
	h.server, err = inbound.New(config)
	must(t, err)
	h.address = serve(t, h.server)
	return h
}

func (h *house) now() time.Time { return time.Now().Add(time.Duration(h.clock.Load())) }

func serve(t testing.TB, server *inbound.Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what is still under way is the test's own
		server.Stop(ctx)
		serving.Wait()
	})
	return ln.Addr().String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func id(t testing.TB, name string) spiffeid.ID {
	t.Helper()
	id, err := spiffeid.FromString("spiffe://td.test/" + name)
	must(t, err)
	return id
}

// basePolicy is that of the cases: /public for all, /admin for admin, /api for web.
func basePolicy(t testing.TB, app string) *policy.Snapshot {
	t.Helper()
	spec := &policy.Spec{
		Digest:   "digest1",
		Service:  id(t, service),
		App:      &policy.App{Kind: policy.AppHTTP, Network: "tcp", Address: app},
		Timeouts: policy.DefaultTimeouts(),
		Allow: []policy.Grant{
			grant(t, "public", "spiffe://td.test/**", "GET /public/**"),
			grant(t, "admin", "spiffe://td.test/"+admin, "GET /admin/**", "POST /admin/**"),
			grant(t, "api", "spiffe://td.test/"+web, "GET /api/**", "POST /api/**", "POST /svc.Orders/Get"),
			grant(t, "options", "spiffe://td.test/"+web, "OPTIONS /api/**"),
		},
	}
	api := &spec.Allow[2]
	api.Headers = []policy.Input{{Name: "x-request-id"}, {Name: "idempotency-key"}}
	api.Cookies = []policy.Text{{Text: "sid"}}
	api.Query = []policy.Input{{Name: "a"}, {Name: "b"}}
	api.Body = &policy.BodyRule{Max: 64}
	api.Timeout = 5 * time.Second
	snapshot, err := policy.Compile(spec, nil)
	must(t, err)
	return snapshot
}

func grant(t testing.TB, name, from string, routes ...string) policy.Grant {
	t.Helper()
	caller, err := match.ParseCaller(from)
	must(t, err)
	g := policy.Grant{Name: name, From: []policy.Caller{{Pattern: caller}}}
	for _, route := range routes {
		method, template, _ := strings.Cut(route, " ")
		path, err := match.ParsePath(template, nil)
		must(t, err)
		g.To = append(g.To, policy.Route{Method: method, Path: path})
	}
	return g
}

// sink is where the audit log writes. It can be broken.
type sink struct {
	t       testing.TB
	records chan record
	broken  atomic.Bool
	silent  bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.broken.Load() {
		return 0, io.ErrClosedPipe
	}
	for line := range bytes.Lines(p) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil { // I4
			s.t.Errorf("a record that is no JSON: %q: %v", line, err)
		}
		if !s.silent {
			s.records <- r
		}
	}
	return len(p), nil
}

// record is the next record, and there is no other yet: I4.
func (h *house) record() record {
	h.t.Helper()
	select {
	case r := <-h.records:
		return r
	case <-time.After(patient):
		h.t.Fatal("nothing was recorded")
		return record{}
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// app is the local app: it records the head of each request as it came, and
// answers with its number.
type app struct {
	listener net.Listener
	answer   func(c net.Conn, r *http.Request, n int)

	conns sync.WaitGroup
	cut   atomic.Int32 // requests whose body did not end
	mu    sync.Mutex
	heads []string
	open  map[net.Conn]bool
}

func newApp(t testing.TB) *app {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	a := &app{listener: ln, open: map[net.Conn]bool{}}
	a.answer = func(c net.Conn, r *http.Request, n int) {
		text := "answer " + strconv.Itoa(n)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nServer: app\r\n\r\n%s", len(text), text)
	}
	a.conns.Go(a.accept)
	t.Cleanup(func() {
		ln.Close()
		a.mu.Lock()
		for c := range a.open {
			c.Close()
		}
		a.mu.Unlock()
		a.conns.Wait()
	})
	return a
}

func (a *app) address() string { return a.listener.Addr().String() }

func (a *app) accept() {
	for {
		c, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.mu.Lock()
		a.open[c] = true
		a.mu.Unlock()
		a.conns.Go(func() { a.serve(c) })
	}
}

func (a *app) serve(c net.Conn) {
	defer c.Close()
	var head bytes.Buffer
	in := bufio.NewReader(c)
	for {
		head.Reset()
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head.Bytes())))
		if err != nil {
			return
		}
		a.mu.Lock()
		a.heads = append(a.heads, head.String())
		n := len(a.heads)
		a.mu.Unlock()
		if !readBody(in, r) {
			a.cut.Add(1)
			return
		}
		a.answer(c, r, n)
	}
}

// readBody reads a body, and reports whether it came to its end.
func readBody(in *bufio.Reader, r *http.Request) bool {
	if r.ContentLength >= 0 {
		_, err := io.CopyN(io.Discard, in, r.ContentLength)
		return err == nil
	}
	if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(in)); err != nil {
		return false
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err == nil
		}
	}
}

// seen is what the app got since it was last asked.
func (a *app) seen() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	heads := a.heads
	a.heads = nil
	return heads
}

// request is one request, to be written in either protocol.
type request struct {
	as             string // a workload's name; web if empty
	method, target string
	host, scheme   string // app.test and https if empty
	header         []string
	body           string
	raw            string // HTTP/1.1 only: all of it as it is
	fin            bool   // and then nothing more
	block          string // HTTP/2 only: all fields, a line each
	trailer        string // HTTP/2 only: fields after the body, a line each
}

type answer struct {
	status int
	header http.Header
	body   string
	open   bool // the connection can be used again
	reset  bool // HTTP/2: the stream or connection was ended with an error
}

// client is one mTLS connection.
type client struct {
	t      testing.TB
	conn   *tls.Conn
	in     *bufio.Reader
	framer *http2.Framer
	block  bytes.Buffer
	encode *hpack.Encoder
	stream uint32
}

func (h *house) dial(as, protocol string) *client {
	h.t.Helper()
	minted, err := h.domain.Mint(as)
	must(h.t, err)
	c, err := tls.Dial("tcp", h.address, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{protocol}, Certificates: []tls.Certificate{minted.TLS()},
	})
	must(h.t, err)
	h.t.Cleanup(func() { c.Close() })
	must(h.t, c.SetDeadline(time.Now().Add(patient)))
	client := &client{t: h.t, conn: c, in: bufio.NewReader(c)}
	if protocol == "h2" {
		io.WriteString(c, http2.ClientPreface)
		client.framer = http2.NewFramer(c, client.in)
		client.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		client.encode = hpack.NewEncoder(&client.block)
		client.stream = 1
		must(h.t, client.framer.WriteSettings())
	}
	return client
}

func (c *client) do(r request) answer {
	c.t.Helper()
	if c.framer != nil {
		return c.do2(r)
	}
	return c.do1(r)
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func (c *client) do1(r request) answer {
	c.t.Helper()
	text := r.raw
	if text == "" {
		text = r.method + " " + r.target + " HTTP/1.1\r\nHost: " + orElse(r.host, "app.test") + "\r\n"
		for _, line := range r.header {
			text += line + "\r\n"
		}
		if r.body != "" {
			text += "Content-Length: " + strconv.Itoa(len(r.body)) + "\r\n"
		}
		text += "\r\n" + r.body
	}
	io.WriteString(c.conn, text)
	if r.fin {
		must(c.t, c.conn.CloseWrite())
	}
	return c.read1(r.method)
}

func (c *client) read1(method string) answer {
	c.t.Helper()
	got, err := http.ReadResponse(c.in, &http.Request{Method: orElse(method, "GET")})
	if err != nil {
		return answer{}
	}
	body, err := io.ReadAll(got.Body)
	if err != nil {
		return answer{status: got.StatusCode, reset: true}
	}
	return answer{status: got.StatusCode, header: got.Header, body: string(body), open: !got.Close}
}

func (c *client) do2(r request) answer {
	c.t.Helper()
	c.block.Reset()
	field := func(name, value string) { must(c.t, c.encode.WriteField(hpack.HeaderField{Name: name, Value: value})) }
	lines := func(text string) {
		for line := range strings.SplitSeq(text, "\n") {
			colon := strings.Index(line[1:], ": ") + 1
			field(line[:colon], line[colon+2:])
		}
	}
	if r.block != "" {
		lines(r.block)
	} else {
		field(":method", r.method)
		field(":scheme", orElse(r.scheme, "https"))
		field(":authority", orElse(r.host, "app.test"))
		field(":path", r.target)
	}
	for _, line := range r.header {
		name, value, _ := strings.Cut(line, ": ")
		field(strings.ToLower(name), value)
	}
	if r.body != "" && r.block == "" {
		field("content-length", strconv.Itoa(len(r.body)))
	}
	stream := c.stream
	c.stream += 2
	c.writeBlock(stream, r.body == "")
	if r.body != "" {
		must(c.t, c.framer.WriteData(stream, r.trailer == "", []byte(r.body)))
	}
	if r.trailer != "" {
		c.block.Reset()
		lines(r.trailer)
		c.writeBlock(stream, true)
	}
	return c.read2(stream)
}

// writeBlock writes the field block, in frames of the size that is allowed.
func (c *client) writeBlock(stream uint32, end bool) {
	block := c.block.Bytes()
	first := block[:min(len(block), 16<<10)]
	rest := block[len(first):]
	must(c.t, c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndHeaders: len(rest) == 0, EndStream: end}))
	for len(rest) > 0 {
		next := rest[:min(len(rest), 16<<10)]
		rest = rest[len(next):]
		must(c.t, c.framer.WriteContinuation(stream, len(rest) == 0, next))
	}
}

func (c *client) read2(stream uint32) answer {
	c.t.Helper()
	got := answer{header: http.Header{}, open: true}
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			got.open, got.reset = false, true
			return got
		}
		ended := false
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				if field.Name == ":status" {
					got.status, _ = strconv.Atoi(field.Value)
				} else {
					got.header.Add(field.Name, field.Value)
				}
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			got.body += string(f.Data())
			if n := len(f.Data()); n > 0 {
				must(c.t, c.framer.WriteWindowUpdate(0, uint32(n)))
			}
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				got.reset = true
				return got
			}
		case *http2.GoAwayFrame:
			got.open = false
		}
		if ended {
			return got
		}
	}
}

func eachProtocol(t *testing.T, test func(t *testing.T, protocol string)) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) { test(t, protocol) })
	}
}
