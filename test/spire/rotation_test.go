//go:build linux

package spire

import (
	"crypto/tls"
	"testing"
	"time"
)

func TestRotation_OfShortSVIDsLosesNoRequest(t *testing.T) {
	begin(t)
	d := newDomain(t, "example.org", ttls{svid: 20 * time.Second})
	web, orders := d.pair()
	l := d.load(web)
	elapsed(t, 40*time.Second)
	d.mustPass(l)
	t.Logf("messages of the agent: %d to web, %d to orders", web.identity().Updates, orders.identity().Updates)

	serials := make(map[string]int)
	for _, r := range orders.stopAndRead() {
		serials[r.Serial]++
		if r.Verdict != "allow" || r.Caller != d.id("web") {
			t.Errorf("record %+v", r)
		}
	}
	if len(serials) < 2 {
		t.Errorf("orders saw no rotation of web's SVID: %v", serials)
	}
	t.Logf("orders saw %d serials of web", len(serials))
}

func TestRotation_OfTheAuthorityLosesNoRequest(t *testing.T) {
	begin(t)
	// The next authority is made at half of this one's life, and signs from five
	// sixths on: SVIDs get a sixth.
	d := newDomain(t, "example.org", ttls{svid: 20 * time.Second, authority: 2 * time.Minute})
	web, orders := d.pair()
	l := d.load(web)
	began, first := time.Now(), authority(t, orders)
	for deadline := began.Add(4 * time.Minute); authority(t, orders) == first; {
		if time.Now().After(deadline) {
			t.Fatal("the authority has not rotated")
		}
		elapsed(t, time.Second)
	}
	t.Logf("orders shows an SVID of the next authority after %.0f s", time.Since(began).Seconds())
	web.awaitRenewal(web.awaitRenewal(web.identity())) // what web shows is of the next one as well
	elapsed(t, time.Second)
	d.mustPass(l)
	t.Logf("authorities in the bundle of web: %d", web.identity().Domains["example.org"])
}

// authority is the key that signed what the sidecar shows to whoever dials it. A
// client without a certificate is refused, but not before it has seen that.
func authority(t *testing.T, s *sidecar) string {
	t.Helper()
	conn, err := tls.Dial("tcp", s.inbound(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return string(conn.ConnectionState().PeerCertificates[0].AuthorityKeyId)
}
