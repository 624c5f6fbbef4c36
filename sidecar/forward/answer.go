package forward

import "net/http"

// copyHead copies the fields of an answer that go on.
func copyHead(to http.Header, answer *http.Response) {
	named := connectionTokens(answer.Header)
	for name, values := range answer.Header {
		if passesBack(name, named) {
			to[name] = values
		}
	}
}

// copyTrailers copies the trailers of an answer that has been read to its end.
// They were not announced: the upstream may not have done so either.
func copyTrailers(to http.Header, answer *http.Response) {
	for name, values := range answer.Trailer {
		if passesBack(name, nil) && !framing(name) {
			to[http.TrailerPrefix+name] = values
		}
	}
}

func passesBack(name string, named []string) bool {
	return !hopByHop(name) && !ofAnswer(name) && !names(named, name)
}
