package test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTCP_BytesArriveWholeBothWaysAndAreCounted(t *testing.T) {
	const size = 8 << 20
	m := newMesh(t, "web", "db")
	app := newBytesApp(t, echo)
	web, db, local := tcpPair(m, app)
	source := rand.NewChaCha8([32]byte{1})
	sent, heard := sha256.New(), sha256.New()
	c := plain(t, local)
	var saying sync.WaitGroup
	saying.Go(func() {
		if _, err := io.CopyN(io.MultiWriter(c, sent), source, size); err != nil {
			t.Error(err)
		}
		_ = c.CloseWrite()
	})
	if n, err := io.Copy(heard, c); n != size || err != nil {
		t.Errorf("heard %d bytes, %v", n, err)
	}
	saying.Wait()
	if !bytes.Equal(sent.Sum(nil), heard.Sum(nil)) {
		t.Error("other bytes came back")
	}
	for _, side := range []struct {
		m         *member
		direction string
	}{{web, "outbound"}, {db, "inbound"}} {
		records := side.m.stopAndRead()
		if len(records) != 1 {
			t.Fatalf("%s: %d records of one connection", side.direction, len(records))
		}
		r := records[0]
		if r.Verdict != "allow" || r.Reason != "allowed" || r.Route != "tcp" || r.Direction != side.direction || r.In != size || r.Out != size || r.Seconds <= 0 {
			t.Errorf("%s: %+v", side.direction, r)
		}
		if who := r.Caller + r.Peer; who != map[string]string{"inbound": "spiffe://example.org/web", "outbound": "spiffe://example.org/db"}[side.direction] {
			t.Errorf("%s: the other end is %q", side.direction, who)
		}
	}
}

func TestTCP_WhoeverSpeaksFirstIsHeard(t *testing.T) {
	m := newMesh(t, "web", "db")
	app := newBytesApp(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "220 ready\n")
		echo(c)
	})
	_, _, local := tcpPair(m, app)
	first := plain(t, local)
	hears(t, first, "220 ready\n")
	talk(t, first, "HELO\n")
	second := plain(t, local)
	if _, err := io.WriteString(second, "HELO\n"); err != nil {
		t.Fatal(err)
	}
	hears(t, second, "220 ready\nHELO\n")
}

func TestTCP_AHalfCloseGoesThroughAndTheOtherHalfGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		app    func(*net.TCPConn)
		client func(t *testing.T, c *net.TCPConn)
	}{
		"the client ends first": {
			func(c *net.TCPConn) {
				question, _ := io.ReadAll(c)
				_, _ = fmt.Fprintf(c, "you said %s", question)
			},
			func(t *testing.T, c *net.TCPConn) {
				_, _ = io.WriteString(c, "all of it")
				_ = c.CloseWrite()
				if answer, err := io.ReadAll(c); string(answer) != "you said all of it" || err != nil {
					t.Errorf("%q, %v", answer, err)
				}
			},
		},
		"the app ends first": {
			func(c *net.TCPConn) {
				_, _ = io.WriteString(c, "all of it")
				_ = c.CloseWrite()
				if rest, err := io.ReadAll(c); string(rest) != "heard" || err != nil {
					t.Errorf("the app heard %q, %v", rest, err)
				}
			},
			func(t *testing.T, c *net.TCPConn) {
				if all, err := io.ReadAll(c); string(all) != "all of it" || err != nil {
					t.Errorf("%q, %v", all, err)
				}
				_, _ = io.WriteString(c, "heard")
				_ = c.Close()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, "web", "db")
			done := make(chan struct{})
			app := newBytesApp(t, func(conn *net.TCPConn) { defer close(done); c.app(conn) })
			web, db, local := tcpPair(m, app)
			c.client(t, plain(t, local))
			<-done
			for _, side := range []*member{web, db} {
				eventually(t, "the connection to be over", func() bool { return tunnels(t, side) == 0 })
				if got := reasons(side.stopAndRead()); got != "allow allowed" {
					t.Errorf("records: %s", got)
				}
			}
		})
	}
}

// tunnels is how many connections of bytes the sidecar says are open.
func tunnels(t *testing.T, s *member) (n int) {
	t.Helper()
	for _, direction := range []string{"inbound", "outbound"} {
		n += metric(t, s, `everyhop_tunnels{direction="`+direction+`"}`)
	}
	return n
}

func metric(t *testing.T, s *member, name string) (n int) {
	t.Helper()
	_, text, err := get(oneShot, "http://"+s.Addr("admin").String()+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name+" ") {
			_, _ = fmt.Sscan(line[len(name):], &n)
		}
	}
	return n
}

// U24: the app speaks first, and is not even dialled for who may not hear it.
func TestU24_WhoMayNotSpeakToTheAppIsRefusedBeforeItIsDialled(t *testing.T) {
	m := newMesh(t, "web", "db")
	app := newBytesApp(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "secret banner") })
	db := m.join("db", bytesPolicy(app, "  - {name: trial, from: spiffe://example.org/trial, to: tcp, shadow: true}\nban: [spiffe://example.org/evil]\n"))
	for _, name := range []string{"other", "evil", "trial"} {
		c := m.secure(name, db.Addr("inbound").String())
		if heard, err := io.ReadAll(c); len(heard) != 0 || !isReset(err) {
			t.Errorf("%s heard %q, %v", name, heard, err)
		}
	}
	allowed := m.secure("web", db.Addr("inbound").String())
	hears(t, allowed, "secret banner")
	_ = allowed.Close()
	records := db.stopAndRead()
	if got := reasons(records); got != "allow allowed, deny caller_banned, deny caller_undeclared, deny caller_undeclared" {
		t.Errorf("records: %s", got)
	}
	if app.dialled.Load() != 1 {
		t.Errorf("the app was dialled %d times", app.dialled.Load())
	}
	for _, r := range records {
		if r.Verdict == "deny" && (r.Caller == "" || r.In != 0 || r.Out != 0) {
			t.Errorf("%+v", r)
		}
	}
}

// U25, U26: what is no handshake, or an old one, is closed without an answer that
// holds any of it.
func TestU25_WhatIsNotTLS13IsClosedWithoutAnEcho(t *testing.T) {
	m := newMesh(t, "web", "db")
	app := newBytesApp(t, echo)
	db := m.join("db", bytesPolicy(app, ""))
	address := db.Addr("inbound").String()
	for name, said := range map[string]string{
		"plain bytes":  "MARKER MARKER MARKER\n",
		"HTTP":         "GET /MARKER HTTP/1.1\r\nHost: MARKER\r\n\r\n",
		"PROXY v1":     "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nMARKER",
		"PROXY v2":     "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0cMARKERMARKER",
		"a bare FIN":   "",
		"a TLS record": "\x16\x03\x01\x00\x06MARKER",
	} {
		c := plain(t, address)
		_, _ = io.WriteString(c, said)
		_ = c.CloseWrite()
		heard, _ := io.ReadAll(c)
		if len(heard) > 16 || bytes.Contains(heard, []byte("MARKER")) {
			t.Errorf("%s: answered with %q", name, heard)
		}
	}
	old := m.clientTLS("web")
	old.MaxVersion = tls.VersionTLS12
	if c, err := tls.Dial("tcp", address, old); err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 was taken")
	}
	nobody := tls.Client(plain(t, address), &tls.Config{InsecureSkipVerify: true})
	if err := nobody.Handshake(); err == nil {
		if heard, err := io.ReadAll(nobody); err == nil || len(heard) > 0 {
			t.Errorf("a client without a certificate heard %q, %v", heard, err)
		}
	}
	if app.dialled.Load() != 0 {
		t.Errorf("the app was dialled %d times", app.dialled.Load())
	}
	talk(t, m.secure("web", address), "still there")
}

// U23: however a ClientHello comes, it is the same client.
func TestU23_AClientHelloInPiecesIsDecidedAsAWholeOne(t *testing.T) {
	m := newMesh(t, "web", "db")
	app := newBytesApp(t, echo)
	db := m.join("db", bytesPolicy(app, ""))
	for _, pieces := range []func([]byte) [][]byte{singleBytes, fiveRecords} {
		for name, allowed := range map[string]bool{"web": true, "other": false} {
			raw := plain(t, db.Addr("inbound").String())
			_ = raw.SetNoDelay(true)
			c := tls.Client(&pieced{Conn: raw, pieces: pieces}, m.clientTLS(name))
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			if allowed {
				talk(t, c, "in pieces")
				_ = c.Close()
			} else {
				wantCut(t, c)
			}
		}
	}
	if app.dialled.Load() != 2 {
		t.Errorf("the app was dialled %d times", app.dialled.Load())
	}
}

// pieced sends its first write in pieces.
type pieced struct {
	net.Conn
	pieces func([]byte) [][]byte
	done   bool
}

func (p *pieced) Write(b []byte) (int, error) {
	if p.done {
		return p.Conn.Write(b)
	}
	p.done = true
	for _, piece := range p.pieces(b) {
		if _, err := p.Conn.Write(piece); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func singleBytes(b []byte) (all [][]byte) {
	for i := range b {
		all = append(all, b[i:i+1])
	}
	return all
}

// fiveRecords is the handshake message of one record in five: RFC 8446 section 5.1.
func fiveRecords(b []byte) (all [][]byte) {
	message := b[5:]
	for part := range 5 {
		piece := message[len(message)*part/5 : len(message)*(part+1)/5]
		all = append(all, append([]byte{b[0], b[1], b[2], byte(len(piece) >> 8), byte(len(piece))}, piece...))
	}
	return all
}

// U27, U12: what a new policy does not allow any more is cut, and the rest goes on.
func TestU27_APolicyChangeCutsWhatItDoesNotAllowAndNothingElse(t *testing.T) {
	m := newMesh(t, "web", "db")
	app := newBytesApp(t, echo)
	db := m.join("db", bytesPolicy(app, "  - {name: ops, from: spiffe://example.org/ops, to: tcp}\n"))
	web, ops := m.secure("web", db.Addr("inbound").String()), m.secure("ops", db.Addr("inbound").String())
	talk(t, web, "a")
	talk(t, ops, "a")
	reload(t, db, bytesPolicy(app, "ban: [spiffe://example.org/ops]\n  "))
	wantCut(t, ops)
	talk(t, web, "b")
	reload(t, db, strings.Replace(bytesPolicy(app, ""), "example.org/web,", "example.org/another,", 1))
	wantCut(t, web)
	if got := reasons(db.stopAndRead()); got != "allow caller_banned, allow caller_undeclared" {
		t.Errorf("records: %s", got)
	}
}

func reload(t *testing.T, s *member, policy string) {
	t.Helper()
	s.write(policy)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
}

func TestU27_AGrantThatEndsEndsItsConnections(t *testing.T) {
	m := newMesh(t, "db")
	app := newBytesApp(t, echo)
	end := time.Now().Add(2 * time.Second).UTC()
	db := m.join("db", strings.Replace(bytesPolicy(app, ""), "to: tcp}", "to: tcp, until: "+end.Format(time.RFC3339)+"}", 1))
	c := m.secure("web", db.Addr("inbound").String())
	talk(t, c, "a")
	wantCut(t, c)
	if now := time.Now(); now.Before(end.Truncate(time.Second)) {
		t.Errorf("cut %s before its end", end.Sub(now))
	}
	if got := reasons(db.stopAndRead()); got != "allow grant_ended" {
		t.Errorf("records: %s", got)
	}
}

func TestU27_ACallThatIsRemovedEndsItsConnections(t *testing.T) {
	m := newMesh(t, "web", "db")
	web, db, local := tcpPair(m, newBytesApp(t, echo))
	c := plain(t, local)
	talk(t, c, "a")
	reload(t, web, strings.Replace(callingDB(db.Addr("inbound").String(), freeAddress(t)), "db:", "db2:", 1))
	wantCut(t, c)
	if got := reasons(web.stopAndRead()); got != "allow route_undeclared" {
		t.Errorf("records: %s", got)
	}
}

// U13: a certificate whose authority is trusted no longer proves nothing any more.
func TestU13_APeerWhoseAuthorityIsGoneIsCut(t *testing.T) {
	m := newMesh(t, "web", "db")
	app := newBytesApp(t, echo)
	db := m.join("db", bytesPolicy(app, ""))
	old := m.secure("web", db.Addr("inbound").String())
	talk(t, old, "a")
	if err := m.domain.RotateCA(); err != nil {
		t.Fatal(err)
	}
	fresh := m.secure("web", db.Addr("inbound").String())
	talk(t, fresh, "a")
	talk(t, old, "b")
	if err := m.domain.RetireCA(); err != nil {
		t.Fatal(err)
	}
	wantCut(t, old)
	talk(t, fresh, "b")
	_ = fresh.Close()
	if got := reasons(db.stopAndRead()); got != "allow allowed, allow peer_unverified" {
		t.Errorf("records: %s", got)
	}
}

// An end that breaks breaks the other end, so that nobody takes what arrived for
// the whole.
func TestTCP_ABrokenEndBreaksTheOther(t *testing.T) {
	for name, c := range map[string]struct {
		breaks  func(app, client *net.TCPConn) (left *net.TCPConn)
		web, db string
	}{
		"the client resets": {func(app, client *net.TCPConn) *net.TCPConn {
			_ = client.SetLinger(0)
			_ = client.Close()
			return app
		}, "allow client_gone", "allow client_gone"},
		"the app resets": {func(app, client *net.TCPConn) *net.TCPConn {
			_ = app.SetLinger(0)
			_ = app.Close()
			return client
		}, "allow upstream_fault", "allow upstream_fault"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, "web", "db")
			at := make(chan *net.TCPConn, 1)
			over := make(chan struct{})
			web, db, local := tcpPair(m, newBytesApp(t, func(c *net.TCPConn) { at <- c; <-over }))
			client := plain(t, local)
			_, _ = io.WriteString(client, "a")
			app := <-at
			hears(t, app, "a") // all the way is there
			left := c.breaks(app, client)
			if _, err := io.Copy(io.Discard, left); !isReset(err) {
				t.Errorf("the other end saw %v", err)
			}
			close(over)
			if got := reasons(web.stopAndRead()); got != c.web {
				t.Errorf("web's records: %s", got)
			}
			if got := reasons(db.stopAndRead()); got != c.db {
				t.Errorf("db's records: %s", got)
			}
		})
	}
}

// RFC 8446 section 6.1: an end without close_notify is a truncation.
func TestTCP_AnEndWithoutAGoodbyeIsNoEnd(t *testing.T) {
	m := newMesh(t, "db")
	heard := make(chan error, 2)
	db := m.join("db", bytesPolicy(newBytesApp(t, func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		heard <- err
	}), ""))
	cut := m.secure("web", db.Addr("inbound").String())
	_, _ = io.WriteString(cut, "half of i")
	_ = cut.NetConn().Close() // a FIN, between two records
	if err := <-heard; !isReset(err) {
		t.Errorf("cut without a goodbye, the app saw %v", err)
	}
	whole := m.secure("web", db.Addr("inbound").String())
	_, _ = io.WriteString(whole, "all of it")
	_ = whole.Close()
	if err := <-heard; err != nil {
		t.Errorf("ended with a goodbye, the app saw %v", err)
	}
	if got := reasons(db.stopAndRead()); got != "allow allowed, allow client_gone" {
		t.Errorf("records: %s", got)
	}
}

func TestTCP_AnUpstreamThatIsNotThereOrNotWhoItShouldBeIsAReset(t *testing.T) {
	m := newMesh(t, "web", "db", "impostor")
	app := newBytesApp(t, echo)
	impostor := m.join("impostor", strings.Replace(bytesPolicy(app, ""), "example.org/db", "example.org/impostor", 1))
	dead := &bytesApp{address: freeAddress(t)}
	db := m.join("db", bytesPolicy(dead, ""))
	locals := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	web := m.join("web", fmt.Sprintf(`service: spiffe://example.org/web
calls:
  nobody: {as: spiffe://example.org/db, at: "%s", local: "%s", tcp: true}
  impostor: {as: spiffe://example.org/db, at: "%s", local: "%s", tcp: true}
  deadapp: {as: spiffe://example.org/db, at: "%s", local: "%s", tcp: true}
`, freeAddress(t), locals[0], impostor.Addr("inbound"), locals[1], db.Addr("inbound"), locals[2]))
	for _, local := range locals {
		c, err := net.Dial("tcp", local)
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(patience))
			_, err = io.ReadAll(c)
			_ = c.Close()
		}
		if !isReset(err) {
			t.Errorf("the app's connection ended with %v", err)
		}
	}
	if got := reasons(web.stopAndRead()); got != "allow upstream_fault, allow upstream_unreachable, allow upstream_unverified" {
		t.Errorf("web's records: %s", got)
	}
	if got := reasons(db.stopAndRead()); got != "allow upstream_unreachable" {
		t.Errorf("db's records: %s", got)
	}
	if app.dialled.Load() != 0 {
		t.Error("the impostor's app was reached")
	}
}

// Bytes for HTTP, and HTTP for bytes, end in the handshake.
func TestTCP_AProtocolThatIsNotSpokenEndsInTheHandshake(t *testing.T) {
	m := newMesh(t, "web", "db", "orders")
	app := newBytesApp(t, echo)
	db := m.join("db", bytesPolicy(app, ""))
	page, _ := m.app()
	orders := m.join("orders", fmt.Sprintf("service: spiffe://example.org/orders\napp: http://%s\nallow: [{from: spiffe://example.org/web, to: GET /}]\n", page))
	for _, c := range []struct {
		s    *member
		alpn string
		ok   bool
	}{
		{db, "everyhop-tcp", true}, {db, "h2", false}, {db, "http/1.1", false}, {db, "postgresql", false},
		{orders, "everyhop-tcp", false}, {orders, "h2", true},
	} {
		conn := tls.Client(plain(t, c.s.Addr("inbound").String()), m.clientTLS("web", c.alpn))
		if err := conn.Handshake(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.alpn, err)
		}
		_ = conn.Close()
	}
	talk(t, m.secure("web", db.Addr("inbound").String()), "a peer that names none")
}

func TestTCP_AReloadTurnsAnHTTPAppIntoOneOfBytes(t *testing.T) {
	m := newMesh(t, "db")
	page, _ := m.app()
	db := m.join("db", fmt.Sprintf("service: spiffe://example.org/db\napp: http://%s\nallow: [{from: spiffe://example.org/web, to: GET /}]\n", page))
	client := m.client("web", "h2")
	base := "https://" + db.Addr("inbound").String()
	if status, _, err := get(client, base+"/"); status != 200 {
		t.Fatal(status, err)
	}
	reload(t, db, bytesPolicy(newBytesApp(t, echo), ""))
	if status, _, _ := get(client, base+"/"); status == 200 {
		t.Error("HTTP on a connection from before still reaches an app")
	}
	talk(t, m.secure("web", db.Addr("inbound").String(), "everyhop-tcp"), "bytes")
}

// U14: a stop waits for those who are speaking, and then cuts them.
func TestTCP_StopDrainsAndThenCuts(t *testing.T) {
	m := newMesh(t, "db")
	db := m.join("db", bytesPolicy(newBytesApp(t, echo), ""))
	ends, stays := m.secure("web", db.Addr("inbound").String()), m.secure("web", db.Addr("inbound").String())
	talk(t, ends, "a")
	talk(t, stays, "a")
	stopped := make(chan error, 1)
	ctx, cancel := contextWithCancel()
	go func() { stopped <- db.Stop(ctx) }()
	eventually(t, "the listener to close", func() bool {
		c, err := net.Dial("tcp", db.Addr("inbound").String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	talk(t, ends, "while it drains")
	_ = ends.Close()
	eventually(t, "the first to be over", func() bool { return tunnels(t, db) == 1 })
	talk(t, stays, "while it drains")
	cancel()
	wantCut(t, stays)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got := reasons(db.stopAndRead()); got != "allow allowed, allow stopped" {
		t.Errorf("records: %s", got)
	}
}

// U16: an end that does not read holds up the other, and costs little memory.
func TestU16_AStalledEndCostsAtMost128KiB(t *testing.T) {
	const conns = 64
	for name, appStalls := range map[string]bool{"the app does not read": true, "the client does not read": false} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, "db")
			release := make(chan struct{})
			defer close(release)
			var filling sync.WaitGroup
			app := newBytesApp(t, func(c *net.TCPConn) {
				defer func() { <-release }()
				if !appStalls {
					defer filling.Done()
					fill(t, c)
				}
			})
			db := m.join("db", bytesPolicy(app, "timeouts: {write: 1h}\n"))
			if !appStalls {
				filling.Add(conns)
			}
			// What the test's own ends take: those of who is refused are all that is left.
			before := inUse()
			refused := m.secures("other", db.Addr("inbound").String(), conns)
			eventually(t, "the refusals", func() bool { return tunnels(t, db) == 0 })
			own := (inUse() - before) / conns
			before = inUse()
			all := m.secures("web", db.Addr("inbound").String(), conns)
			if appStalls {
				for _, c := range all {
					filling.Go(func() { fill(t, c) })
				}
			}
			filling.Wait()
			each := (inUse()-before)/conns - own
			t.Logf("%d KiB for each connection, without the %d KiB of the client's end", each>>10, own>>10)
			if each > 128<<10 {
				t.Errorf("%d KiB for each connection", each>>10)
			}
			if tunnels(t, db) != conns {
				t.Errorf("%d tunnels", tunnels(t, db))
			}
			for _, c := range append(all, refused...) {
				_ = c.NetConn().Close()
			}
		})
	}
}

// fill writes until nothing has been taken for a while.
func fill(t *testing.T, c net.Conn) {
	chunk := make([]byte, 16<<10)
	for taken := 0; taken < 64<<20; taken += len(chunk) {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.Write(chunk); err != nil {
			return
		}
	}
	t.Error("nothing is read, and 64 MiB were taken")
}

// inUse is the memory that is in use, of heap and stacks.
func inUse() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc + stats.StackInuse)
}

func TestTCP_AnEndThatTakesNothingForTheWriteTimeoutIsCut(t *testing.T) {
	m := newMesh(t, "db")
	release := make(chan struct{})
	defer close(release)
	app := newBytesApp(t, func(c *net.TCPConn) { <-release })
	db := m.join("db", bytesPolicy(app, "timeouts: {write: 1s}\n"))
	c := m.secure("web", db.Addr("inbound").String())
	_ = c.SetDeadline(time.Now().Add(patience))
	chunk := make([]byte, 64<<10)
	for {
		if _, err := c.Write(chunk); err != nil {
			if !isReset(err) {
				t.Errorf("the client saw %v", err)
			}
			break
		}
	}
	if got := reasons(db.stopAndRead()); got != "allow upstream_timeout" {
		t.Errorf("records: %s", got)
	}
}
