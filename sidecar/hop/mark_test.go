package hop

import (
	"hash/fnv"
	"strconv"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// A mark must outlive an update of one of the sidecars that a request passes.
func TestMark_IsTheHashThatItWas(t *testing.T) {
	service := spiffeid.RequireFromString("spiffe://example.org/ns/shop/sa/orders")
	h := fnv.New64a()
	h.Write([]byte("inbound spiffe://example.org/ns/shop/sa/orders"))
	if got, want := Mark("inbound", service), strconv.FormatUint(h.Sum64(), 36); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
