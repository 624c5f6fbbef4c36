package svid

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
)

var h2h1 = []string{"h2", "http/1.1"}

func TestServerConfig_ProvesThePeer(t *testing.T) {
	s, w, ca, _ := ready(t)
	m := ca.good(t)
	other := newAuthority(t)
	m.FederatedBundles = map[string][]byte{"partner.test": other.cert.Raw}
	w.say(m)
	await(t, s, "federation", serialIs(serialOf(t, m)))
	for _, c := range []struct {
		name   string
		client identityOf
		id     string
	}{
		{"of our trust domain", ca.issue(t, web), web},
		{"of a federated one", other.issue(t, partner), partner},
		{"through an intermediate", ca.below(t).issue(t, web), web},
	} {
		t.Run(c.name, func(t *testing.T) {
			atServer, atClient, serverErr, clientErr := handshake(t, s.ServerConfig(h2h1, false), dialer(c.client))
			if serverErr != nil || clientErr != nil {
				t.Fatal(serverErr, clientErr)
			}
			peer, err := PeerOf(atServer)
			if err != nil || peer.ID.String() != c.id || !peer.NotAfter.Equal(end) ||
				peer.Serial != c.client.chain[0].SerialNumber.Text(16) {
				t.Fatalf("peer is %+v, error %v", peer, err)
			}
			if us, err := PeerOf(atClient); err != nil || us.ID.String() != orders {
				t.Fatalf("we are %+v, error %v", us, err)
			}
		})
	}
}

func TestServerConfig_RefusesWhoProvesNothing(t *testing.T) {
	s, _, ca, _ := ready(t)
	good := ca.issue(t, web)
	none := identityOf{}
	liar := identityOf{chain: good.chain, key: newKey(t)} // another's certificate, without its key
	maxVersion := func(v uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, v }
	}
	protos := func(p ...string) func(*tls.Config) { return func(c *tls.Config) { c.NextProtos = p } }
	for _, c := range []struct {
		name   string
		client *tls.Config
		want   string
	}{
		{"a good one", dialer(good, protos("h2")), ""},
		{"X32 h2 and another", dialer(good, protos("h2", "foo")), ""},
		{"X32 no ALPN, where http/1.1 is spoken", dialer(good), ""},
		{"X01 TLS 1.0", dialer(good, maxVersion(tls.VersionTLS10)), "unsupported versions"},
		{"X01 TLS 1.1", dialer(good, maxVersion(tls.VersionTLS11)), "unsupported versions"},
		{"T-01 X01 TLS 1.2", dialer(good, maxVersion(tls.VersionTLS12)), "unsupported versions"},
		{"S-22 X02 no certificate", dialer(none), "didn't provide a certificate"},
		{"a certificate without its key", dialer(liar), "invalid signature"},
		{"T-08 X32 only foo", dialer(good, protos("foo")), "unsupported application protocols"},
		{"X11 two URIs", dialer(ca.issue(t, web, func(c *x509.Certificate) { c.ExtraExtensions[0] = sanOf(web, orders) })), "more than one"},
		{"X14 SPIFFE://", dialer(ca.issue(t, "SPIFFE://td.test/ns/a/sa/web")), "scheme"},
		{"S-11 X17 no path", dialer(ca.issue(t, "spiffe://td.test")), "no path"},
		{"X24 foreign domain", dialer(ca.issue(t, partner)), "no trust bundle"},
		{"X21 serverAuth only", dialer(ca.issue(t, web, usages(x509.ExtKeyUsageServerAuth))), "clientAuth"},
		{"X22 expired", dialer(ca.issue(t, web, validFor(epoch, midway.Add(-1)))), "expired"},
		{"X34 only P-384", dialer(good, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP384} }), "no key exchanges supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, serverErr, clientErr := handshake(t, s.ServerConfig(h2h1, false), c.client)
			if c.want == "" {
				if serverErr != nil || clientErr != nil {
					t.Fatal(serverErr, clientErr)
				}
				return
			}
			mustFail(t, serverErr, c.want)
			if clientErr == nil {
				t.Fatal("the client was served")
			}
		})
	}
}

func TestServerConfig_WhoMayNameNoProtocol(t *testing.T) {
	s, _, ca, _ := ready(t)
	for _, c := range []struct {
		name   string
		spoken string
		offer  []string
		want   string
	}{
		{"h2", "h2", []string{"h2"}, ""},
		{"X32 none", "h2", nil, "none of"},
		{"X32 only http/1.1, which crypto/tls would let pass", "h2", []string{"http/1.1"}, "none of"},
		{"bytes", "everyhop-tcp", []string{"everyhop-tcp"}, ""},
		{"bytes of a peer that is no sidecar", "everyhop-tcp", nil, ""},
		{"HTTP for bytes", "everyhop-tcp", []string{"h2", "http/1.1"}, "unsupported application protocols"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := dialer(ca.issue(t, web), func(config *tls.Config) { config.NextProtos = c.offer })
			_, _, serverErr, _ := handshake(t, s.ServerConfig([]string{c.spoken}, false), client)
			if c.want == "" && serverErr != nil {
				t.Fatal(serverErr)
			}
			if c.want != "" {
				mustFail(t, serverErr, c.want)
			}
		})
	}
}

func TestClientConfig_AcceptsTheExpectedPeerOnly(t *testing.T) {
	s, _, ca, _ := ready(t)
	serve := func(i identityOf, protos ...string) *tls.Config {
		return &tls.Config{
			ClientAuth:     tls.RequireAnyClientCert,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.certificate(), nil },
			NextProtos:     protos,
		}
	}
	old := serve(ca.issue(t, web), "h2")
	old.MaxVersion = tls.VersionTLS12
	for _, c := range []struct {
		name     string
		expected string
		server   *tls.Config
		want     string
	}{
		{"the expected one", web, serve(ca.issue(t, web), "h2"), ""},
		{"S-20 another", "spiffe://td.test/admin", serve(ca.issue(t, web), "h2"), "must answer"},
		{"the zero ID", "", serve(ca.issue(t, web), "h2"), "must answer"},
		{"X21 clientAuth only", web, serve(ca.issue(t, web, usages(x509.ExtKeyUsageClientAuth)), "h2"), "serverAuth"},
		{"X24 foreign domain", partner, serve(ca.issue(t, partner), "h2"), "no trust bundle"},
		{"X22 expired", web, serve(ca.issue(t, web, validFor(epoch, midway.Add(-1))), "h2"), "expired"},
		{"X01 TLS 1.2", web, old, "protocol version"},
		{"X32 no protocol in common", web, serve(ca.issue(t, web), "foo"), "no application protocol"},
		{"X32 no protocol at all", web, serve(ca.issue(t, web)), "none of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var expected spiffeid.ID
			if c.expected != "" {
				expected = spiffeid.RequireFromString(c.expected)
			}
			_, _, serverErr, clientErr := handshake(t, c.server, s.ClientConfig(expected, []string{"h2"}, false))
			if c.want == "" {
				if serverErr != nil || clientErr != nil {
					t.Fatal(serverErr, clientErr)
				}
				return
			}
			mustFail(t, clientErr, c.want)
			if serverErr == nil {
				t.Fatal("the server got a byte")
			}
		})
	}
}

func TestConfigs_PreferPostQuantumAndCanRequireIt(t *testing.T) {
	s, _, ca, _ := ready(t)
	curves := func(ids ...tls.CurveID) func(*tls.Config) {
		return func(c *tls.Config) { c.CurvePreferences = ids }
	}
	for _, c := range []struct {
		name    string
		require bool
		client  *tls.Config
		want    tls.CurveID // 0: refused
	}{
		{"X34 both can", false, dialer(ca.issue(t, web)), tls.X25519MLKEM768},
		{"X34 only X25519", false, dialer(ca.issue(t, web), curves(tls.X25519)), tls.X25519},
		{"X34 only P-256", false, dialer(ca.issue(t, web), curves(tls.CurveP256)), tls.CurveP256},
		{"required", true, dialer(ca.issue(t, web)), tls.X25519MLKEM768},
		{"required of one who cannot", true, dialer(ca.issue(t, web), curves(tls.X25519, tls.CurveP256)), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, _, serverErr, _ := handshake(t, s.ServerConfig(h2h1, c.require), c.client)
			if (serverErr == nil) != (c.want != 0) || serverErr == nil && at.CurveID != c.want {
				t.Fatalf("curve %v, error %v", at.CurveID, serverErr)
			}
		})
	}
}

// A bundle is not enough: the policy has to name somebody in the domain.
func TestConfigs_AcceptTrustDomainsThatThePolicyNamesOnly(t *testing.T) {
	ca, other, w := newAuthority(t), newAuthority(t), newAPI(t)
	w.serve(t)
	m := ca.good(t)
	m.FederatedBundles = map[string][]byte{"partner.test": other.cert.Raw}
	w.say(m)
	var named atomic.Bool
	for name, config := range map[string]Config{
		"by nobody":           {},
		"by a policy in time": {Named: func(td spiffeid.TrustDomain) bool { return td.Name() == "partner.test" && named.Load() }},
	} {
		config.Identity, config.Service, config.Now = "unix://"+w.socket, spiffeid.RequireFromString(orders), newClock(midway).now
		s, err := Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		await(t, s, "the bundles", func(s Status) bool { return s.TrustDomains["partner.test"] == 1 })
		theirs := other.issue(t, partner)
		server := &tls.Config{ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{*theirs.certificate()}, NextProtos: []string{"h2"}}
		for _, on := range []bool{false, true} {
			named.Store(on)
			accepted := on && config.Named != nil
			_, _, serverErr, _ := handshake(t, s.ServerConfig(h2h1, false), dialer(theirs))
			_, _, _, clientErr := handshake(t, server, s.ClientConfig(spiffeid.RequireFromString(partner), h2h1, false))
			for _, err := range []error{serverErr, clientErr} {
				if accepted && err != nil {
					t.Errorf("named %s: %v", name, err)
				} else if !accepted {
					mustFail(t, err, "the policy names nobody in trust domain")
				}
			}
		}
		// Our own domain needs no name.
		if _, _, serverErr, _ := handshake(t, s.ServerConfig(h2h1, false), dialer(ca.issue(t, web))); serverErr != nil {
			t.Error(serverErr)
		}
	}
}

func TestConfigs_FailClosedWithoutASVID(t *testing.T) {
	s, w, ca, c := ready(t)
	server, client := s.ServerConfig(h2h1, false), s.ClientConfig(spiffeid.RequireFromString(orders), h2h1, false)
	refuses := func(want string) {
		t.Helper()
		_, _, serverErr, clientErr := handshake(t, server, dialer(ca.issue(t, web)))
		mustFail(t, serverErr, want)
		mustFail(t, clientErr, "internal error")
		_, _, serverErr, clientErr = handshake(t, &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return ca.issue(t, orders).certificate(), nil },
		}, client)
		mustFail(t, clientErr, want)
		if serverErr == nil {
			t.Fatal("the server got a byte")
		}
	}
	if _, _, serverErr, clientErr := handshake(t, server, client); serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	c.set(end.Add(time.Nanosecond))
	refuses("expired at")
	c.set(midway)
	updated := s.Updated()
	w.end(codes.PermissionDenied, "no identity issued")
	<-updated
	refuses("no identity issued")
}

func TestConfigs_FollowARotation(t *testing.T) {
	s, w, ca, _ := ready(t)
	server, client := s.ServerConfig(h2h1, false), s.ClientConfig(spiffeid.RequireFromString(orders), h2h1, false)
	for range 5 {
		m := ca.good(t)
		w.say(m)
		await(t, s, "the rotation", serialIs(serialOf(t, m)))
		atServer, atClient, serverErr, clientErr := handshake(t, server, client)
		if serverErr != nil || clientErr != nil {
			t.Fatal(serverErr, clientErr)
		}
		for _, at := range []tls.ConnectionState{atServer, atClient} {
			if got := at.PeerCertificates[0].SerialNumber.Text(16); got != serialOf(t, m) {
				t.Fatalf("S-45: serial %s, want %s", got, serialOf(t, m))
			}
		}
	}
}

func TestRecheck_SeesWhatChangedSinceTheHandshake(t *testing.T) {
	s, w, ca, c := ready(t)
	other := newAuthority(t)
	federated := ca.good(t)
	federated.FederatedBundles = map[string][]byte{"partner.test": other.cert.Raw}
	w.say(federated)
	await(t, s, "federation", serialIs(serialOf(t, federated)))
	ours, _, _, _ := handshake(t, s.ServerConfig(h2h1, false), dialer(ca.issue(t, web, validFor(epoch, midway.Add(time.Minute)))))
	theirs, _, _, _ := handshake(t, s.ServerConfig(h2h1, false), dialer(other.issue(t, partner)))
	for _, cs := range []tls.ConnectionState{ours, theirs} {
		if err := s.Recheck(cs); err != nil {
			t.Fatal(err)
		}
	}
	m := ca.good(t)
	w.say(m)
	await(t, s, "X45 the end of federation", serialIs(serialOf(t, m)))
	mustFail(t, s.Recheck(theirs), "no trust bundle")
	if err := s.Recheck(ours); err != nil {
		t.Fatal(err)
	}
	c.set(midway.Add(time.Minute + 1))
	mustFail(t, s.Recheck(ours), "expired")
	mustFail(t, s.Recheck(tls.ConnectionState{}), "handshake is not complete")
}

func TestPeerOf_AnUnprovedConnectionIsNobody(t *testing.T) {
	leaf := newAuthority(t).issue(t, web).chain
	bad := newAuthority(t).issue(t, "spiffe://td.test").chain
	for _, c := range []struct {
		name string
		cs   tls.ConnectionState
	}{
		{"zero", tls.ConnectionState{}},
		{"no handshake", tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: leaf}},
		{"TLS 1.2", tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS12, PeerCertificates: leaf}},
		{"no certificate", tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13}},
		{"no path", tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13, PeerCertificates: bad}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if peer, err := PeerOf(c.cs); err == nil || !peer.IsZero() {
				t.Fatalf("peer is %+v, error %v", peer, err)
			}
		})
	}
}

// A client of Go's never resumes without a cache; with one it would, if it could.
func TestServerConfig_NothingIsResumed(t *testing.T) {
	s, _, ca, _ := ready(t)
	cache := tls.NewLRUClientSessionCache(8)
	client := dialer(ca.issue(t, web), func(c *tls.Config) { c.ClientSessionCache, c.ServerName = cache, "orders" })
	for range 2 {
		_, at, serverErr, clientErr := handshake(t, s.ServerConfig(h2h1, false), client)
		if serverErr != nil || clientErr != nil {
			t.Fatal(serverErr, clientErr)
		}
		if at.DidResume {
			t.Fatal("T-04 T-21 X07: resumed")
		}
	}
	if _, ok := cache.Get("orders"); ok {
		t.Fatal("X03: a ticket was sent")
	}
}

// X05: even a client that keeps what it could resume with is judged anew. X08 and
// T-07: without a ticket there is nothing to send early data with.
func TestServerConfig_WhoIsTrustedNoLongerCannotResume(t *testing.T) {
	s, w, ca, _ := ready(t)
	other := newAuthority(t)
	m := ca.good(t)
	m.FederatedBundles = map[string][]byte{"partner.test": other.cert.Raw}
	w.say(m)
	await(t, s, "federation", serialIs(serialOf(t, m)))
	cache := tls.NewLRUClientSessionCache(8)
	client := dialer(other.issue(t, partner), func(c *tls.Config) { c.ClientSessionCache, c.ServerName = cache, "orders" })
	if _, _, serverErr, clientErr := handshake(t, s.ServerConfig(h2h1, false), client); serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	m = ca.good(t)
	w.say(m)
	await(t, s, "its end", serialIs(serialOf(t, m)))
	_, _, serverErr, clientErr := handshake(t, s.ServerConfig(h2h1, false), client)
	mustFail(t, serverErr, "no trust bundle")
	if clientErr == nil {
		t.Error("the client got a byte")
	}
}

// T-17: no keys are written, whatever the environment says.
func TestConfigs_WriteNoKeys(t *testing.T) {
	file := filepath.Join(shortDir(t), "keys")
	t.Setenv("SSLKEYLOGFILE", file)
	s, _, ca, _ := ready(t)
	server, client := s.ServerConfig(h2h1, false), s.ClientConfig(spiffeid.RequireFromString(web), h2h1, false)
	if server.KeyLogWriter != nil || client.KeyLogWriter != nil {
		t.Error("a configuration writes keys")
	}
	if _, _, serverErr, clientErr := handshake(t, server, dialer(ca.issue(t, web))); serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the keys of a handshake are in a file")
	}
}

// X30, T-14: a client that changes its keys again and again is not served for ever,
// and one that does so now and then is.
func TestServerConfig_FloodsOfKeyUpdatesEndTheConnection(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("openssl is missing, and CI must not skip what it proves")
	}
	if err != nil {
		t.Skip("NOT TESTED: no openssl in PATH, so no client changed its keys")
	}
	s, _, ca, _ := ready(t)
	certFile, keyFile := writePEM(t, shortDir(t), ca.issue(t, web))
	for _, c := range []struct {
		updates int
		want    string
	}{{3, "hello"}, {100, ""}} {
		address, heard := serveRead(t, s.ServerConfig(h2h1, false))
		cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", address, "-cert", certFile, "-key", keyFile)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		says, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(says)
		for range c.updates {
			io.WriteString(stdin, "K\n") // a command has to be the only thing that it reads
			for lines.Scan() && lines.Text() != "KEYUPDATE" {
			}
		}
		io.WriteString(stdin, "hello\n")
		go io.Copy(io.Discard, says)
		got := <-heard
		if c.want == "" && (got.err == nil || !strings.Contains(got.err.Error(), "too many")) || c.want != "" && !strings.HasPrefix(got.text, c.want) {
			t.Errorf("after %d updates the server read %q, %v", c.updates, got.text, got.err)
		}
		stdin.Close()
		cmd.Wait()
	}
}

type reading struct {
	text string
	err  error
}

// serveRead reads once from the first connection.
func serveRead(t *testing.T, config *tls.Config) (address string, heard chan reading) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard = make(chan reading, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			heard <- reading{err: err}
			return
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(20 * time.Second))
		var buf [64]byte
		n, err := tls.Server(raw, config).Read(buf[:])
		heard <- reading{string(buf[:n]), err}
	}()
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String(), heard
}

// A client that shares no code with ours.
func TestServerConfig_OpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("openssl is missing, and CI must not skip what it proves")
	}
	if err != nil {
		t.Skip("NOT TESTED: no openssl in PATH, so no foreign client tried resumption, TLS 1.2 or a missing certificate")
	}
	s, _, ca, _ := ready(t)
	address := serveOK(t, s.ServerConfig(h2h1, false))
	dir := shortDir(t)
	certFile, keyFile := writePEM(t, dir, ca.issue(t, web))
	session := filepath.Join(dir, "session")
	for _, c := range []struct {
		name         string
		args         []string
		served       bool
		says, saysNo string
	}{
		{"with a certificate", []string{"-cert", certFile, "-key", keyFile, "-sess_out", session}, true, "TLSv1.3", "New Session Ticket"},
		{"S-22 X02 without", nil, false, "", ""},
		{"T-01 X01 TLS 1.2", []string{"-tls1_2", "-cert", certFile, "-key", keyFile}, false, "protocol version", ""},
		{"X34 no group in common", []string{"-groups", "P-521", "-cert", certFile, "-key", keyFile}, false, "handshake failure", ""},
		{"X32 no protocol in common", []string{"-alpn", "foo", "-cert", certFile, "-key", keyFile}, false, "no application protocol", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"s_client", "-connect", address, "-ign_eof"}, c.args...)
			cmd := exec.CommandContext(t.Context(), openssl, args...)
			cmd.Stdin = strings.NewReader("x")
			out, _ := cmd.CombinedOutput() // its exit code says little; what it printed says all
			if served := strings.Contains(string(out), "SERVED"); served != c.served {
				t.Fatalf("served is %v:\n%s", served, out)
			}
			if !strings.Contains(string(out), c.says) || c.saysNo != "" && strings.Contains(string(out), c.saysNo) {
				t.Fatalf("want %q and not %q in:\n%s", c.says, c.saysNo, out)
			}
		})
	}
	if _, err := os.Stat(session); err == nil {
		t.Fatal("X03: openssl got a session it could resume")
	}
}

// serveOK answers every connection that is verified with one line.
func serveOK(t *testing.T, config *tls.Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			conn := tls.Server(raw, config)
			if conn.Handshake() == nil {
				io.WriteString(conn, "SERVED\n")
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// writePEM writes an identity as files for programs of others.
func writePEM(t testing.TB, dir string, i identityOf) (certFile, keyFile string) {
	t.Helper()
	var text []byte
	for _, cert := range i.chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, svidFile), filepath.Join(dir, "key.pem")
	writeFile(t, certFile, text)
	writeFile(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return certFile, keyFile
}

func writeFile(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
