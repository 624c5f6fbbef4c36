package svid

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/identity"
)

// What a peer may speak that names no protocol at all: RFC 7301. Only one that
// could mean HTTP/1.1, or bytes, may name none.
const (
	protoHTTP1 = "http/1.1"
	protoTCP   = "everyhop-tcp"
)

// ServerConfig is for the side that is dialled: it shows our SVID, and asks for
// one of any trust domain we have a bundle of. alpn is what we speak, in order
// of preference; requirePQ refuses every key exchange that is not post-quantum.
func (s *Source) ServerConfig(alpn []string, requirePQ bool) *tls.Config {
	config := s.config(alpn, requirePQ)
	config.ClientAuth = tls.RequireAnyClientCert
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate() }
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := checkProtocol(cs, alpn); err != nil {
			return err
		}
		_, err := s.prove(cs, x509.ExtKeyUsageClientAuth)
		return err
	}
	return config
}

// ClientConfig is for the side that dials: it shows our SVID, and accepts the
// expected ID and no other. The zero ID is no one, so nobody is accepted.
func (s *Source) ClientConfig(expected spiffeid.ID, alpn []string, requirePQ bool) *tls.Config {
	config := s.config(alpn, requirePQ)
	// The name of the host proves nothing here: who must answer is expected, and
	// VerifyConnection runs whatever this says.
	config.InsecureSkipVerify = true
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.certificate() }
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := checkProtocol(cs, alpn); err != nil {
			return err
		}
		id, err := s.prove(cs, x509.ExtKeyUsageServerAuth)
		if err != nil {
			return err
		}
		if id != expected {
			return fmt.Errorf("the peer is %s, but %s must answer", id, expected)
		}
		return nil
	}
	return config
}

// config is what both sides have in common. Tickets are off and there is no
// session cache, so that no handshake is ever spared its verification.
func (s *Source) config(alpn []string, requirePQ bool) *tls.Config {
	curves := []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256}
	if requirePQ {
		curves = curves[:1]
	}
	return &tls.Config{
		Time:                   s.now,
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		NextProtos:             slices.Clone(alpn),
		CurvePreferences:       curves,
		SessionTicketsDisabled: true,
		// Records that start small are for browsers far away.
		DynamicRecordSizingDisabled: true,
	}
}

func (s *Source) certificate() (*tls.Certificate, error) {
	st, err := s.current()
	if err != nil {
		return nil, err
	}
	return &st.cert, nil
}

// prove is the ID that the peer of a handshake proves, if it is in a trust domain
// that may be there at all.
func (s *Source) prove(cs tls.ConnectionState, usage x509.ExtKeyUsage) (spiffeid.ID, error) {
	id, err := s.verify(cs, usage)
	if err != nil {
		return spiffeid.ID{}, err
	}
	if td := id.TrustDomain(); td != s.service.TrustDomain() && !s.named(td) {
		return spiffeid.ID{}, fmt.Errorf("the certificate of %s: the policy names nobody in trust domain %q", id, td.Name())
	}
	return id, nil
}

// verify is the ID that the peer of cs proves now, using its leaf for usage.
func (s *Source) verify(cs tls.ConnectionState, usage x509.ExtKeyUsage) (spiffeid.ID, error) {
	st, err := s.current()
	if err != nil {
		return spiffeid.ID{}, err
	}
	return st.verify(cs.PeerCertificates, usage, s.now())
}

// checkProtocol refuses a peer that speaks none of alpn.
func checkProtocol(cs tls.ConnectionState, alpn []string) error {
	if len(alpn) == 0 || cs.NegotiatedProtocol != "" || slices.Contains(alpn, protoHTTP1) || slices.Contains(alpn, protoTCP) {
		return nil
	}
	return fmt.Errorf("the peer speaks none of %q", alpn)
}

// Recheck verifies the peer of an open connection against the trust bundles of
// this moment: a handshake proves nothing about later. The error says why the
// connection must be closed.
func (s *Source) Recheck(cs tls.ConnectionState) error {
	if !cs.HandshakeComplete {
		return errors.New("the connection proves no peer: its handshake is not complete")
	}
	_, err := s.verify(cs, x509.ExtKeyUsageAny)
	return err
}

// PeerOf is the peer of a connection that a configuration of this package
// verified. It trusts that verification and repeats none of it.
func PeerOf(cs tls.ConnectionState) (identity.Peer, error) {
	if !cs.HandshakeComplete || cs.Version != tls.VersionTLS13 || len(cs.PeerCertificates) == 0 {
		return identity.Peer{}, errors.New("the connection proves no peer: it is not TLS 1.3 with a peer's certificate")
	}
	leaf := cs.PeerCertificates[0]
	id, err := idOf(leaf)
	if err != nil {
		return identity.Peer{}, fmt.Errorf("the connection proves no peer: %w", err)
	}
	return identity.NewPeer(id, leaf), nil
}
