package match

import (
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	scheme = "spiffe://"
	// Lengths of the SPIFFE-ID specification, sections 2.1 and 2.3. go-spiffe
	// checks neither.
	maxID          = 2048
	maxTrustDomain = 255
)

// Caller is a SPIFFE ID, or all the IDs below one: spiffe://td/a/**. The trust
// domain is never a wildcard, and the wildcard is a whole last segment that
// stands for one segment or more. The zero Caller matches nobody.
type Caller struct {
	key string // the whole ID; for a wildcard all up to and with the last slash
	td  spiffeid.TrustDomain
}

// ParseCaller parses a SPIFFE ID or a pattern. The error is a [Mistake].
func ParseCaller(text string) (Caller, error) {
	base, wildcard := strings.CutSuffix(text, "/**")
	if strings.Contains(base, "*") || strings.HasPrefix(text, scheme+"*") {
		return Caller{}, misplacedWildcard(text)
	}
	id, err := spiffeid.FromString(base)
	if err != nil {
		return Caller{}, &Mistake{quote(text) + " is not a SPIFFE ID: " + err.Error(), idHint(text)}
	}
	td := id.TrustDomain().Name()
	switch {
	case len(text) > maxID:
		return Caller{}, &Mistake{"the SPIFFE ID is longer than 2048 bytes", ""}
	case len(td) > maxTrustDomain:
		return Caller{}, &Mistake{"the trust domain is longer than 255 bytes", ""}
	case !wildcard && id.Path() == "":
		return Caller{}, &Mistake{
			quote(text) + " names a trust domain, which is no workload",
			"add the workload's path, or /** for every workload in " + td,
		}
	case wildcard:
		return Caller{base + "/", id.TrustDomain()}, nil
	}
	return Caller{base, id.TrustDomain()}, nil
}

func misplacedWildcard(text string) error {
	const hint = "write spiffe://trust-domain/path/**, where ** is the whole last segment and stands for everything below"
	authority, _, _ := strings.Cut(strings.TrimPrefix(text, scheme), "/")
	switch {
	case text == "*" || text == "**":
		return &Mistake{quote(text) + " would be anyone", hint}
	case strings.Contains(authority, "*"):
		return &Mistake{"the trust domain of " + quote(text) + " is a wildcard", "name each trust domain: " + hint}
	}
	return &Mistake{quote(text) + " has a wildcard that is not its whole last segment", hint}
}

func idHint(text string) string {
	lower := strings.ToLower(text)
	switch {
	case !strings.HasPrefix(text, scheme) && strings.HasPrefix(lower, scheme):
		return "the scheme is written spiffe:// in lower case"
	case !strings.HasPrefix(text, scheme):
		return "write it in full, as in spiffe://example.org/web"
	case strings.HasSuffix(text, "/"):
		return "remove the slash at the end"
	}
	return "a trust domain is lower-case letters, digits, dots, dashes and underscores; a path segment also capitals"
}

// Match reports whether the pattern names id.
func (c Caller) Match(id spiffeid.ID) bool {
	if c.key == "" {
		return false
	}
	text := id.String()
	if c.Wildcard() {
		return strings.HasPrefix(text, c.key) // never equal: no ID ends with a slash
	}
	return text == c.key
}

// Key is what an index files the pattern under: the whole SPIFFE ID, or for a
// wildcard the prefix up to and with its last slash, which no ID ends with.
func (c Caller) Key() string { return c.key }

// TrustDomain is the one that all it names are in.
func (c Caller) TrustDomain() spiffeid.TrustDomain { return c.td }

// Wildcard reports whether the pattern names everything below a prefix.
func (c Caller) Wildcard() bool { return strings.HasSuffix(c.key, "/") }

// String is the pattern as written.
func (c Caller) String() string {
	if c.Wildcard() {
		return c.key + "**"
	}
	return c.key
}

// quote is text as a person can read it in one line of a terminal.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		return strconv.QuoteToASCII(text[:most]) + "…"
	}
	return strconv.QuoteToASCII(text)
}
