package svid

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
)

func TestOpen_RefusesAnAddressThatCannotWork(t *testing.T) {
	service := spiffeid.RequireFromString(orders)
	open := filepath.Join(shortDir(t), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(shortDir(t), "link")
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, identity string
		service        spiffeid.ID
		want           string
	}{
		{"nothing", "", service, "set --identity or SPIFFE_ENDPOINT_SOCKET"},
		{"a bare path", "/run/agent.sock", service, "begins with neither"},
		{"S-31 relative", "unix:rel", service, "three slashes"},
		{"S-31 two slashes", "unix://host/p", service, "three slashes"},
		{"no path", "unix://", service, "three slashes"},
		{"query", "unix:///p?q", service, "no user, query or fragment"},
		{"S-31 a name", "tcp://localhost:1", service, "IP:port"},
		{"S-31 a path", "tcp://1.2.3.4:1/x", service, "IP:port"},
		{"a relative directory", "dir:rel", service, "absolute path"},
		{"another scheme", "http://x", service, "begins with neither"},
		{"no service", "unix:///p", spiffeid.ID{}, "service:"},
		{"a trust domain as service", "unix:///p", spiffeid.RequireFromString("spiffe://td.test"), "service:"},
		{"X47 world-writable directory", "unix://" + open + "/s", service, "anyone may replace the socket"},
		{"X47 below one", "unix://" + open + "/sub/s", service, "anyone may replace the socket"},
		{"X47 behind a symlink", "unix://" + link + "/s", service, "anyone may replace the socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(t.Context(), Config{Identity: c.identity, Service: c.service})
			mustFail(t, err, c.want)
		})
	}
}

func TestSource_ZeroRefuses(t *testing.T) {
	var s Source
	if s.Ready() == nil || s.Recheck(tls.ConnectionState{HandshakeComplete: true}) == nil {
		t.Fatal("the zero source is ready")
	}
	if _, err := s.ServerConfig(nil, false).GetCertificate(nil); err == nil {
		t.Fatal("the zero source has a certificate")
	}
}

func TestWaitReady_SaysWhatIsMissing(t *testing.T) {
	ca := newAuthority(t)
	notSocket := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(notSocket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	denied, others, dead := newAPI(t), newAPI(t), newAPI(t)
	denied.serve(t)
	denied.end(codes.PermissionDenied, "no identity issued")
	others.serve(t)
	others.say(messageOf(ca.issue(t, web).svid(t, web, ca.cert)))
	dead.serve(t)
	dead.end(codes.InvalidArgument, "security header missing")
	for _, c := range []struct{ name, identity, want string }{
		{"X37 no socket", "unix:///nowhere/agent.sock", "socket /nowhere/agent.sock is not there (is the SPIRE agent running?"},
		{"no socket but a file", "unix://" + notSocket, notSocket + " is no socket"},
		{"not registered", "unix://" + denied.socket, "gives this process no identity: no identity issued (register"},
		{"registered as another", "unix://" + others.socket, "got " + web + ", policy says service: " + orders},
		{"refused", "unix://" + dead.socket, "asked again only every 30s"},
		{"no directory", "dir:/nowhere", "open /nowhere: no such file or directory (it must hold"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, c.identity, newClock(midway).now)
			await(t, s, "a failure", func(s Status) bool { return s.Failures > 0 })
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err := s.WaitReady(ctx)
			mustFail(t, err, c.want)
			mustFail(t, err, "waiting for the SVID of "+orders)
			if notOurs := c.identity == "unix://"+others.socket; errors.Is(err, ErrNotOurs) != notOurs {
				t.Fatalf("is ErrNotOurs: %v, want %v", !notOurs, notOurs)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("not one line: %q", err)
			}
		})
	}
}

func TestWaitReady_EndsWithTheSource(t *testing.T) {
	s := open(t, "unix:///nowhere/agent.sock", nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustFail(t, s.WaitReady(t.Context()), "closed")
}

func TestSource_SendsTheSecurityHeader(t *testing.T) {
	_, w, _, _ := ready(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == 0 || !w.header {
		t.Fatalf("S-30: %d calls, header %v", w.calls, w.header)
	}
}

func TestSource_StatusTellsWhoWeAre(t *testing.T) {
	s, w, _, _ := ready(t)
	status := s.Status()
	if status.ID.String() != orders || status.Serial != serialOf(t, w.said[0].message) ||
		!status.NotBefore.Equal(epoch) || !status.NotAfter.Equal(end) || status.TrustDomains["td.test"] != 1 ||
		!status.LastUpdate.Equal(midway) || status.LastError != "" || status.Updates != 1 {
		t.Fatalf("status is %+v", status)
	}
}

func TestSource_ChoosesTheSVIDThatIsTheService(t *testing.T) {
	ca, w := newAuthority(t), newAPI(t)
	w.serve(t)
	ours := ca.issue(t, orders).svid(t, orders, ca.cert)
	other := ca.issue(t, web).svid(t, web, ca.cert)
	other.Hint = "internal"
	broken := &workload.X509SVID{SpiffeId: "spiffe://td.test/broken", X509Svid: []byte{1}}
	w.say(messageOf(other, broken, ours))
	s := open(t, "unix://"+w.socket, newClock(midway).now)
	await(t, s, "S-41 our SVID", serialIs(serialOf(t, messageOf(ours))))
}

// Each bad message is followed by a good one, which must be the only change.
func TestSource_MalformedMessageChangesNothing(t *testing.T) {
	s, w, ca, _ := ready(t)
	with := func(change func(*workload.X509SVIDResponse)) *workload.X509SVIDResponse {
		m := ca.good(t)
		change(m)
		return m
	}
	own := func(edits ...edit) *workload.X509SVIDResponse {
		return messageOf(ca.issue(t, orders, edits...).svid(t, orders, ca.cert))
	}
	stranger := newAuthority(t)
	for _, c := range []struct {
		name    string
		message *workload.X509SVIDResponse
		want    string
	}{
		{"X43 no SVID", messageOf(), "no SVID"},
		{"S-39 no ID", with(func(m *workload.X509SVIDResponse) { m.Svids[0].SpiffeId = "" }), "malformed ID"},
		{"S-39 no certificate", with(func(m *workload.X509SVIDResponse) { m.Svids[0].X509Svid = nil }), "no certificate"},
		{"S-39 no key", with(func(m *workload.X509SVIDResponse) { m.Svids[0].X509SvidKey = nil }), "private key"},
		{"X43 own bundle empty", with(func(m *workload.X509SVIDResponse) { m.Svids[0].Bundle = nil }), "own trust bundle"},
		{"X43 own bundle garbage", with(func(m *workload.X509SVIDResponse) { m.Svids[0].Bundle = []byte("garbage") }), "own trust bundle"},
		{"X43 garbage DER", with(func(m *workload.X509SVIDResponse) { m.Svids[0].X509Svid = []byte{0x30, 1, 2} }), "parsing the certificate"},
		{"X43 garbage key", with(func(m *workload.X509SVIDResponse) { m.Svids[0].X509SvidKey = []byte{0x30, 1, 2} }), "private key"},
		{"X43 another key", with(func(m *workload.X509SVIDResponse) { m.Svids[0].X509SvidKey = ca.good(t).Svids[0].X509SvidKey }), "not the one"},
		{"X43 expired", own(validFor(epoch, midway.Add(-time.Second))), "expired"},
		{"not yet valid", own(validFor(midway.Add(time.Second), end)), "clock"},
		{"S-13 no digitalSignature", own(keyUsage(0)), "digitalSignature"},
		{"S-14 only a client", own(usages(1)), "lacks"},
		{"S-48 a certificate for another", messageOf(ca.issue(t, web).svid(t, orders, ca.cert)), "certificate for " + web},
		{"S-48 of another CA", messageOf(stranger.issue(t, orders).svid(t, orders, ca.cert)), "unknown authority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.Status()
			updated := s.Updated()
			w.say(c.message)
			announced := await(t, s, "the failure", func(s Status) bool { return s.Failures > before.Failures })
			if announced.Serial != before.Serial || s.Ready() != nil {
				t.Fatalf("the old SVID is no longer used: %+v", announced)
			}
			mustFail(t, s.cause(), c.want)
			select {
			case <-updated:
				t.Fatal("a change was announced")
			default:
			}
			good := ca.good(t)
			w.say(good)
			after := await(t, s, "the good message", serialIs(serialOf(t, good)))
			if after.Failures != before.Failures+1 || after.LastError != "" {
				t.Fatalf("status is %+v, want one failure more than %d and no last error", after, before.Failures)
			}
		})
	}
}

func TestSource_HugeMessageChangesNothing(t *testing.T) {
	s, w, ca, _ := ready(t)
	before := s.Status().Serial
	huge := ca.good(t)
	huge.FederatedBundles = map[string][]byte{"partner.test": make([]byte, 10<<20)}
	w.say(huge)
	if status := await(t, s, "X43 the failure", func(s Status) bool { return s.Failures > 0 }); status.Serial != before {
		t.Fatalf("status is %+v", status)
	}
	good := ca.good(t)
	w.say(good)
	await(t, s, "the good message", serialIs(serialOf(t, good)))
}

func TestSource_BadFederatedBundleCostsThatDomainOnly(t *testing.T) {
	s, w, ca, _ := ready(t)
	other := newAuthority(t)
	for _, c := range []struct {
		name      string
		federated map[string][]byte
		trusted   []string
		warned    string
	}{
		{"X45 added", map[string][]byte{"spiffe://partner.test": other.cert.Raw}, []string{"partner.test"}, ""},
		{"X45 removed", nil, nil, ""},
		{"X45 added again", map[string][]byte{"partner.test": other.cert.Raw}, []string{"partner.test"}, ""},
		{"S-40 garbage", map[string][]byte{"partner.test": {1}, "good.test": other.cert.Raw}, []string{"good.test"}, `"partner.test"`},
		{"S-43 empty", map[string][]byte{"partner.test": nil}, nil, "empty"},
		{"a malformed name", map[string][]byte{"PARTNER.test": other.cert.Raw}, nil, `"PARTNER.test"`},
		{"two spellings", map[string][]byte{"partner.test": other.cert.Raw, "spiffe://partner.test": ca.cert.Raw}, nil, "named twice"},
		{"S-77 ours as a federated one", map[string][]byte{"td.test": other.cert.Raw}, nil, ""},
		{"S-77 ours as a broken one", map[string][]byte{"td.test": {1}}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ca.good(t)
			m.FederatedBundles = c.federated
			w.say(m)
			status := await(t, s, "our rotation", serialIs(serialOf(t, m)))
			if len(status.TrustDomains) != 1+len(c.trusted) || status.TrustDomains["td.test"] != 1 {
				t.Fatalf("trusted are %v", status.TrustDomains)
			}
			for _, td := range c.trusted {
				if status.TrustDomains[td] != 1 {
					t.Fatalf("trusted are %v, want %s", status.TrustDomains, td)
				}
			}
			if got := strings.Join(status.Warnings, "; "); !strings.Contains(got, c.warned) || (got == "") != (c.warned == "") {
				t.Fatalf("warnings are %q, want %q", got, c.warned)
			}
		})
	}
}

func TestSource_RevocationListIsAnnounced(t *testing.T) {
	s, w, ca, _ := ready(t)
	m := ca.good(t)
	m.Crl = [][]byte{{1}}
	w.say(m)
	status := await(t, s, "the update", serialIs(serialOf(t, m)))
	if len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "not enforced") {
		t.Fatalf("S-42: warnings are %q", status.Warnings)
	}
}

func TestSource_StopsUsingWhatIsTakenBack(t *testing.T) {
	for _, c := range []struct {
		name string
		take func(*api, *authority)
		want string
	}{
		{"S-35 PermissionDenied", func(w *api, _ *authority) { w.end(codes.PermissionDenied, "no identity issued") }, "no identity issued"},
		{"S-38 our SVID is gone", func(w *api, ca *authority) { w.say(messageOf(ca.issue(t, web).svid(t, web, ca.cert))) }, "got " + web},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, w, ca, _ := ready(t)
			updated := s.Updated()
			c.take(w, ca)
			<-updated
			mustFail(t, s.Ready(), c.want)
			_, err := s.ServerConfig(nil, false).GetCertificate(nil)
			mustFail(t, err, c.want)
			good := ca.good(t)
			w.say(good)
			await(t, s, "X40 recovery", serialIs(serialOf(t, good)))
		})
	}
}

func TestSource_KeepsServingWhileTheAPIIsAway(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Canceled, codes.InvalidArgument, codes.Unimplemented, codes.Internal} {
		t.Run(code.String(), func(t *testing.T) {
			s, w, _, _ := ready(t)
			before := s.Status().Serial
			w.end(code, "for a test")
			if after := await(t, s, "the failure", func(s Status) bool { return s.Failures > 0 }); after.Serial != before || s.Ready() != nil {
				t.Fatalf("S-34: status is %+v, ready %v", after, s.Ready())
			}
		})
	}
}

func TestSource_AsksAgainAfterEveryPassingFailure(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Canceled, codes.Internal, codes.ResourceExhausted} {
		t.Run(code.String(), func(t *testing.T) {
			s, w, ca, _ := ready(t)
			w.end(code, "for a test")
			await(t, s, "X40, X41 the failure", func(s Status) bool { return s.Failures > 1 })
			good := ca.good(t)
			w.say(good)
			await(t, s, "recovery", serialIs(serialOf(t, good)))
		})
	}
}

func TestSource_FindsTheAPIAgain(t *testing.T) {
	ca, w := newAuthority(t), newAPI(t)
	s := open(t, "unix://"+w.socket, newClock(midway).now)
	await(t, s, "X37 no socket", func(s Status) bool { return strings.Contains(s.LastError, "is not there") })
	first := ca.good(t)
	w.say(first)
	stop := w.serve(t)
	await(t, s, "the first SVID", serialIs(serialOf(t, first)))
	stop()
	await(t, s, "the loss", func(s Status) bool { return strings.Contains(s.LastError, "socket") })
	second := ca.good(t)
	w.say(second)
	w.serve(t)
	await(t, s, "the second SVID", serialIs(serialOf(t, second)))
}

func TestRetryAfter_IsSoonButNeverABusyLoop(t *testing.T) {
	for _, c := range []struct {
		name     string
		code     codes.Code
		failures int
		jitter   float64
		want     time.Duration
	}{
		{"S-33 at once after a stream that lived", codes.Unavailable, 0, 0.9, 0},
		{"then soon", codes.Unavailable, 1, 0, 200 * time.Millisecond},
		{"with jitter", codes.Unavailable, 1, 0.5, 225 * time.Millisecond},
		{"then slower", codes.Canceled, 2, 0, 400 * time.Millisecond},
		{"X42 never slower than a second", codes.PermissionDenied, 1000, 1, time.Second},
		{"S-36 seldom", codes.InvalidArgument, 0, 0, 30 * time.Second},
		{"S-36 seldom, with jitter", codes.InvalidArgument, 5, 0.5, 33 * time.Second},
		{"S-37", codes.Unimplemented, 0, 0, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := retryAfter(c.code, c.failures, c.jitter); got != c.want {
				t.Fatalf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestReady_TurnsBeforeTheEnd(t *testing.T) {
	s, _, _, c := ready(t)
	for _, at := range []struct {
		name                 string
		now                  time.Time
		isReady, hasIdentity bool
	}{
		{"midway", midway, true, true},
		{"at the margin", end.Add(-30 * time.Second), true, true},
		{"X39 within it", end.Add(-29 * time.Second), false, true},
		{"in the last second", end, false, true},
		{"after", end.Add(time.Nanosecond), false, false},
	} {
		t.Run(at.name, func(t *testing.T) {
			c.set(at.now)
			if err := s.Ready(); (err == nil) != at.isReady {
				t.Fatalf("Ready is %v", err)
			}
			if _, err := s.ServerConfig(nil, false).GetCertificate(nil); (err == nil) != at.hasIdentity {
				t.Fatalf("GetCertificate is %v", err)
			}
		})
	}
}

func TestSource_OneFailureIsLoggedOnce(t *testing.T) {
	var text safeBuffer
	w := newAPI(t)
	w.serve(t)
	w.end(codes.Unavailable, "for a test")
	s, err := Open(t.Context(), Config{
		Identity: "unix://" + w.socket,
		Service:  spiffeid.RequireFromString(orders),
		Logger:   slog.New(slog.NewTextHandler(&text, nil)),
		Now:      newClock(midway).now,
	})
	if err != nil {
		t.Fatal(err)
	}
	await(t, s, "three failures", func(s Status) bool { return s.Failures >= 3 })
	s.Close()
	if n := strings.Count(text.String(), "for a test"); n != 1 {
		t.Fatalf("logged %d times, want once:\n%s", n, text.String())
	}
}

// S-32: the Workload API is spoken without TLS, so one on another machine is
// announced. 192.0.2.1 is nobody's: RFC 5737.
func TestSource_WarnsOfKeysThatCrossANetwork(t *testing.T) {
	for address, warned := range map[string]bool{"tcp://192.0.2.1:8081": true, "tcp://127.0.0.1:1": false} {
		var text safeBuffer
		s, err := Open(t.Context(), Config{
			Identity: address, Service: spiffeid.RequireFromString(orders), Logger: slog.New(slog.NewTextHandler(&text, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		const warning = "crosses the network in the clear"
		if warned {
			for !strings.Contains(text.String(), warning) && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
		} else {
			await(t, s, "that nobody is there", func(s Status) bool { return s.Failures > 0 })
		}
		s.Close()
		if got := strings.Contains(text.String(), warning); got != warned {
			t.Errorf("%s: warned is %v:\n%s", address, got, text.String())
		}
	}
}

type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
