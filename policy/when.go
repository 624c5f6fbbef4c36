package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	_ "time/tzdata" // a file means the same on a machine without the database
)

// Days is a set of days of the week. The zero Days is none.
type Days uint8

const everyDay Days = 1<<7 - 1

// With is d and that day.
func (d Days) With(day time.Weekday) Days { return d | 1<<day }

// Has reports whether that day is one of d.
func (d Days) Has(day time.Weekday) bool { return d&(1<<day) != 0 }

// String is the days as a file could name them, from Monday: mon-wed,sun.
func (d Days) String() string {
	var names []string
	for i := 1; i <= 7; i++ {
		first := i
		for i < 7 && d.Has(time.Weekday(i)) && d.Has(time.Weekday((i+1)%7)) {
			i++
		}
		switch {
		case first < i:
			names = append(names, dayName(first)+"-"+dayName(i))
		case d.Has(time.Weekday(i % 7)):
			names = append(names, dayName(i))
		}
	}
	return strings.Join(names, ",")
}

// dayName is that of a day of the week, Monday being 1 and Sunday 7.
func dayName(day int) string { return strings.ToLower(time.Weekday(day % 7).String()[:3]) }

// Hours is a stretch of the day, in minutes by the clock on the wall, From
// included and To not. One that does not end after it begins goes on past
// midnight. The zero Hours is the whole day.
type Hours struct {
	From, To int
}

const dayEnd = 24 * 60

// String is the hours as a file has them: 22:00-06:00.
func (h Hours) String() string {
	return fmt.Sprintf("%02d:%02d-%02d:%02d", h.From/60, h.From%60, h.To/60, h.To%60)
}

// window is a compiled when:. The zero window is always open, to everyone.
type window struct {
	zone  *time.Location // nil: at any time
	days  Days
	hours Hours
	from  []netip.Prefix // empty: from anywhere
}

// openAt goes by the clock on the wall: an hour that a change to summer time
// leaves out is not there, and one that comes twice is open twice. Hours past
// midnight belong to the day on which they began.
func (w *window) openAt(now time.Time) bool {
	if w.zone == nil {
		return true
	}
	day, minute := w.wall(now)
	return w.open(day, minute)
}

func (w *window) wall(now time.Time) (day time.Weekday, minute int) {
	local := now.In(w.zone)
	return local.Weekday(), local.Hour()*60 + local.Minute()
}

func (w *window) open(day time.Weekday, minute int) bool {
	if w.hours.From < w.hours.To {
		return w.days.Has(day) && w.hours.From <= minute && minute < w.hours.To
	}
	yesterday := (day + 6) % 7
	return w.days.Has(day) && minute >= w.hours.From || w.days.Has(yesterday) && minute < w.hours.To
}

// changes is the first moment after now at which the window could close: the end
// of its hours or of the day, or a change of the zone's clock. Zero: never.
func (w *window) changes(now time.Time) time.Time {
	if w.zone == nil {
		return time.Time{}
	}
	local := now.In(w.zone)
	_, minute := w.wall(now)
	left := dayEnd - minute
	if minute < w.hours.To {
		left = w.hours.To - minute
	}
	since := time.Duration(local.Second())*time.Second + time.Duration(local.Nanosecond())
	end := now.Add(time.Duration(left)*time.Minute - since)
	if _, shift := local.ZoneBounds(); !shift.IsZero() && shift.Before(end) {
		return shift
	}
	return end
}

// names reports whether the window is open to that address.
func (w *window) names(source netip.Addr) bool {
	if len(w.from) == 0 {
		return true
	}
	source = source.Unmap().WithZone("")
	for _, network := range w.from {
		if network.Contains(source) {
			return true
		}
	}
	return false
}

// covers reports whether v is open only where w is, too. Windows of two zones
// are not compared: how their clocks stand to each other changes.
func (w *window) covers(v *window) bool {
	if !w.coversSources(v) || w.zone == nil {
		return w.coversSources(v)
	}
	if v.zone == nil || w.zone.String() != v.zone.String() {
		return w.days == everyDay && w.hours == Hours{0, dayEnd}
	}
	for day := time.Sunday; day <= time.Saturday; day++ {
		for minute := range dayEnd {
			if v.open(day, minute) && !w.open(day, minute) {
				return false
			}
		}
	}
	return true
}

func (w *window) coversSources(v *window) bool {
	if len(w.from) == 0 {
		return true
	}
	for _, inner := range v.from {
		if !w.holds(inner) {
			return false
		}
	}
	return len(v.from) > 0
}

func (w *window) holds(inner netip.Prefix) bool {
	for _, outer := range w.from {
		if outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr()) {
			return true
		}
	}
	return false
}

// says is the time that the window asks for, for a person.
func (w *window) says() string {
	text := w.hours.String()
	if w.days != everyDay {
		text = w.days.String() + " " + text
	}
	return text + " " + w.zone.String()
}

func (w *window) networks() []string {
	list := make([]string, len(w.from))
	for i, network := range w.from {
		list[i] = network.String()
	}
	return list
}

// window compiles when:, whose zone is looked up here, once.
func (c *compiler) window(when *When) (w window) {
	if when == nil {
		return w
	}
	for _, network := range when.CIDR {
		if !network.IsValid() || network.Addr().Is4In6() {
			c.problem(when.Pos, "cidr: "+network.String()+" is no network", "write it as in 10.0.0.0/8")
		}
	}
	w.from = when.CIDR
	timed := when.Days != 0 || when.Hours != Hours{}
	switch {
	case timed && when.Zone == "":
		c.problem(when.Pos, "when: has no zone:", "add where the clock hangs, as in zone: UTC")
		return w
	case !timed && len(when.CIDR) == 0:
		c.problem(when.Pos, "when: says neither a time nor a network", "remove it, or add days:, hours: or cidr:")
		return w
	case !timed:
		return w
	}
	zone, err := time.LoadLocation(when.Zone)
	if err != nil {
		c.problem(when.Pos, "zone: there is no time zone "+when.Zone, "write its name in the IANA database, as in Europe/Madrid, or UTC")
		return w
	}
	w.zone, w.days, w.hours = zone, when.Days, when.Hours
	if w.days == 0 {
		w.days = everyDay
	}
	if w.hours == (Hours{}) {
		w.hours = Hours{0, dayEnd}
	}
	return w
}
