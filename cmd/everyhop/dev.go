package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/everyhop/everyhop/identity/dev"
)

const devHelp = `dev is a development trust domain in one directory: what SPIRE is in production,
without attestation. Whoever can open a socket in the directory gets its
identity, so it is for one developer's machine and for tests.`

func newDev(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dev COMMAND",
		Short:   "identities and user tokens for development",
		Long:    devHelp,
		Example: "  everyhop dev identity --dir ./dev web orders",
		Args:    noCommand,
		RunE: func(*cobra.Command, []string) error {
			return usage(errors.New("no dev command is given: identity, svid or token"))
		},
	}
	cmd.AddCommand(newDevIdentity(w), newDevSVID(w), newDevToken(w))
	return cmd
}

const devIdentityHelp = `identity serves one Workload API socket for each NAME until it is interrupted:
D/NAME.sock gives out spiffe://TRUST-DOMAIN/NAME. Slashes of a name become dots
in its socket's. The certificate authority is kept in D, and so is jwks.json,
the keys of the user tokens that everyhop dev token makes.`

func newDevIdentity(w world) *cobra.Command {
	var dir string
	var partners []string
	var options dev.Options
	cmd := &cobra.Command{
		Use:     "identity --dir D NAME...",
		Short:   "serve a Workload API socket for each name",
		Long:    devIdentityHelp,
		Example: "  everyhop dev identity --dir ./dev web orders shop/billing",
		Args:    atLeast(1, "the NAME of a service"),
		RunE: func(cmd *cobra.Command, names []string) error {
			options.Logger = newTextLogger(w.err)
			return serveIdentities(cmd.Context(), w, dir, options, partners, names)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the trust domain's `DIRECTORY`, made where it is not there")
	cmd.Flags().StringVar(&options.TrustDomain, "trust-domain", "", "its `NAME` (default: the directory's own, example.org for a new one)")
	cmd.Flags().DurationVar(&options.TTL, "ttl", time.Hour, "how long an SVID lives; it is replaced at half of that")
	cmd.Flags().StringArrayVar(&options.DNSNames, "dns", nil, "a host `NAME` to put in every certificate, for clients that know no SPIFFE")
	cmd.Flags().StringArrayVar(&partners, "federate", nil, "the `DIRECTORY` of another trust domain to trust as well; may be repeated")
	return cmd
}

func serveIdentities(ctx context.Context, w world, dir string, options dev.Options, partners, names []string) error {
	d, err := openDomain(dir, options)
	if err != nil {
		return err
	}
	defer d.Close() // what is in the directory stays whatever it returns
	if err := d.Serve(names...); err != nil {
		return err
	}
	for _, other := range partners {
		if err := d.Federate(other); err != nil {
			return err
		}
	}
	fmt.Fprintf(w.out, "trust domain %s in %s\n", d.TrustDomain().Name(), d.Dir())
	for _, name := range names {
		fmt.Fprintf(w.out, "spiffe://%s/%s at %s\n", d.TrustDomain().Name(), name, d.Socket(name))
	}
	fmt.Fprintf(w.out, "user tokens of %s, keys in %s\n", d.Issuer(), d.KeySetFile())
	fmt.Fprintf(w.out, "use one: everyhop run --policy policy.yaml --identity %s\n", d.Socket(names[0]))
	<-ctx.Done()
	return d.Close()
}

// openDomain opens the trust domain that --dir names.
func openDomain(dir string, options dev.Options) (*dev.Domain, error) {
	if dir == "" {
		return nil, usage(errors.New("--dir is missing"))
	}
	return dev.Open(dir, options)
}

func newDevSVID(w world) *cobra.Command {
	var dir, out string
	var options dev.Options
	cmd := &cobra.Command{
		Use:   "svid --dir D NAME --out D2",
		Short: "write svid.pem, key.pem and bundle.pem, for curl and openssl",
		Example: `  everyhop dev svid --dir ./dev web --out ./web
  curl --cert web/svid.pem --key web/key.pem --insecure https://127.0.0.1:8443/orders/7`,
		Args: exactly(1, "the NAME of a service"),
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usage(errors.New("--out is missing"))
			}
			options.Existing = true
			d, err := openDomain(dir, options)
			if err != nil {
				return err
			}
			defer d.Close() // nothing is served
			if err := d.WriteSVID(args[0], out); err != nil {
				return err
			}
			fmt.Fprintf(w.out, "wrote svid.pem, key.pem and bundle.pem of spiffe://%s/%s to %s\n", d.TrustDomain().Name(), args[0], out)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the trust domain's `DIRECTORY`")
	cmd.Flags().StringVar(&out, "out", "", "the `DIRECTORY` to write to")
	cmd.Flags().DurationVar(&options.TTL, "ttl", time.Hour, "how long the SVID lives")
	cmd.Flags().StringArrayVar(&options.DNSNames, "dns", nil, "a host `NAME` to put in the certificate")
	return cmd
}

func newDevToken(w world) *cobra.Command {
	var dir string
	var request dev.TokenRequest
	var claims []string
	cmd := &cobra.Command{
		Use:     "token --dir D --audience A --subject S",
		Short:   "print a user token of the development issuer",
		Example: `  everyhop dev token --dir ./dev --audience orders --subject ada --scope orders:read --claim tenant='"acme"'`,
		Args:    exactly(0, ""),
		RunE: func(_ *cobra.Command, _ []string) error {
			var err error
			if request.Claims, err = parseClaims(claims); err != nil {
				return usage(err)
			}
			return printToken(w, dir, request)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "the trust domain's `DIRECTORY`")
	f.StringArrayVar(&request.Audience, "audience", nil, "whom the token is for; may be repeated")
	f.StringVar(&request.Subject, "subject", "", "the user it speaks for")
	f.StringSliceVar(&request.Scope, "scope", nil, "what the user's client may do; may be repeated")
	f.StringArrayVar(&claims, "claim", nil, "`NAME=JSON`, a claim of your own; may be repeated")
	f.DurationVar(&request.Lifetime, "lifetime", 10*time.Minute, "how long the token lives")
	return cmd
}

func printToken(w world, dir string, request dev.TokenRequest) error {
	switch {
	case len(request.Audience) == 0:
		return usage(errors.New("--audience is missing"))
	case request.Subject == "":
		return usage(errors.New("--subject is missing"))
	}
	d, err := openDomain(dir, dev.Options{Existing: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer d.Close() // nothing is served
	token, err := d.Token(request)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w.out, token)
	return err
}

func parseClaims(texts []string) (map[string]any, error) {
	claims := make(map[string]any, len(texts))
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--claim %s: it is not NAME=JSON", text)
		}
		var v any
		if err := json.Unmarshal([]byte(value), &v); err != nil {
			return nil, fmt.Errorf(`--claim %s: %s is no JSON; a string has quotes: --claim '%s="…"'`, text, value, name)
		}
		claims[name] = v
	}
	return claims, nil
}
