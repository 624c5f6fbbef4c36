package h2_test

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// exceptions are cases that we fail, and why.
var exceptions = map[string]string{
	"http2/6.5.3/1": "a SETTINGS frame with one setting twice is refused (T24): nobody needs it, and which value counts is what an attacker may hope to see read in two ways",
}

// T01.
func TestServer_PassesH2spec(t *testing.T) {
	_, address := serve(t, h2.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "an answer of some length")
	})})
	host, port, _ := net.SplitHostPort(address)
	number, _ := strconv.Atoi(port)
	c := &config.Config{Host: host, Port: number, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true}
	ran := 0
	t.Run("", func(t *testing.T) {
		for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
			ran += runSpec(t, c, group)
		}
	})
	if ran < 140 {
		t.Errorf("only %d cases ran", ran)
	}
}

func runSpec(t *testing.T, c *config.Config, group *spec.TestGroup) (ran int) {
	for i, test := range append(group.Tests, group.StrictTests...) {
		ran++
		id := group.ID() + "/" + strconv.Itoa(i+1)
		t.Run(id, func(t *testing.T) {
			if why := exceptions[id]; why != "" {
				t.Skip(why)
			}
			t.Parallel()
			conn, err := spec.Dial(c)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := test.Run(c, conn); err != nil && err != spec.ErrSkipped {
				t.Errorf("%s: %v", test.Desc, err)
			}
		})
	}
	for _, sub := range group.Groups {
		ran += runSpec(t, c, sub)
	}
	return ran
}
