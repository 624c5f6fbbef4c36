package demo

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// stay prints what to try by hand, and keeps everything up until ctx ends.
func (s *shop) stay(ctx context.Context, out *table) error {
	s.audits.end()
	s.logs.end()
	if err := s.writeSVIDs(); err != nil {
		return err
	}
	lines, err := s.handouts()
	if err != nil {
		return err
	}
	out.head("it stays up: try it yourself")
	for _, l := range lines {
		out.say(l)
	}
	renew := time.NewTicker(svidLife / 2)
	defer renew.Stop()
	for {
		select {
		case <-renew.C:
			if err := s.writeSVIDs(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// writeSVIDs writes what `everyhop dev svid` writes, for curl.
func (s *shop) writeSVIDs() error {
	for _, name := range []string{"web", "mallory"} {
		if err := s.domain.WriteSVID(name, s.path(name)); err != nil {
			return err
		}
	}
	return nil
}

// handouts is what there is to try, with the ports and paths of this run.
func (s *shop) handouts() ([]string, error) {
	orders, err := s.port("orders", "inbound")
	if err != nil {
		return nil, err
	}
	plain, err := s.addr("web", "orders")
	if err != nil {
		return nil, err
	}
	admin, err := s.addr("orders", "admin")
	if err != nil {
		return nil, err
	}
	as := func(name string) string {
		return fmt.Sprintf("  curl -i --cacert %s --cert %s --key %s https://localhost:%s/orders/7",
			quote(s.path(name+"/bundle.pem")), quote(s.path(name+"/svid.pem")), quote(s.path(name+"/key.pem")), orders)
	}
	return []string{
		"as web, with its SVID: allowed",
		as("web"),
		"as mallory, whom the same trust domain vouches for: refused",
		as("mallory"),
		"as the web app does it: plain HTTP to its own sidecar, which does the rest",
		"  curl -i http://" + plain + "/orders/7",
		"the policy in use",
		"  curl http://" + admin + "/policy",
		"",
		"The policy is " + s.services["orders"].policy + ": edit it, and try again.",
		"Every decision is a line in " + s.auditFile("orders") + ".",
		"curl checks the name localhost, which the demo's SVIDs have for it alone; sidecars check the SPIFFE ID.",
		"Ctrl-C ends it and removes " + s.dir + ".",
	}, nil
}

// quote is a path as a shell takes it.
func quote(path string) string {
	if !strings.ContainsFunc(path, special) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

func special(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@", r))
}
