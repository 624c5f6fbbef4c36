package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// A connection has one timer, not one for each thing that may take too long. It
// fires every period, counts a tick, and compares it with the ticks at which
// things began. So a limit is kept to within a quarter.

// startSweeping begins it. mu is held.
func (c *conn) startSweeping(also func()) {
	period := c.times.period()
	c.under.Add(1)
	c.sweeper = time.AfterFunc(period, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.cause != nil {
			c.under.Done()
			return
		}
		c.sweep()
		if also != nil {
			also()
		}
		c.sweeper.Reset(period)
	})
}

// since is how long ago the tick was, at least.
func (c *conn) since(tick int64) time.Duration {
	return time.Duration(c.tick.Load()-tick-1) * c.times.period()
}

// sweep looks at everything that may take too long. mu is held.
func (c *conn) sweep() {
	c.tick.Add(1)
	c.glitches.earn(int(int64(c.limits.Glitches)*int64(c.times.period())/int64(10*time.Second)) + 1)
	switch begun, quiet := c.begun.Load(), c.since(c.lastRead.Load()); {
	case c.out.busy && c.since(c.out.since) >= c.times.Write:
		c.kill(errWriteSlow)
	case begun != 0 && c.since(begun) >= time.Duration(c.beginsAt.Load()):
		c.stop(connError(http2.ErrCodeEnhanceYourCalm, "a frame or a header block takes too long"))
	case !c.acked && c.since(1) >= c.times.SettingsAck:
		c.stop(connError(http2.ErrCodeSettingsTimeout, "our settings are not acknowledged"))
	case c.pinged != 0 && c.since(c.pinged) >= c.times.PingTimeout:
		c.kill(errSilent)
	case len(c.streams) > 0:
		c.lastBusy = c.tick.Load()
		if c.pinged == 0 && quiet >= c.times.Ping {
			c.pinged = c.tick.Load()
			c.out.ping(false, [8]byte([]byte(ownPing)))
			c.flushApart()
		}
	case c.since(c.lastBusy) >= c.times.Idle:
		c.closing = true
		c.out.goAway(c.lastPeerID(), http2.ErrCodeNo, "")
		c.stop(errClosed)
	}
	c.out.slim()
}
