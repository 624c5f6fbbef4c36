package spire

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestFederation_ACallerOfAnotherDomainPassesOnlyWhereItsBundleIs(t *testing.T) {
	begin(t)
	ours, theirs := newDomain(t, "ours.test", ttls{svid: time.Hour}), newDomain(t, "theirs.test", ttls{svid: time.Hour})
	federate(ours, theirs)
	ours.register("orders", ordUser, theirs.name)
	ours.register("closed", otherOrd)
	theirs.register("web", webUser, ours.name)
	theirs.register("guest", nobody, ours.name)

	orders := ours.orders("orders", ordUser, theirs.id("web"))
	closed := ours.orders("closed", otherOrd, theirs.id("web"))
	orders.awaitReady()
	closed.awaitReady()
	calls := map[string]*sidecar{ours.id("orders"): orders, ours.id("closed"): closed}
	web := theirs.web("web", webUser, calls)
	guest := theirs.web("guest", nobody, calls)
	web.awaitReady()
	guest.awaitReady()
	ask := func(s *sidecar, call string) (int, string, error) { return get(s.caller(call), "/orders/7") }

	status, body, err := ask(web, "orders")
	if want := "/orders/7 for " + theirs.id("web"); err != nil || status != http.StatusOK || body != want {
		t.Errorf("a federated caller that the policy names: %d %q, %v", status, body, err)
	}
	if status, body, err := ask(guest, "orders"); err != nil || status != http.StatusForbidden {
		t.Errorf("a federated caller that the policy does not name: %d %q, %v", status, body, err)
	}
	if status, body, err := ask(web, "closed"); err != nil || status < 500 {
		t.Errorf("a caller whose bundle the service does not have: %d %q, %v", status, body, err)
	}
	const cause = `there is no trust bundle for trust domain \"theirs.test\"`
	await(t, "the refused handshake in the log", func() bool { return strings.Contains(closed.said(), cause) })

	ours.register("closed", otherOrd, theirs.name)
	await(t, "the caller to pass once its bundle is there", func() bool {
		status, _, err := ask(web, "closed")
		return err == nil && status == http.StatusOK
	})
}
