package forward

import (
	"errors"
	"net/http"
	"strconv"
)

// ErrMaxForwards is of a max-forwards that is no number.
var ErrMaxForwards = errors.New("max-forwards is no number")

const maxForwardsDigits = 10

// MaxForwards is how many times the request may still be forwarded, negative where
// it does not say. It is of OPTIONS (RFC 9110 section 7.6.2); TRACE is never
// forwarded, and with other methods the field is like any other.
func MaxForwards(r *http.Request) (int64, error) {
	if r.Method != http.MethodOptions {
		return -1, nil
	}
	values := r.Header["Max-Forwards"]
	if len(values) == 0 {
		return -1, nil
	}
	if len(values) > 1 || values[0] == "" || len(values[0]) > maxForwardsDigits || !all(values[0], isDigit) {
		return 0, ErrMaxForwards
	}
	return strconv.ParseInt(values[0], 10, 64)
}

// countDown is false where the request must not be forwarded, but answered here.
func countDown(r *http.Request, header http.Header) (goesOn bool) {
	left, err := MaxForwards(r)
	switch {
	case err != nil || left == 0:
		return false
	case left > 0:
		header["Max-Forwards"] = []string{strconv.FormatInt(left-1, 10)}
	}
	return true
}
