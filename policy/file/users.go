package file

import (
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
)

// What is unsaid of an issuer.
const (
	defaultProfile = "generic"
	defaultLeeway  = 5 * time.Second
	maxLeeway      = 5 * time.Minute
)

var issuerTable = table[policy.Issuer]{
	is:       "an issuer",
	required: []string{"issuer", "audience", "keys", "algorithms"},
	fields: []field[policy.Issuer]{
		{"issuer", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.Issuer, _ = r.text(n) }},
		{"audience", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.Audience = distinct(r, n, text) }},
		{"keys", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.Keys = r.keys(n) }},
		{"ca", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.CA = r.path(n) }},
		{"algorithms", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.Algorithms = distinct(r, n, readAlgorithm) }},
		{"profile", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.Profile, _ = enum(defaultProfile, "rfc9068")(r, n) }},
		{"types", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.Types = distinct(r, n, text) }},
		{"leeway", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.Leeway, _ = r.durationOrZero(n, maxLeeway) }},
		{"max_lifetime", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.MaxLifetime = r.duration(n, aYear) }},
		{"max_age", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.MaxAge = r.duration(n, aYear) }},
		{"max_stale", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.MaxStale = r.duration(n, aYear) }},
		{"private", func(r *reader, n *yaml.Node, i *policy.Issuer) {
			private, _ := enum("allow")(r, n)
			i.Private = private == "allow"
		}},
		{"pin", func(r *reader, n *yaml.Node, i *policy.Issuer) { i.Pin = distinct(r, n, readThumbprint) }},
	},
}

func readIssuer(r *reader, key, value *yaml.Node) (policy.Issuer, bool) {
	i := policy.Issuer{
		Pos: r.pos(key), Name: key.Value, Profile: defaultProfile,
		Leeway: defaultLeeway, MaxLifetime: aDay, MaxStale: aDay,
	}
	r.key = "users"
	return i, r.name(key) && issuerTable.read(r, value, &i)
}

var names = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

// name checks a name that the file gives to an issuer or a call. A call's is
// used as a host, so that it is in lower case.
func (r *reader) name(key *yaml.Node) bool {
	if !names.MatchString(key.Value) {
		r.refuseValue(key, show(key.Value)+" is not a name", "use lower-case letters, digits, dots and dashes, 64 at most")
		return false
	}
	return true
}

var schemed = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// keys is where the issuer's keys are: an https URL, or a file.
func (r *reader) keys(n *yaml.Node) string {
	const hint = "write an https:// address, or the path of a file"
	text, ok := r.text(n)
	if ok && schemed.MatchString(text) && !r.https(n, text, true, hint) {
		return ""
	}
	return text
}

// path is a path of a file, relative to the policy's folder or not.
func (r *reader) path(n *yaml.Node) string {
	text, ok := r.text(n)
	if ok && (schemed.MatchString(text) || strings.HasSuffix(text, "/")) {
		r.refuseValue(n, show(text)+" is not a path of a file", "write one, relative to the policy or from /")
		return ""
	}
	return text
}

var asymmetric = []string{"ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}

func readAlgorithm(r *reader, n *yaml.Node) (string, bool) {
	text, ok := r.raw(n)
	if !ok {
		return "", false
	}
	hint := "use some of " + strings.Join(asymmetric, ", ")
	switch {
	case strings.EqualFold(text, "none"):
		r.refuseValue(n, show(text)+" is no signature at all", hint)
		return "", false
	case strings.HasPrefix(strings.ToUpper(text), "HS"):
		r.refuseValue(n, show(text)+" is symmetric: who can check a token could make one", hint)
		return "", false
	}
	return enum(asymmetric...)(r, n)
}

var thumbprints = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// readThumbprint is the thumbprint of a key: RFC 7638 with SHA-256.
func readThumbprint(r *reader, n *yaml.Node) (string, bool) {
	return matching(thumbprints, "a thumbprint of a key", "write the SHA-256 thumbprint of RFC 7638: 43 characters of base64url")(r, n)
}
