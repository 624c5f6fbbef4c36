package test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// The Workload API saying that we are nobody is not the same as its being away.
func TestIdentity_ThatIsTakenBackEndsWhatIsOpen(t *testing.T) {
	m := newMesh(t, "orders")
	app, _ := m.app()
	orders := m.join("orders", fmt.Sprintf(`service: spiffe://example.org/orders
app: http://%s
allow:
  - {from: spiffe://example.org/web, to: GET /orders}
`, app))
	url := "https://" + orders.Addr("inbound").String() + "/orders"
	open := m.client("web", "h2")
	if status, _, err := get(open, url); status != http.StatusOK {
		t.Fatalf("while all is well: %d, %v", status, err)
	}
	if err := m.domain.Fail("orders", codes.PermissionDenied); err != nil {
		t.Fatal(err)
	}
	for orders.Ready() == nil {
		time.Sleep(time.Millisecond)
	}
	if status, body, err := get(open, url); err == nil && status < 500 {
		t.Errorf("on the open connection: %d %s", status, body)
	}
	if err := m.domain.Clear("orders"); err != nil {
		t.Fatal(err)
	}
	for orders.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	if status, _, err := get(m.client("web"), url); status != http.StatusOK {
		t.Errorf("when we are somebody again: %d, %v", status, err)
	}
	for _, r := range orders.stopAndRead() {
		if r.Status >= 500 && r.Reason != "identity_missing" {
			t.Errorf("refused because of %s: %+v", r.Reason, r)
		}
	}
}
