package h2

import (
	"errors"
	"net/http"

	"golang.org/x/net/http2/hpack"
)

// decoder turns header blocks into fields. What it holds is used for the next
// block again: the strings of a field outlive it, the slice does not.
type decoder struct {
	hpack    *hpack.Decoder
	maxBytes int
	maxCount int

	fields []hpack.HeaderField // of the block that was read last
	size   int                 // as RFC 9113 section 6.5.2 counts
	over   bool                // larger than allowed: the rest was decoded for the table's sake only

	names map[string]string // canonical spellings seen on this connection
}

const maxNames = 64

func newDecoder(limits *Limits) *decoder {
	d := &decoder{maxBytes: limits.HeaderBytes, maxCount: limits.Fields}
	d.hpack = hpack.NewDecoder(tableSize, d.emit)
	// No string is made that is much longer than one that could be accepted.
	d.hpack.SetMaxStringLength(limits.HeaderBytes)
	return d
}

func (d *decoder) begin() {
	clear(d.fields) // so that nothing of the last message is kept alive
	d.fields = d.fields[:0]
	d.size, d.over = 0, false
	d.hpack.SetEmitEnabled(true)
}

func (d *decoder) emit(f hpack.HeaderField) {
	d.size += int(f.Size())
	if d.size > d.maxBytes || len(d.fields) >= d.maxCount {
		d.over = true
		d.hpack.SetEmitEnabled(false)
		return
	}
	d.fields = append(d.fields, f)
}

// write decodes a fragment. tooLong is set when a string is longer than a whole
// list may be: the table is lost then, and the connection with it.
func (d *decoder) write(fragment []byte) (tooLong bool, err error) {
	_, err = d.hpack.Write(fragment)
	return errors.Is(err, hpack.ErrStringLength), err
}

func (d *decoder) end() error { return d.hpack.Close() }

// key is the canonical spelling of a lower-case name.
func (d *decoder) key(name string) string {
	if key, usual := canonical[name]; usual {
		return key
	}
	if key, seen := d.names[name]; seen {
		return key
	}
	key := http.CanonicalHeaderKey(name)
	if len(d.names) < maxNames && len(name) <= 64 {
		if d.names == nil {
			d.names = make(map[string]string)
		}
		d.names[name] = key
	}
	return key
}

// header is the fields as a map of its own, with cookie crumbs joined (RFC 9113
// section 8.2.3). They have been checked.
func (d *decoder) header(fields []hpack.HeaderField) http.Header {
	header := make(http.Header, len(fields))
	values := make([]string, len(fields))
	for i := range fields {
		key := d.key(fields[i].Name)
		has, again := header[key]
		switch {
		case !again:
			values[0] = fields[i].Value
			header[key], values = values[:1:1], values[1:]
		case key == "Cookie":
			has[0] += "; " + fields[i].Value
		default:
			header[key] = append(has, fields[i].Value)
		}
	}
	return header
}
