package listener

import (
	"crypto/tls"
	"io"
	"testing"
)

// crypto/tls says io.EOF of both: RFC 8446 section 6.1.
func TestAccept_AnEndIsToldFromAGoodbye(t *testing.T) {
	for name, goodbye := range map[string]bool{"a goodbye": true, "none": false} {
		l, _ := listen(t, Config{TLS: serverTLS(t)})
		client := dialTLS(t, l)
		c := accept(t, l).(*tls.Conn)
		if goodbye {
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		} else {
			client.NetConn().Close()
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
		if ended := c.NetConn().(interface{ Ended() bool }).Ended(); ended == goodbye {
			t.Errorf("%s: ended: %v", name, ended)
		}
	}
}
