package test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// twoPolicies are two that share /stable, and that differ in everything else: an
// even one opens /even by a grant called even, an odd one /odd by one called odd.
func twoPolicies(app string) [2]string {
	var policies [2]string
	for i, name := range []string{"even", "odd"} {
		policies[i] = fmt.Sprintf(`service: spiffe://example.org/orders
app: http://%s
allow:
  - {name: stable-%[2]s, from: spiffe://example.org/web, to: GET /stable}
  - {name: %[2]s, from: spiffe://example.org/web, to: GET /%[2]s, query: [%[2]s]}
`, app, name)
	}
	return policies
}

func TestReload_UnderLoadNoRequestFailsAndNoneIsJudgedByTwoPolicies(t *testing.T) {
	const swaps = 200
	m := newMesh(t, "orders")
	app, _ := m.app()
	policies := twoPolicies(app)
	orders := m.join("orders", policies[0])
	base := "https://" + orders.Addr("inbound").String()

	var stop atomic.Bool
	var asked, allowed atomic.Int64
	var load sync.WaitGroup
	for i := range 8 {
		client := m.client("web", []string{"h2", "http/1.1"}[i%2])
		load.Go(func() {
			for n := 0; !stop.Load(); n++ {
				path := []string{"/stable", "/even?even=1", "/odd?odd=1"}[n%3]
				status, body, err := get(client, base+path)
				asked.Add(1)
				switch {
				case err != nil:
					t.Errorf("GET %s: %v", path, err)
					return
				case status == http.StatusOK && body == "GET "+path+" for spiffe://example.org/web":
					allowed.Add(1)
				case status == http.StatusForbidden && path != "/stable":
				default:
					t.Errorf("GET %s: %d %s", path, status, body)
					return
				}
			}
		})
	}

	for n := 1; n <= swaps && !t.Failed(); n++ {
		before := orders.Policy().Generation
		orders.write(policies[n%2])
		if err := orders.Reload(); err != nil {
			t.Fatalf("swap %d: %v", n, err)
		}
		if orders.Policy().Generation <= before {
			t.Fatalf("swap %d: the generation stayed at %d", n, before)
		}
		enough := asked.Load() + 5 // at least so many under each policy
		for asked.Load() < enough && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	load.Wait()
	t.Logf("%d requests, %d allowed, under %d policies", asked.Load(), allowed.Load(), swaps)

	records := orders.stopAndRead()
	if int64(len(records)) != asked.Load() {
		t.Errorf("%d records of %d requests", len(records), asked.Load())
	}
	parityOf := map[string]string{}
	for _, r := range records {
		name := []string{"odd", "even"}[r.Generation%2] // the first, an even one, is generation 1
		if known := parityOf[r.Digest]; known != "" && known != name {
			t.Fatalf("policy %s was called %s and %s", r.Digest, known, name)
		}
		parityOf[r.Digest] = name
		if !oneMind(r, name) {
			t.Errorf("judged by a mixture: %+v under the policy called %s", r, name)
		}
	}
	if len(parityOf) != 2 {
		t.Errorf("the records name %d policies, want both", len(parityOf))
	}
}

// oneMind reports whether a record is what the policy of that name says.
func oneMind(r record, name string) bool {
	switch r.Path {
	case "/stable":
		return r.Verdict == "allow" && r.Grant == "stable-"+name && r.Status == 200
	case "/" + name:
		return r.Verdict == "allow" && r.Grant == name && r.Status == 200
	}
	return r.Verdict == "deny" && r.Reason == "route_undeclared" && r.Grant == "" && r.Status == 403
}

func TestReload_ABadFileChangesNothingAndIsAnnounced(t *testing.T) {
	m := newMesh(t, "orders")
	app, _ := m.app()
	policies := twoPolicies(app)
	orders := m.join("orders", policies[0])
	client := m.client("web")
	base := "https://" + orders.Addr("inbound").String()
	admin := "http://" + orders.Addr("admin").String()
	good := orders.Policy()

	orders.write(strings.Replace(policies[1], "allow:", "alow:", 1))
	if err := orders.Reload(); err == nil {
		t.Fatal("a file with an unknown key was taken")
	}
	if orders.Policy() != good {
		t.Error("the snapshot is another one")
	}
	if status, _, err := get(client, base+"/even?even=1"); status != http.StatusOK {
		t.Errorf("what the last good policy allows: %d, %v", status, err)
	}
	if status, text, _ := get(http.DefaultClient, admin+"/readyz"); status != http.StatusOK || !strings.Contains(text, "degraded") || !strings.Contains(text, "orders.yaml:3:1") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if _, text, _ := get(http.DefaultClient, admin+"/metrics"); !strings.Contains(text, "everyhop_policy_last_reload_successful 0") {
		t.Errorf("/metrics does not tell of it:\n%s", text)
	}
	if !strings.Contains(orders.log.String(), "orders.yaml:3:1") {
		t.Errorf("the log does not tell of it:\n%s", orders.log.String())
	}

	orders.write(policies[1])
	if err := orders.Reload(); err != nil {
		t.Fatal(err)
	}
	if status, text, _ := get(http.DefaultClient, admin+"/readyz"); status != http.StatusOK || strings.Contains(text, "degraded") {
		t.Errorf("/readyz after the next good file: %d %s", status, text)
	}
	if status, _, err := get(client, base+"/odd?odd=1"); status != http.StatusOK {
		t.Errorf("what the next good policy allows: %d, %v", status, err)
	}
	http.DefaultClient.CloseIdleConnections()
}
