package forward

import (
	"net/http"
	"strings"
)

const (
	receivedBy = "everyhop"
	maxVia     = 1 << 10 // bytes; what is longer is begun anew
	maxHops    = 20
)

// via is our entry of Via (RFC 9110 section 7.6.3). All sidecars share one name,
// so that an answer does not draw a map; mark tells ours apart.
func via(major int, mark string) string {
	version := "1.1"
	if major == 2 {
		version = "2"
	}
	if mark == "" {
		return version + " " + receivedBy
	}
	return version + " " + receivedBy + " (" + mark + ")"
}

// Looped reports whether the request has been here before, or at so many hops
// that it must be going round. mark is this sidecar's, as in [Job.Via].
func Looped(header http.Header, mark string) bool {
	hops := 0
	for _, value := range header["Via"] {
		for entry := range strings.SplitSeq(value, ",") {
			if hops++; hops > maxHops {
				return true
			}
			_, comment, ok := strings.Cut(entry, " "+receivedBy+" (")
			if ok && mark != "" && strings.TrimSpace(comment) == mark+")" {
				return true
			}
		}
	}
	return false
}

func addVia(header http.Header, major int, mark string) {
	earlier := header["Via"]
	if len(earlier) == 0 {
		header["Via"] = []string{via(major, mark)}
		return
	}
	before := strings.Join(earlier, ", ")
	if before != "" && len(before) <= maxVia {
		before += ", "
	} else {
		before = ""
	}
	header["Via"] = []string{before + via(major, mark)}
}
