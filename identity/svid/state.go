package svid

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// state is everything one message of a source says, parsed once and then
// immutable. A nil state trusts no one and speaks for no one.
type state struct {
	id        spiffeid.ID
	cert      tls.Certificate     // with its Leaf
	chain     []*x509.Certificate // the same, parsed
	notBefore time.Time
	notAfter  time.Time // the least of the chain: later no peer believes it
	trust     map[spiffeid.TrustDomain]trust
	warnings  []string // what the message says that could not be used
}

// trust is the authorities of one trust domain. They are never pooled with
// those of another: X509-SVID section 5.1, SPIFFE Federation section 7.3.
type trust struct {
	pool *x509.CertPool
	size int
}

// redactedError says that a well-formed message no longer has our SVID: what
// was held before must not be used any longer, Workload API section 4.4.
type redactedError struct {
	want spiffeid.ID
	got  []string
}

// Error names what was given instead.
func (e redactedError) Error() string {
	return fmt.Sprintf("got %s, policy says service: %s (is the workload registered under that ID?)",
		strings.Join(e.got, ", "), e.want)
}

// Is makes a redactedError an [ErrNotOurs].
func (e redactedError) Is(target error) bool { return target == ErrNotOurs }

// newState parses a message, which is always the whole state. It fails with
// [redactedError] where the message is good but not for us, and otherwise where
// the message is to be ignored. A trust domain of others that cannot be used is
// left out with a warning: it must not freeze our own rotation.
func newState(message *workload.X509SVIDResponse, service spiffeid.ID, now time.Time) (*state, error) {
	ours, err := chooseSVID(message.GetSvids(), service)
	if err != nil {
		return nil, err
	}
	st := &state{id: service, trust: make(map[spiffeid.TrustDomain]trust)}
	if err := st.setCertificate(ours.GetX509Svid(), ours.GetX509SvidKey()); err != nil {
		return nil, err
	}
	if n := len(message.GetCrl()); n > 0 {
		st.warn("the source sent %d certificate revocation lists, which are not enforced: revoked certificates still pass", n)
	}
	for _, other := range message.GetSvids() {
		if id, err := parseID(other.GetSpiffeId()); err == nil && id.TrustDomain() != service.TrustDomain() {
			st.addTrust(id.TrustDomain(), other.GetBundle())
		}
	}
	st.addFederated(message.GetFederatedBundles())
	if err := st.setOwnTrust(ours.GetBundle()); err != nil {
		return nil, err
	}
	return st, st.checkOwn(now)
}

// chooseSVID is the SVID whose ID is service, wherever it stands in the list
// and whatever its hint.
func chooseSVID(svids []*workload.X509SVID, service spiffeid.ID) (*workload.X509SVID, error) {
	if len(svids) == 0 {
		return nil, errors.New("the message has no SVID")
	}
	var got []string
	for _, svid := range svids {
		if svid.GetSpiffeId() == service.String() {
			return svid, nil
		}
		got = append(got, svid.GetSpiffeId())
	}
	for _, text := range got {
		if _, err := parseID(text); err != nil {
			return nil, fmt.Errorf("the message has an SVID with a malformed ID: %w", err)
		}
	}
	return nil, redactedError{want: service, got: got}
}

// setCertificate parses our chain and key, and checks that they belong together.
func (st *state) setCertificate(chainDER, keyDER []byte) error {
	chain, err := x509.ParseCertificates(chainDER)
	if err != nil {
		return fmt.Errorf("parsing the certificate of %s: %w", st.id, err)
	}
	if len(chain) == 0 {
		return fmt.Errorf("the SVID of %s has no certificate", st.id)
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return fmt.Errorf("parsing the private key of %s: %w", st.id, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return fmt.Errorf("the private key of %s cannot sign", st.id)
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return fmt.Errorf("the private key of %s is not the one of its certificate", st.id)
	}
	st.chain, st.cert = chain, tls.Certificate{PrivateKey: signer, Leaf: chain[0]}
	st.notBefore, st.notAfter = chain[0].NotBefore, chain[0].NotAfter
	for _, cert := range chain {
		st.cert.Certificate = append(st.cert.Certificate, cert.Raw)
		if cert.NotAfter.Before(st.notAfter) {
			st.notAfter = cert.NotAfter
		}
	}
	return nil
}

// setOwnTrust takes our own trust domain's bundle: without one the message is
// malformed, Workload API section 4.5. It wins over any other for that domain.
func (st *state) setOwnTrust(der []byte) error {
	own, err := st.parseBundle(st.id.TrustDomain(), der)
	if err != nil {
		return fmt.Errorf("our own trust bundle, of trust domain %q: %w", st.id.TrustDomain().Name(), err)
	}
	st.trust[st.id.TrustDomain()] = own
	return nil
}

// addFederated takes the bundles of other trust domains, in a fixed order. A
// domain that is named twice in two spellings has two bundles, so none.
func (st *state) addFederated(bundles map[string][]byte) {
	named := make(map[spiffeid.TrustDomain]string)
	for _, name := range slices.Sorted(maps.Keys(bundles)) {
		td, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			st.warn("the trust bundle of %q is left out: %v", name, err)
			continue
		}
		if td == st.id.TrustDomain() {
			continue // the one beside our SVID is ours
		}
		if first, twice := named[td]; twice {
			st.warn("the trust bundle of %q is left out: it is named twice, as %q and %q", td.Name(), first, name)
			delete(st.trust, td)
			continue
		}
		named[td] = name
		st.addTrust(td, bundles[name])
	}
}

// addTrust takes the bundle of another trust domain, or warns.
func (st *state) addTrust(td spiffeid.TrustDomain, der []byte) {
	t, err := st.parseBundle(td, der)
	if err != nil {
		delete(st.trust, td)
		st.warn("the trust bundle of %q is left out, so its workloads are refused: %v", td.Name(), err)
		return
	}
	st.trust[td] = t
}

// parseBundle is the authorities in a bundle. One that is no CA would make a
// peer's leaf its own authority, and is left out like one with a weak key.
func (st *state) parseBundle(td spiffeid.TrustDomain, der []byte) (trust, error) {
	certs, err := x509.ParseCertificates(der)
	if err != nil {
		return trust{}, fmt.Errorf("parsing it: %w", err)
	}
	t := trust{pool: x509.NewCertPool()}
	for _, cert := range certs {
		if err := checkAuthority(cert); err != nil {
			st.warn("an authority of %q is left out: %v", td.Name(), err)
			continue
		}
		t.pool.AddCert(cert)
		t.size++
	}
	if t.size == 0 {
		return trust{}, errors.New("it is empty")
	}
	return t, nil
}

func checkAuthority(cert *x509.Certificate) error {
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return fmt.Errorf("the certificate with serial %x is no CA", cert.SerialNumber)
	}
	return checkKey(cert)
}

// checkOwn holds our own SVID to what our peers will hold it to.
func (st *state) checkOwn(now time.Time) error {
	if now.After(st.notAfter) {
		return fmt.Errorf("the SVID of %s expired at %s", st.id, st.notAfter.Format(time.RFC3339))
	}
	if now.Before(st.notBefore) {
		return fmt.Errorf("the SVID of %s is not valid before %s (is this machine's clock right?)",
			st.id, st.notBefore.Format(time.RFC3339))
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		id, err := st.verify(st.chain, usage, now)
		if err != nil {
			return fmt.Errorf("our own SVID: %w", err)
		}
		if id != st.id {
			return fmt.Errorf("the SVID called %s has a certificate for %s", st.id, id)
		}
	}
	return nil
}

func (st *state) warn(format string, args ...any) {
	st.warnings = append(st.warnings, fmt.Sprintf(format, args...))
}
