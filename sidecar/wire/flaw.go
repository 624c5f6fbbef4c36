package wire

// Flaw is what is wrong with the bytes of a message, where they can be read in
// more ways than one, or in none. As an error it is what a body's Read returns.
// The zero Flaw is none.
type Flaw uint8

// The flaws. What each is answered with on HTTP/1 stands beside it; on HTTP/2
// most reset the stream (RFC 9113 section 8.1.1).
const (
	FlawNone         Flaw = iota
	FlawRequestLine       // 400: not method, target and version with single spaces between
	FlawMethod            // 400: no token, or longer than 32 bytes
	FlawTarget            // 400: a form or a byte that no target has
	FlawTargetLength      // 414
	FlawVersion           // 505: not HTTP/1.1, or not this protocol at all
	FlawField             // 400: a field line that is malformed, folded, or named with an underscore
	FlawFieldSize         // 431: too many fields, or too much in them
	FlawHost              // 400: none, two, or not one host[:port]
	FlawLength            // 400: a content-length that is not one plain number, or not the body's
	FlawCoding            // 501: a transfer coding other than chunked, or two framings at once (400)
	FlawExpectation       // 417: an expectation other than 100-continue
	FlawChunk             // 400: a chunk that is malformed
	FlawTrailer           // 400: a trailer field that frames or routes
	FlawPseudo            // HTTP/2: pseudo-fields missing, repeated, unknown or out of order
	FlawSlow              // 408: a message that takes longer than its limit
)

var flaws = [...]struct {
	status int
	says   string
}{
	FlawNone:         {200, "nothing is wrong"},
	FlawRequestLine:  {400, "the request line is malformed"},
	FlawMethod:       {400, "the method is malformed"},
	FlawTarget:       {400, "the request target is malformed"},
	FlawTargetLength: {414, "the request target is too long"},
	FlawVersion:      {505, "the version is not spoken here"},
	FlawField:        {400, "a field line is malformed"},
	FlawFieldSize:    {431, "there are too many fields, or too much in them"},
	FlawHost:         {400, "the host is not one host[:port]"},
	FlawLength:       {400, "the content length is malformed, or not the body's"},
	FlawCoding:       {501, "the transfer coding is not only chunked"},
	FlawExpectation:  {417, "the expectation is not 100-continue"},
	FlawChunk:        {400, "a chunk is malformed"},
	FlawTrailer:      {400, "a trailer field may not be one"},
	FlawPseudo:       {400, "a pseudo-field is missing, repeated, unknown or out of order"},
	FlawSlow:         {408, "the message took too long"},
}

// Error says what is wrong.
func (f Flaw) Error() string { return flaws[f].says }

// Status is the HTTP status that answers it.
func (f Flaw) Status() int { return flaws[f].status }
