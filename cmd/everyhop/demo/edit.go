package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// The edits of the policy of orders. Each waits until its sidecar has seen it.

func addItems(ctx context.Context, s *shop) error {
	return s.edit(ctx, itemsGrant, func(was, now policyState) bool {
		return now.Generation > was.Generation && now.LastError == ""
	})
}

func breakPolicy(ctx context.Context, s *shop) error {
	return s.edit(ctx, itemsGrant+brokenGrant, func(was, now policyState) bool {
		return now.Generation == was.Generation && now.LastError != ""
	})
}

func restorePolicy(ctx context.Context, s *shop) error {
	return s.edit(ctx, "", func(was, now policyState) bool {
		return now.Generation > was.Generation && now.LastError == ""
	})
}

// edit makes the file what it was at first, and more; then it waits for until.
func (s *shop) edit(ctx context.Context, more string, until func(was, now policyState) bool) error {
	orders := s.services["orders"]
	var was, now policyState
	if err := s.admin(ctx, "orders", "/policy", &was); err != nil {
		return err
	}
	if err := replaceFile(orders.policy, orders.text+more); err != nil {
		return err
	}
	err := eventually(ctx, func() (bool, error) {
		now = policyState{}
		err := s.admin(ctx, "orders", "/policy", &now)
		return until(was, now), err
	})
	if err != nil {
		return fmt.Errorf("waiting for the edit of orders.yaml to be seen, at generation %d, last error %q: %w", now.Generation, now.LastError, err)
	}
	return nil
}

// policyState is what the demo reads of /policy.
type policyState struct {
	Generation uint64 `json:"generation"`
	LastError  string `json:"last_error"`
}

// admin decodes what the admin listener of a service's sidecar says.
func (s *shop) admin(ctx context.Context, service, path string, v any) error {
	at, err := s.addr(service, "admin")
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+path, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("asking the sidecar of %s for %s: %s", service, path, answer.Status)
	}
	return json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(v)
}

// lookEvery is how often something is asked that cannot tell us by itself.
const lookEvery = 5 * time.Millisecond

// patience is for slow machines: what takes this long will not happen.
const patience = 30 * time.Second

// eventually asks until the answer is yes, an error, or there was time enough.
func eventually(ctx context.Context, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
