package file

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/everyhop/everyhop/policy"
)

// Bounds of durations: what is longer is a typing error, or means never.
const (
	anHour = time.Hour
	aDay   = 24 * time.Hour
	aYear  = 366 * aDay
)

var (
	durations = regexp.MustCompile(`^([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?([0-9]{1,9}ms)?$`)
	digits    = regexp.MustCompile(`^[0-9]+$`)
	rates     = regexp.MustCompile(`^([1-9][0-9]{0,9})/([smh])$`)
	sizes     = regexp.MustCompile(`^([1-9][0-9]{0,9})(B|KiB|MiB|GiB)$`)
	percents  = regexp.MustCompile(`^([1-9][0-9]?|100)%$`)
)

// duration is a time with its unit, above zero and at most most.
func (r *reader) duration(n *yaml.Node, most time.Duration) time.Duration {
	d, ok := r.durationOrZero(n, most)
	if ok && d == 0 {
		r.refuseValue(n, n.Value+" is no time at all", "to leave it as it is by default, remove the key")
	}
	return d
}

func (r *reader) durationOrZero(n *yaml.Node, most time.Duration) (time.Duration, bool) {
	text, ok := r.raw(n)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	switch {
	case digits.MatchString(text):
		r.refuseValue(n, short(text)+" has no unit", "write "+short(text)+"s for seconds; the units are ms, s, m, h")
	case err != nil || !durations.MatchString(text):
		r.refuseValue(n, show(text)+" is not a duration", "write a whole number and a unit: 500ms, 5s, 10m, 24h")
	case d > most:
		r.refuseValue(n, text+" is more than "+shortest(most), "write a time up to that")
	default:
		return d, true
	}
	return 0, false
}

// shortest is d without its zero units, as a file would have it.
func shortest(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

// rate is so many in a second, a minute or an hour.
func (r *reader) rate(n *yaml.Node) policy.Rate {
	text, ok := r.raw(n)
	if !ok {
		return policy.Rate{}
	}
	parts := rates.FindStringSubmatch(text)
	switch {
	case parts == nil && digits.MatchString(text):
		r.refuseValue(n, short(text)+" has no unit", "write "+short(text)+"/s; the units are /s, /m, /h")
		return policy.Rate{}
	case parts == nil:
		hint := "write a whole number from 1 and a unit: 50/s, 100/m, 10/h"
		if strings.HasPrefix(text, "0/") {
			hint += "; to let nothing pass, remove the grant"
		}
		r.refuseValue(n, show(text)+" is not a rate", hint)
		return policy.Rate{}
	}
	events, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || events > maxCount {
		r.refuseValue(n, text+" is too large", fmt.Sprintf("write at most %d", maxCount))
		return policy.Rate{}
	}
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[parts[2]]
	return policy.Rate{Events: uint32(events), Per: per}
}

// noBound is what max: none comes to.
const noBound = -1

// maxBytes bounds sizes that are not none.
const maxBytes = 1 << 40

// size is a number of bytes with its unit, or none for no bound.
func (r *reader) size(n *yaml.Node) int64 {
	text, ok := r.raw(n)
	parts := sizes.FindStringSubmatch(text)
	switch {
	case !ok:
		return 0
	case text == "none":
		return noBound
	case digits.MatchString(text):
		r.refuseValue(n, short(text)+" has no unit", "write "+short(text)+"B for bytes; the units are B, KiB, MiB, GiB")
		return 0
	case parts == nil:
		r.refuseValue(n, show(text)+" is not a size", "write a whole number from 1 and a unit: 512B, 64KiB, 8MiB, 1GiB; or none")
		return 0
	}
	unit := map[string]int64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[parts[2]]
	number, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || number > maxBytes/unit {
		r.refuseValue(n, text+" is more than 1024GiB", "write none to have no bound")
		return 0
	}
	return number * unit
}

// percent is a whole number from 1% to 100%.
func (r *reader) percent(n *yaml.Node) uint32 {
	text, ok := r.raw(n)
	parts := percents.FindStringSubmatch(text)
	if ok && parts == nil {
		r.refuseValue(n, show(text)+" is not a share", "write 1% to 100%")
	}
	if parts == nil {
		return 0
	}
	number, _ := strconv.ParseUint(parts[1], 10, 32) // the expression lets nothing else pass
	return uint32(number)
}

// instant is a moment as RFC 3339 writes it, with its zone.
func (r *reader) instant(n *yaml.Node) (time.Time, bool) {
	text, ok := r.raw(n)
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		r.refuseValue(n, show(text)+" is not a moment of RFC 3339", "write date, time and zone, as in 2026-12-01T00:00:00Z")
	}
	return t, err == nil
}
