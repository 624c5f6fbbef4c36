package svid

import (
	"crypto"
	//lint:ignore SA1019 such a key must be seen to be refused
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// trusting is a state that trusts these authorities, each for its domain.
func trusting(t testing.TB, roots map[string]*authority) *state {
	t.Helper()
	st := &state{trust: make(map[spiffeid.TrustDomain]trust)}
	for td, a := range roots {
		st.addTrust(spiffeid.RequireTrustDomainFromString(td), a.cert.Raw)
	}
	if len(st.trust) != len(roots) {
		t.Fatalf("bundles were left out: %q", st.warnings)
	}
	return st
}

func usages(u ...x509.ExtKeyUsage) edit { return func(c *x509.Certificate) { c.ExtKeyUsage = u } }
func keyUsage(u x509.KeyUsage) edit     { return func(c *x509.Certificate) { c.KeyUsage = u } }
func validFor(from, to time.Time) edit {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
}
func extension(e pkix.Extension) edit {
	return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, e) }
}

func TestVerify_HoldsALeafToTheSpecification(t *testing.T) {
	ca := newAuthority(t)
	st := trusting(t, map[string]*authority{"td.test": ca})
	const client, server = x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	noEKU := extension(pkix.Extension{Id: oidExtKeyUsage, Value: []byte{0x30, 0}})
	for _, c := range []struct {
		name  string
		as    x509.ExtKeyUsage
		edits []edit
		want  string
	}{
		{"as client", client, nil, ""},
		{"as server", server, nil, ""},
		{"S-18 with a subject", client, []edit{func(c *x509.Certificate) { c.Subject.CommonName = "admin" }}, ""},
		{"S-12 a CA", client, []edit{func(c *x509.Certificate) { c.IsCA = true }}, "it is a CA"},
		{"S-12 keyCertSign", client, []edit{keyUsage(x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign)}, "keyCertSign"},
		{"S-12 cRLSign", client, []edit{keyUsage(x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign)}, "cRLSign"},
		{"X20 no digitalSignature", client, []edit{keyUsage(x509.KeyUsageKeyEncipherment)}, "digitalSignature"},
		{"X20 no key usage", client, []edit{keyUsage(0)}, "digitalSignature"},
		{"X21 no EKU", client, []edit{usages()}, ""},
		{"X21 no EKU as server", server, []edit{usages()}, ""},
		{"X21 codeSigning", client, []edit{usages(x509.ExtKeyUsageCodeSigning)}, "clientAuth"},
		{"X21 serverAuth as client", client, []edit{usages(server)}, "clientAuth"},
		{"X21 clientAuth as server", server, []edit{usages(client)}, "serverAuth"},
		{"X21 any instead of clientAuth", client, []edit{usages(x509.ExtKeyUsageAny)}, "clientAuth"},
		{"X21 an empty EKU", client, []edit{usages(), noEKU}, "clientAuth"},
		{"X22 expired", client, []edit{validFor(epoch, midway.Add(-time.Second))}, "expired"},
		{"X22 in its last second", client, []edit{validFor(epoch, midway)}, ""},
		{"X22 not yet valid", client, []edit{validFor(midway.Add(time.Second), end)}, "not yet valid"},
		{"X22 in its first second", client, []edit{validFor(midway, end)}, ""},
		{"X23 unknown critical extension", client, []edit{extension(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})}, "critical"},
		{"unknown extension", client, []edit{extension(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}})}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := st.verify(ca.issue(t, web, c.edits...).chain, c.as, midway)
			if c.want != "" {
				mustFail(t, err, c.want)
				return
			}
			if err != nil || id.String() != web {
				t.Fatalf("ID is %q, error %v", id, err)
			}
		})
	}
}

func TestVerify_HoldsAChainToItsOwnTrustDomain(t *testing.T) {
	ca, other, stranger := newAuthority(t), newAuthority(t), newAuthority(t)
	st := trusting(t, map[string]*authority{"td.test": ca, "partner.test": other})
	self := newKey(t)
	selfSigned := &authority{cert: caTemplate(), key: self}
	mid := ca.below(t)
	forged := ca.issue(t, web)
	tampered := slices.Clone(forged.chain[0].Raw)
	tampered[len(tampered)-1] ^= 1
	badSignature, err := x509.ParseCertificate(tampered)
	if err != nil {
		t.Fatal(err)
	}
	notCA := func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }
	noPath := func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }
	codeOnly := usages(x509.ExtKeyUsageCodeSigning)
	swapped := mid.issue(t, web).chain
	slices.Reverse(swapped)
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		want  string
	}{
		{"of our domain", ca.issue(t, web).chain, ""},
		{"of a federated domain", other.issue(t, partner).chain, ""},
		{"S-19 through an intermediate", mid.issue(t, web).chain, ""},
		{"S-19 through two", ca.below(t).below(t).issue(t, web).chain, ""},
		{"X24 td-b signed by td-a", ca.issue(t, partner).chain, "unknown authority"},
		{"X24 td-a signed by td-b", other.issue(t, web).chain, "unknown authority"},
		{"S-16 a domain without a bundle", ca.issue(t, "spiffe://evil.test/x").chain, "no trust bundle"},
		{"X28 self-signed", selfSigned.issueFor(t, self, web).chain, "unknown authority"},
		{"X28 unknown CA", stranger.issue(t, web).chain, "unknown authority"},
		{"X28 wrong signature", []*x509.Certificate{badSignature}, "unknown authority"},
		{"X28 swapped order", swapped, "no URI SAN"},
		{"S-15 X28 intermediate missing", mid.issue(t, web).chain[:1], "unknown authority"},
		{"S-17 the CA itself", []*x509.Certificate{ca.cert}, "no URI SAN"},
		{"X02 nothing", nil, "no certificate"},
		{"S-15 X22 intermediate expired", ca.below(t, validFor(epoch, midway.Add(-time.Second))).issue(t, web).chain, "expired"},
		{"X23 intermediate is no CA", ca.below(t, notCA).issue(t, web).chain, "cannot sign"},
		{"X23 intermediate without keyCertSign", ca.below(t, keyUsage(x509.KeyUsageCRLSign)).issue(t, web).chain, "unknown authority"},
		{"X23 path length exceeded", ca.below(t, noPath).below(t).issue(t, web).chain, "too many intermediates"},
		{"X21 intermediate only for code", ca.below(t, codeOnly).issue(t, web).chain, "incompatible key usage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := st.verify(c.chain, x509.ExtKeyUsageClientAuth, midway)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				mustFail(t, err, c.want)
			}
		})
	}
}

func TestVerify_ExpiredRootProvesNothing(t *testing.T) {
	ca := newAuthority(t, validFor(epoch, midway))
	st := trusting(t, map[string]*authority{"td.test": ca})
	chain := ca.issue(t, web).chain
	if _, err := st.verify(chain, x509.ExtKeyUsageClientAuth, midway); err != nil {
		t.Fatalf("in the root's last second: %v", err)
	}
	_, err := st.verify(chain, x509.ExtKeyUsageClientAuth, midway.Add(time.Second))
	mustFail(t, err, "expired")
}

func TestVerify_URIConstraintIsAnExactHost(t *testing.T) {
	for _, c := range []struct{ name, permitted, excluded, id, want string }{
		{"the host", "td.test", "", "spiffe://td.test/x", ""},
		{"X26 a subdomain", "td.test", "", "spiffe://evil.td.test/x", "may only speak for"},
		{"a suffix", "td.test", "", "spiffe://evil-td.test/x", "not permitted"},
		{"a period lets subdomains pass", ".td.test", "", "spiffe://a.td.test/x", ""},
		{"a period keeps the domain out", ".td.test", "", "spiffe://td.test/x", "not permitted"},
		{"an excluded host", "", "td.test", "spiffe://td.test/x", "excluded"},
		{"another than the excluded", "", "evil.test", "spiffe://td.test/x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca := newAuthority(t, func(cert *x509.Certificate) {
				if c.permitted != "" {
					cert.PermittedURIDomains = []string{c.permitted}
				}
				if c.excluded != "" {
					cert.ExcludedURIDomains = []string{c.excluded}
				}
			})
			id := spiffeid.RequireFromString(c.id)
			// Each domain is federated with the same root.
			st := trusting(t, map[string]*authority{id.TrustDomain().Name(): ca})
			_, err := st.verify(ca.issue(t, c.id).chain, x509.ExtKeyUsageClientAuth, midway)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				mustFail(t, err, c.want)
			}
		})
	}
}

func TestVerify_RefusesWeakAndHugeKeys(t *testing.T) {
	ca := newAuthority(t)
	st := trusting(t, map[string]*authority{"td.test": ca})
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaOf := func(bits uint) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
	}
	for _, c := range []struct {
		name string
		key  crypto.PublicKey
		want string
	}{
		{"P-256", newKey(t).Public(), ""},
		{"P-384", p384.Public(), ""},
		{"Ed25519", ed, ""},
		{"RSA-2048", rsaOf(2048), ""},
		{"X29 P-224", p224.Public(), "P-224"},
		{"X29 RSA-1024", rsaOf(1024), "1024 bits"},
		{"X29 RSA-2047", rsaOf(2047), "2047 bits"},
		{"X29 RSA-8193", rsaOf(8193), "8193 bits"},
		{"X29 DSA", &dsa.PublicKey{}, "not accepted"},
		{"none", nil, "not accepted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := ca.issue(t, web).chain[0]
			cert.PublicKey = c.key
			_, err := st.verify([]*x509.Certificate{cert}, x509.ExtKeyUsageClientAuth, midway)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				mustFail(t, err, c.want)
			}
		})
	}
}

func TestVerify_ReadsNoMoreThanIsReasonable(t *testing.T) {
	ca := newAuthority(t)
	st := trusting(t, map[string]*authority{"td.test": ca})
	names := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(web)}}
	for range 5000 {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("name.test")})
	}
	leaf := ca.issue(t, web)
	unrelated := make([]*x509.Certificate, 0, 100)
	for range 100 {
		unrelated = append(unrelated, ca.cert)
	}
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		want  string
	}{
		{"X29 5,000 names", ca.issue(t, web, func(c *x509.Certificate) { c.ExtraExtensions[0] = sanNames(names...) }).chain, "bytes"},
		{"X29 100 intermediates", append(slices.Clone(leaf.chain), unrelated...), "101 certificates"},
		{"X28 30 unrelated ones", append(slices.Clone(leaf.chain), unrelated[:30]...), "31 certificates"},
		{"eight in all", append(slices.Clone(leaf.chain), unrelated[:7]...), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := st.verify(c.chain, x509.ExtKeyUsageClientAuth, midway)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				mustFail(t, err, c.want)
			}
		})
	}
}

func TestNewState_LeafInABundleIsNoAuthority(t *testing.T) {
	ca := newAuthority(t)
	leaf := newAuthority(t).issue(t, web)
	message := messageOf(ca.issue(t, orders).svid(t, orders, ca.cert, leaf.chain[0]))
	st, err := newState(message, spiffeid.RequireFromString(orders), midway)
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.verify(leaf.chain, x509.ExtKeyUsageClientAuth, midway)
	mustFail(t, err, "unknown authority")
	if len(st.warnings) != 1 {
		t.Fatalf("warnings are %q, want one", st.warnings)
	}
}
