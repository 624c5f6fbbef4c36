// Package identity holds who is on the other end of a connection, as values.
//
// A value here has already been proved: only the TLS handshake makes a [Peer],
// and nothing that a client writes in a header can become one. The zero Peer is
// nobody, and every rule refuses nobody.
package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Peer is the other end of one mTLS connection, as proved by its X.509-SVID.
type Peer struct {
	// ID is the SPIFFE ID in the leaf's only URI SAN.
	ID spiffeid.ID
	// Serial is the leaf's serial number in lower-case hexadecimal.
	Serial string
	// Fingerprint is the SHA-256 of the leaf's DER in lower-case hexadecimal, as
	// in the Hash element of x-forwarded-client-cert.
	Fingerprint string
	// NotAfter is the end of the leaf's life: nothing the peer asks is accepted
	// later than that.
	NotAfter time.Time
}

// NewPeer is the peer that the verified leaf certificate speaks for.
func NewPeer(id spiffeid.ID, leaf *x509.Certificate) Peer {
	sum := sha256.Sum256(leaf.Raw)
	return Peer{
		ID:          id,
		Serial:      leaf.SerialNumber.Text(16),
		Fingerprint: hex.EncodeToString(sum[:]),
		NotAfter:    leaf.NotAfter,
	}
}

// IsZero reports whether the peer is nobody.
func (p Peer) IsZero() bool { return p.ID.IsZero() }
