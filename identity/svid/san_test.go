package svid

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
)

func TestIDOf_ReadsTheRawBytesOfTheOnlyURI(t *testing.T) {
	long := "spiffe://td.test/" + strings.Repeat("a", maxIDBytes-len("spiffe://td.test/"))
	for _, c := range []struct{ name, uri, want string }{
		{"a workload", web, ""},
		{"S-02 an address as trust domain", "spiffe://10.0.0.1/x", ""},
		{"S-02 an underscore", "spiffe://a_b/x", ""},
		{"S-04 2048 bytes", long, ""},
		{"S-05 upper case in the path", "spiffe://td.test/Api", ""},
		{"X14 upper-case scheme", "SPIFFE://td.test/ns/a/sa/web", "scheme"},
		{"X14 mixed-case scheme", "Spiffe://td.test/ns/a/sa/web", "scheme"},
		{"X15 upper-case trust domain", "spiffe://TD.test/a", "trust domain"},
		{"X15 port", "spiffe://td.test:8443/a", "trust domain"},
		{"X15 user", "spiffe://u@td.test/a", "trust domain"},
		{"S-01 X15 query", "spiffe://td.test/a?q", "path"},
		{"S-01 X15 fragment", "spiffe://td.test/a#f", "path"},
		{"X15 one slash", "spiffe:/td.test/a", "scheme"},
		{"X15 no trust domain", "spiffe:///a", "trust domain"},
		{"X15 https", "https://td.test/a", "scheme"},
		{"X16 percent", "spiffe://td.test/ns/%61/sa/web", "path"},
		{"X16 percent in the trust domain", "spiffe://t%64.test/a", "trust domain"},
		{"X16 dot-dot", "spiffe://td.test/a/../sa/admin", "path"},
		{"S-03 X16 empty segment", "spiffe://td.test/a//b", "path"},
		{"S-03 X16 trailing slash", "spiffe://td.test/a/", "path"},
		{"S-03 X16 dot", "spiffe://td.test/a/.", "path"},
		{"X16 non-ASCII", "spiffe://td.test/\xc3\xa9", "path"},
		{"X16 NUL", "spiffe://td.test/a\x00", "path"},
		{"S-03 another character", "spiffe://td.test/a!b", "path"},
		{"S-08 what go-spiffe takes when it is built so", "spiffe://td.test/a@b", "path"},
		{"S-11 X17 no path", "spiffe://td.test", "no path"},
		{"X18 2049 bytes", long + "a", "2049 bytes"},
		{"X18 trust domain of 256 bytes", "spiffe://" + strings.Repeat("t", 256) + "/a", "255 bytes"},
		{"empty", "", "empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// No crypto/x509 in between: it would refuse some of these, today.
			id, err := idOf(&x509.Certificate{Extensions: []pkix.Extension{sanOf(c.uri)}})
			if c.want != "" {
				mustFail(t, err, c.want)
				return
			}
			if err != nil || id.String() != c.uri {
				t.Fatalf("ID is %q, error %v", id, err)
			}
		})
	}
}

func TestIDOf_WantsExactlyOneURI(t *testing.T) {
	dns := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("web.test")}
	uri := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(web)}
	foreign := asn1.RawValue{Class: asn1.ClassApplication, Tag: tagURI, Bytes: []byte(web)}
	compound := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagURI, IsCompound: true, Bytes: []byte{4, 0}}
	for _, c := range []struct {
		name string
		ext  pkix.Extension
		want string
	}{
		{"X13 beside DNS names", sanNames(dns, uri, dns, dns), ""},
		{"S-10 none", sanNames(dns), "no URI SAN"},
		{"S-10 an empty list", sanNames(), "no URI SAN"},
		{"X11 two different", sanOf(web, "spiffe://td.test/admin"), "more than one"},
		{"X11 two equal", sanOf(web, web), "more than one"},
		{"X11 a second one of another scheme", sanOf(web, "https://td.test/"), "more than one"},
		{"a URI's tag in another class", sanNames(foreign), "no URI SAN"},
		{"a constructed URI", sanNames(compound), "malformed"},
		{"garbage", pkix.Extension{Id: oidSubjectAltName, Value: []byte{1, 2, 3}}, "malformed"},
		{"bytes after the list", pkix.Extension{Id: oidSubjectAltName, Value: append(sanOf(web).Value, 0)}, "malformed"},
		{"a cut-off list", pkix.Extension{Id: oidSubjectAltName, Value: sanOf(web).Value[:9]}, "malformed"},
		{"another extension", pkix.Extension{Id: oidExtKeyUsage, Value: sanOf(web).Value}, "no URI SAN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := idOf(&x509.Certificate{Extensions: []pkix.Extension{c.ext}})
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

// What comes out of the parser stands in its input, and no ID is ever folded.
func FuzzOnlyURI(f *testing.F) {
	f.Add(sanOf(web).Value)
	f.Add(sanOf(web, web).Value)
	f.Add(sanOf("SPIFFE://td.test/a").Value)
	f.Add(sanOf().Value)
	f.Add([]byte{0x30, 0x80})
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, der []byte) {
		uri, err := onlyURI(der)
		if err != nil {
			return
		}
		if !bytes.Contains(der, []byte(uri)) {
			t.Fatalf("%q does not stand in %x", uri, der)
		}
		if again, err := onlyURI(sanOf(uri).Value); err != nil || again != uri {
			t.Fatalf("%q became %q, error %v", uri, again, err)
		}
		if id, err := parseID(uri); err == nil && id.String() != uri {
			t.Fatalf("%q was folded to %q", uri, id)
		}
	})
}
