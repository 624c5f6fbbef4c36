package forward

import (
	"net/http"
	"strings"
	"testing"
)

func TestIsIdentity_KnowsEveryTwin(t *testing.T) {
	for name, want := range map[string]bool{
		"Everyhop-Caller":             true,
		"everyhop_caller":             true,
		"EVERYHOP.caller":             true,
		"Everyhop-Anything":           true,
		"X-Spiffe-Id":                 true, // H07
		"X_Spiffe_Id":                 true, // H08
		"X-Spiffe_Id":                 true, // H08
		"x_spiffe-id":                 true, // H08
		"X.Spiffe.Id":                 true,
		"X-Forwarded-For":             true, // H13
		"X-Forwarded-Client-Cert":     true,
		"x_forwarded_client_cert":     true,
		"Forwarded":                   true,
		"X-Real-Ip":                   true,
		"L5d-Client-Id":               true,
		"Ssl-Client-Verify":           true,
		"X-Ssl-Client-Dn":             true,
		"X-Client-Cert":               true,
		"X-Client-Certificate-Chain":  true,
		"X-Spiffe-Ids":                false,
		"Forwarded-For":               false,
		"X-Real-Ipx":                  false,
		"Everyhop":                    false,
		"Content-Type":                false,
		"Traceparent":                 false,
		"":                            false,
		"X-Forwarde":                  false,
		"Authorization":               false,
		"Accept":                      false,
		"X-Tenant":                    false,
		strings.Repeat("X-", 1<<10):   false,
		"Everyhop-Claim-Tenant\u00e9": true,
	} {
		if got := IsIdentity(name); got != want {
			t.Errorf("IsIdentity(%q) = %v", name, got)
		}
	}
}

// H01, H02, H03, H05.
func TestBadConnection_MayNameOnlyWhatEndsHere(t *testing.T) {
	for _, c := range []struct {
		connection []string
		present    string
		want       bool
	}{
		{nil, "", false},
		{[]string{"close"}, "", false},
		{[]string{"keep-alive, Upgrade", "TE"}, "", false},
		{[]string{"close, X-Spiffe-Id"}, "X-Spiffe-Id", false},                          // H01: removed anyway
		{[]string{"x-forwarded-client-cert ,\tX-REAL-IP"}, "X-Real-Ip", false},          // H02
		{[]string{"", "X-Spiffe-Id"}, "X-Spiffe-Id", false},                             // H05
		{[]string{"Authorization"}, "", true},                                           // H03, as the next
		{[]string{"cookie"}, "Cookie", true},                                            //
		{[]string{"Host"}, "", true},                                                    //
		{[]string{"Content-Length"}, "", true},                                          //
		{[]string{"content-type"}, "Content-Type", true},                                //
		{[]string{"close", "Transfer-Encoding"}, "", true},                              //
		{[]string{"X-Request-Id"}, "", true},                                            //
		{[]string{"traceparent"}, "", true},                                             //
		{[]string{"X-Tenant"}, "X-Tenant", true},                                        // it may be declared
		{[]string{"X-Tenant"}, "", false},                                               // nothing to remove
		{[]string{",,keep-alive,,"}, "", false},                                         //
		{[]string{"Via"}, "", true},                                                     // loops would go unseen
		{[]string{"sec-websocket-key"}, "", true},                                       //
		{[]string{"everyhop-caller, everyhop_caller"}, "Everyhop-Caller", false},        //
		{[]string{"close, " + strings.Repeat("x", 1<<10) + ", cookie"}, "Cookie", true}, //
	} {
		header := http.Header{"Connection": c.connection}
		if c.present != "" {
			header.Set(c.present, "v")
		}
		if got := BadConnection(header); got != c.want {
			t.Errorf("%q with %q: %v", c.connection, c.present, got)
		}
	}
}

func FuzzBadConnection(f *testing.F) {
	f.Add("close, X-Spiffe-Id", "X-Spiffe-Id")
	f.Add("cookie", "Cookie")
	f.Add(",\t ,", "")
	f.Add("Coo\u212aie", "Cookie") // a Kelvin sign is a k to strings.EqualFold
	f.Add("\xec", "\xc1")          // and these are the same
	f.Fuzz(func(t *testing.T, connection, present string) {
		name := http.CanonicalHeaderKey(present)
		header := http.Header{"Connection": {connection}, name: {"v"}}
		if name == "Connection" || BadConnection(header) {
			return
		}
		// What may pass judgement with its Connection must not lose a field to it.
		passed, _, err := (&Pass{All: true}).Select(header)
		if err != nil {
			t.Fatal(err)
		}
		_, kept := passed[name]
		if gone := hopByHop(name) || framing(name) || IsIdentity(name) || name == "Cookie"; !kept && !gone && !connectionOptions[name] {
			t.Errorf("Connection: %q took away %q", connection, name)
		}
	})
}
