package identity_test

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/identity"
)

func TestPeer_ZeroIsNobody(t *testing.T) {
	if !(identity.Peer{}).IsZero() {
		t.Error("the zero peer is somebody")
	}
}

func TestNewPeer_SaysWhatTheLeafSays(t *testing.T) {
	end := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	id := spiffeid.RequireFromString("spiffe://example.org/web")
	leaf := &x509.Certificate{Raw: []byte("abc"), SerialNumber: big.NewInt(0xbeef), NotAfter: end}
	want := identity.Peer{
		ID:          id,
		Serial:      "beef",
		Fingerprint: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", // of "abc": FIPS 180-4
		NotAfter:    end,
	}
	if got := identity.NewPeer(id, leaf); got != want || got.IsZero() {
		t.Errorf("NewPeer = %+v, want %+v", got, want)
	}
}
