package svid

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Bounds of a SPIFFE ID, in bytes: SPIFFE-ID section 2.3.
const (
	maxIDBytes          = 2048
	maxTrustDomainBytes = 255
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// idOf is the SPIFFE ID in the leaf's only URI SAN, X509-SVID section 2. It
// reads the extension's own bytes: crypto/x509 gives a url.URL, which has
// already folded SPIFFE:// and %61 into something that would pass.
func idOf(leaf *x509.Certificate) (spiffeid.ID, error) {
	for _, ext := range leaf.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		text, err := onlyURI(ext.Value)
		if err != nil {
			return spiffeid.ID{}, err
		}
		return parseID(text)
	}
	return spiffeid.ID{}, errors.New("the certificate has no URI SAN, so no SPIFFE ID")
}

// parseID parses a SPIFFE ID of a workload: one with a path.
func parseID(text string) (spiffeid.ID, error) {
	if len(text) > maxIDBytes {
		return spiffeid.ID{}, fmt.Errorf("the SPIFFE ID is %d bytes long, more than %d", len(text), maxIDBytes)
	}
	id, err := spiffeid.FromString(text)
	switch {
	case err != nil:
		return spiffeid.ID{}, fmt.Errorf("%q is no SPIFFE ID: %w", text, err)
	case id.Path() == "":
		return spiffeid.ID{}, fmt.Errorf("%q names a trust domain, not a workload: it has no path", text)
	case len(id.TrustDomain().Name()) > maxTrustDomainBytes:
		return spiffeid.ID{}, fmt.Errorf("the trust domain is longer than %d bytes", maxTrustDomainBytes)
	}
	return id, nil
}

// The tag of uniformResourceIdentifier in GeneralName, RFC 5280 section 4.2.1.6.
const tagURI = 6

// onlyURI is the only URI in the DER of a subjectAltName extension. Names of
// other kinds may stand beside it and mean nothing here.
func onlyURI(der []byte) (string, error) {
	var names asn1.RawValue
	rest, err := asn1.Unmarshal(der, &names)
	if err != nil || len(rest) != 0 || names.Class != asn1.ClassUniversal ||
		names.Tag != asn1.TagSequence || !names.IsCompound {
		return "", errors.New("the subjectAltName extension is malformed")
	}
	uri, found := "", false
	for rest = names.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			return "", errors.New("the subjectAltName extension is malformed")
		}
		if name.Class != asn1.ClassContextSpecific || name.Tag != tagURI {
			continue
		}
		if name.IsCompound {
			return "", errors.New("the subjectAltName extension is malformed")
		}
		if found {
			return "", errors.New("the certificate has more than one URI SAN, where an X509-SVID has exactly one")
		}
		uri, found = string(name.Bytes), true
	}
	if !found {
		return "", errors.New("the certificate has no URI SAN, so no SPIFFE ID")
	}
	return uri, nil
}
