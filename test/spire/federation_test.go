//go:build linux

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
	var (
		open   = entry{name: "orders", user: ordersUser, federatesWith: theirs.name}
		closed = entry{name: "closed", user: thirdUser}
		named  = entry{name: "web", user: webUser, federatesWith: ours.name}
		guest  = entry{name: "guest", user: thirdUser, federatesWith: ours.name}
	)
	called, callers := make(map[string]*sidecar), make(map[string]*sidecar)
	for _, e := range []entry{open, closed} {
		ours.register(e)
		s := ours.orders(e, theirs.id("web"))
		s.awaitReady()
		called[ours.id(e.name)] = s
	}
	for _, e := range []entry{named, guest} {
		theirs.register(e)
		callers[e.name] = theirs.web(e, called)
		callers[e.name].awaitReady()
	}
	ask := func(caller, call string) int {
		status, body, err := get(callers[caller].caller(call), "/orders/7")
		if want := "/orders/7 for " + theirs.id(caller); err != nil || status == http.StatusOK && body != want {
			t.Errorf("%s calling %s: %d %q, %v", caller, call, status, body, err)
		}
		return status
	}

	if status := ask("web", "orders"); status != http.StatusOK {
		t.Errorf("a federated caller that the policy names: %d", status)
	}
	if status := ask("guest", "orders"); status != http.StatusForbidden {
		t.Errorf("a federated caller that the policy does not name: %d", status)
	}
	if status := ask("web", "closed"); status < 500 {
		t.Errorf("a caller whose bundle the service does not have: %d", status)
	}
	const cause = `there is no trust bundle for trust domain \"theirs.test\"`
	await(t, "the refused handshake in the log", func() bool { return strings.Contains(called[ours.id("closed")].said(), cause) })

	closed.federatesWith = theirs.name
	ours.register(closed)
	await(t, "the caller to pass once its bundle is there", func() bool { return ask("web", "closed") == http.StatusOK })

	closed.federatesWith = ""
	ours.register(closed)
	await(t, "the bundle to be gone", func() bool { return called[ours.id("closed")].identity().Domains[theirs.name] == 0 })
	if status := ask("guest", "closed"); status < 500 {
		t.Errorf("a caller whose bundle is gone, without a connection yet: %d", status)
	}
	elapsed(t, time.Second)
	if status := ask("web", "closed"); status < 500 {
		t.Errorf("a caller whose bundle is gone, on the connection that was open: %d", status)
	}
}
