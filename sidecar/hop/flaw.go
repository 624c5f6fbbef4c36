package hop

import (
	"net/http"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/policy/match"
	"github.com/everyhop/everyhop/sidecar/wire"
)

// flaws are what each flaw of a message is called; one without is the request
// line's.
var flaws = [...]policy.Reason{
	wire.FlawRequestLine:  policy.RequestMalformed,
	wire.FlawMethod:       policy.MethodMalformed,
	wire.FlawTarget:       policy.TargetForm,
	wire.FlawTargetLength: policy.TargetTooLong,
	wire.FlawVersion:      policy.VersionRefused,
	wire.FlawField:        policy.HeaderMalformed,
	wire.FlawFieldSize:    policy.HeadersTooLarge,
	wire.FlawHost:         policy.HostMalformed,
	wire.FlawLength:       policy.BodyMalformed,
	wire.FlawCoding:       policy.CodingRefused,
	wire.FlawExpectation:  policy.ExpectationRefused,
	wire.FlawChunk:        policy.BodyMalformed,
	wire.FlawTrailer:      policy.BodyMalformed,
	wire.FlawPseudo:       policy.RequestMalformed,
	wire.FlawSlow:         policy.RequestSlow,
}

// Flawed is why a request is refused whose bytes are wrong.
func Flawed(r *http.Request, flaw wire.Flaw) policy.Reason {
	switch flaw {
	case wire.FlawTarget:
		if r.Method == http.MethodConnect { // whatever it asks for
			return policy.MethodRefused
		}
	case wire.FlawHost:
		if _, ok := match.Host(r.Host); ok && isAbsolute(r.RequestURI) { // then it is the target that names another
			return policy.HostMismatch
		}
	case wire.FlawCoding:
		if _, also := r.Header["Content-Length"]; also || r.ProtoMinor == 0 {
			return policy.BodyMalformed // two framings, or one that HTTP/1.0 has not
		}
	}
	if int(flaw) < len(flaws) && flaws[flaw] != policy.NoPolicy {
		return flaws[flaw]
	}
	return policy.RequestMalformed
}

func isAbsolute(target string) bool { return target != "" && target[0] != '/' && target != "*" }
