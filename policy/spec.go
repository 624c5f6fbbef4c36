package policy

import (
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/everyhop/everyhop/policy/match"
)

// Spec is a policy file as typed values with positions. policy/file makes it
// from bytes, [Compile] makes a [Snapshot] of it. No string in it can be wrong
// any more, but names may still point nowhere: that is for Compile to find.
type Spec struct {
	File     string // the path as given, for positions
	Digest   string // SHA-256 of the file's bytes in lower-case hexadecimal
	Service  spiffeid.ID
	App      *App // nil: the service only calls
	Users    []Issuer
	Types    []NamedType
	TLS      TLS
	Limit    *ServiceLimit
	Timeouts Timeouts
	Ban      []Ban
	Allow    []Grant
	Calls    []Call
	Tests    []Test
	Never    []Never
}

// AppKind is how the local app is spoken to.
type AppKind uint8

// The kinds of app. The zero kind is none.
const (
	AppHTTP AppKind = iota + 1 // http:// or unix://: HTTP/1.1
	AppH2C                     // h2c://: HTTP/2 with prior knowledge
	AppTCP                     // tcp://: bytes
)

// App is the local app that inbound requests are forwarded to.
type App struct {
	Pos     Pos
	Kind    AppKind
	Network string // "tcp" or "unix"
	Address string // host:port, or the socket's path
}

// Issuer is one entry of users: whose end-user tokens are believed.
type Issuer struct {
	Pos         Pos
	Name        string
	Issuer      string
	Audience    []string
	Keys        string // https URL or file path
	CA          string
	Algorithms  []string
	Profile     string        // "generic" if unsaid, or "rfc9068"
	Types       []string      // accepted typ
	Leeway      time.Duration // 5s if unsaid
	MaxLifetime time.Duration // 24h if unsaid
	MaxAge      time.Duration // 0: not checked
	MaxStale    time.Duration // 24h if unsaid
	Private     bool          // private: allow
	Pin         []string
}

// NamedType is one entry of types: a path or input type by regular expression.
type NamedType struct {
	Pos  Pos
	Name string
	Type match.Type
}

// ALPN protocol names offered on mTLS connections.
const (
	ProtoH2    = "h2"
	ProtoHTTP1 = "http/1.1"
)

// TLS is tls: what a handshake must be besides TLS 1.3 with both certificates.
type TLS struct {
	Pos       Pos
	ALPN      []string // both protocols, h2 first, if unsaid
	RequirePQ bool     // pq: require
}

// Timeouts is timeouts: on the service. Parse fills in the defaults.
type Timeouts struct {
	Pos                                   Pos
	Handshake, Headers, Body, Write, Idle time.Duration
}

// DefaultTimeouts is what is unsaid in timeouts:.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Handshake: 10 * time.Second,
		Headers:   10 * time.Second,
		Body:      30 * time.Second,
		Write:     30 * time.Second,
		Idle:      60 * time.Second,
	}
}

// Rate is N in a unit of time: 50/s is {50, time.Second}. The zero Rate is none.
type Rate struct {
	Events uint32
	Per    time.Duration
}

// ServiceLimit is the top-level limit:.
type ServiceLimit struct {
	Pos       Pos
	Rate      Rate
	Burst     uint32
	InFlight  uint32
	PerCaller Rate
	Shared    string
}

// GrantLimit is limit: on a grant or call.
type GrantLimit struct {
	Pos       Pos
	Rate      Rate // a call's plain `limit: 100/s`
	PerCaller Rate
	PerUser   Rate
	Burst     uint32
	InFlight  uint32
	Shared    string
}

// Ban is one SPIFFE ID or pattern refused whatever else is said.
type Ban struct {
	Pos Pos
	ID  match.Caller
}

// Caller is one entry of from:.
type Caller struct {
	Pos     Pos
	Pattern match.Caller
}

// Route is one entry of to: or of a call's allow:.
type Route struct {
	Pos    Pos
	Method string     // an HTTP token, upper and lower case kept; "tcp" routes have none
	Path   match.Path // compiled with the file's named types
	TCP    bool       // to: tcp
}

// String is the route as written: its method and template.
func (r Route) String() string {
	if r.TCP {
		return tcpRoute
	}
	return r.Method + " " + r.Path.String()
}

// template is the route without its method.
func (r Route) template() string {
	if r.TCP {
		return tcpRoute
	}
	return r.Path.String()
}

// Grant is one entry of allow: a conjunction that lets a request pass.
type Grant struct {
	Pos     Pos
	Name    string // never empty: the first route's text if unsaid
	From    []Caller
	To      []Route
	User    *UserRule
	Where   *Text
	Host    []Text
	Query   []Input
	Headers []Input // names in lower case
	Strict  bool    // undeclared headers refuse instead of being dropped
	Cookies []Text
	Body    *BodyRule
	CORS    *CORSRule
	Limit   *GrantLimit
	When    *When
	Until   *Until
	Because string
	Timeout time.Duration // 0: none
	Shadow  bool
	Upgrade *Text // "websocket"; nil: no request may switch protocols
}

// Text is a string with its place.
type Text struct {
	Pos  Pos
	Text string
}

// Until is the end of a grant.
type Until struct {
	Pos  Pos
	Time time.Time
}

// UserRule is user: what the end user's token must say.
type UserRule struct {
	Pos        Pos
	Of         Text
	Scopes     []string
	Claims     []Claim
	Roles      []string
	ACR        []string
	AMR        []string
	AuthWithin time.Duration
	Forward    bool     // hand the token itself to the app
	Tell       []string // claims told to the app as everyhop-claim-NAME
}

// Claim is one claim that must be there with exactly this value.
type Claim struct {
	Pos   Pos
	Name  string
	Value any // string, bool, int64
}

// Input is a declared query parameter or header.
type Input struct {
	Pos      Pos
	Name     string
	Required bool
	Repeated bool
	Typed    bool // has any of what follows
	Type     match.Type
	OneOf    []string
	Min, Max *int64
}

// DefaultBodyMax is what body: {max: …} is if unsaid, in bytes.
const DefaultBodyMax = 8 << 20

// BodyRule is body: on a grant.
type BodyRule struct {
	Pos    Pos
	Types  []string // media types in lower case, without parameters; empty: any
	Max    int64    // bytes; -1: no bound (max: none)
	Schema *Text    // a JSON Schema's path, as written
}

// CORSRule is cors: on a grant.
type CORSRule struct {
	Pos         Pos
	Origins     []string
	Credentials bool
	MaxAge      time.Duration
}

// When narrows a grant to times and sources.
type When struct {
	Pos   Pos
	Days  Days // none: every day
	Hours Hours
	Zone  string         // of the IANA database; there where days or hours are
	CIDR  []netip.Prefix // empty: from anywhere
}

// Endpoint is one entry of a call's at:.
type Endpoint struct {
	Pos  Pos
	Text string // host:port; srv:_name; https://host
}

// Call is one entry of calls: where the app may call, and who must answer.
type Call struct {
	Pos     Pos
	Name    string
	As      spiffeid.ID // zero for a web PKI call
	At      []Endpoint
	Local   *Local // nil: only by name on the shared port
	Allow   []Route
	Limit   *GrantLimit
	Timeout time.Duration // 0: none
	Retry   *Retry
	TCP     bool
	Upgrade *Text // as of a grant
}

// Local is where the app dials for a call: loopback or a unix socket.
type Local struct {
	Pos     Pos
	Network string // "tcp" or "unix"
	Address string
}

// Retry is retry: on a call.
type Retry struct {
	Pos    Pos
	On     []string
	AtMost uint32
	Budget uint32 // percent
}

// Test is one entry of tests: an example that must hold.
type Test struct {
	Pos    Pos
	As     spiffeid.ID
	At     time.Time      // zero: when the tests are run
	FromIP netip.Addr     // zero: unknown
	User   map[string]any // nil: no user
	Method string
	Target string // origin-form, with its query
	TCP    bool   // do: tcp, which has neither method nor target
	Expect Reason // Allowed, or the reason of the denial
}

// Never is one entry of never: a statement that must not hold.
type Never struct {
	Pos  Pos
	From *match.Caller // nil: anyone
	To   Route
}
