package h2

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/net/http2"

	"github.com/everyhop/everyhop/sidecar/wire"
)

const (
	tinyUpdate = 1 << 10    // a window update below it is of little use
	usefulData = 256        // bytes of DATA that earn something
	ownPing    = "h2 alive" // of our keep-alive
)

// read reads frames until the connection ends, and returns why.
func (c *conn) read() error {
	for {
		if err := c.readFrame(); err != nil {
			return err
		}
		c.begun.Store(0)
		c.lastRead.Store(c.tick.Load())
	}
}

func (c *conn) readFrame() error {
	if err := c.await(); err != nil {
		return err
	}
	c.begin(c.times.Headers.Nanoseconds())
	fh, err := c.framer.ReadFrameHeader()
	if err != nil {
		return c.framing(err)
	}
	if c.first {
		if fh.Type != http2.FrameSettings || fh.Flags.Has(http2.FlagSettingsAck) {
			return connError(http2.ErrCodeProtocol, "the first frame is not SETTINGS")
		}
		c.first = false
	}
	switch fh.Type {
	case http2.FrameData:
		c.begin(c.times.Write.Nanoseconds())
		return c.readData(fh)
	case http2.FrameHeaders:
		return c.readBlock(fh)
	case http2.FrameWindowUpdate, http2.FrameRSTStream, http2.FrameSettings, http2.FramePing, http2.FrameGoAway,
		http2.FramePriority, http2.FramePushPromise:
		return c.readControl(fh)
	default: // to be skipped: RFC 9113 section 5.5; PRIORITY_UPDATE of RFC 9218 among them
		if err := skip(c.br, int(fh.Length)); err != nil {
			return err
		}
		return c.useless()
	}
}

// begin starts the time that a frame, or a block of frames, may take.
func (c *conn) begin(limit int64) {
	c.beginsAt.Store(limit)
	c.begun.Store(c.tick.Load())
}

// framing is the framer's word in ours.
func (c *conn) framing(err error) error {
	var code http2.ConnectionError
	switch {
	case errors.Is(err, http2.ErrFrameTooLarge):
		return connError(http2.ErrCodeFrameSize, "a frame is larger than 16 KiB")
	case errors.As(err, &code):
		reason := "a frame is malformed"
		if detail := c.framer.ErrorDetail(); detail != nil {
			reason = detail.Error()
		}
		return connError(http2.ErrCode(code), reason)
	}
	return err
}

// useless counts a frame that carried nothing.
func (c *conn) useless() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uselessLocked()
}

func (c *conn) uselessLocked() error {
	if !c.glitches.spend(1) {
		return connError(http2.ErrCodeEnhanceYourCalm, "too many frames of no use")
	}
	return nil
}

// faulty resets the stream of that id, known or not, and counts it.
func (c *conn) faulty(id uint32, code http2.ErrCode, cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faultyLocked(id, code, cause)
}

func (c *conn) faultyLocked(id uint32, code http2.ErrCode, cause error) error {
	if s := c.streams[id]; s != nil {
		c.abort(s, code, &StreamError{Code: code, Cause: cause})
	} else {
		c.forget(id)
		c.out.rst(id, code)
	}
	c.flushApart()
	return c.uselessLocked()
}

// stray is a frame for a stream that is not in the map.
func (c *conn) stray(id uint32) error {
	switch {
	case c.isIdle(id):
		return connError(http2.ErrCodeProtocol, "a frame is for a stream that was never opened")
	case c.forgotten(id):
		return nil // it was on its way when we reset the stream
	}
	return c.faultyLocked(id, http2.ErrCodeStreamClosed, nil)
}

// isIdle reports whether the stream has not been opened yet. mu is held.
func (c *conn) isIdle(id uint32) bool { return id%2 == 0 || id > c.maxID }

func (c *conn) readData(fh http2.FrameHeader) error {
	if fh.StreamID == 0 {
		return connError(http2.ErrCodeProtocol, "DATA is for no stream")
	}
	padding, overhead, err := c.padding(fh)
	if err != nil {
		return err
	}
	n := int(fh.Length) - overhead
	s, err := c.admitData(fh, int64(n))
	if s == nil {
		if err := skip(c.br, n+padding); err != nil {
			return err
		}
		c.creditApart(nil, int(fh.Length))
		return err
	}
	end := fh.Flags.Has(http2.FlagDataEndStream)
	kept, err := s.in.fill(c.br, n, end)
	if err != nil {
		return err
	}
	if err := skip(c.br, padding); err != nil {
		return err
	}
	unread := overhead
	if !kept {
		unread = int(fh.Length)
	}
	c.creditApart(s, unread)
	if s.left >= 0 {
		s.left -= int64(n)
	}
	if end {
		return c.endRemote(s, nil)
	}
	return c.weigh(n)
}

// bodyFollows reports whether body of the stream has come, behind the frame that
// was read last. Who waits for the stream is told of both at once then: woken
// twice, it would find nothing the first time and wait again.
func (c *conn) bodyFollows(id uint32) bool {
	if c.br.Buffered() < frameHead {
		return false
	}
	p, err := c.br.Peek(frameHead)
	if err != nil || http2.FrameType(p[3]) != http2.FrameData || http2.Flags(p[4]).Has(http2.FlagDataPadded) {
		return false
	}
	n := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
	return n > 0 && c.br.Buffered() >= frameHead+n && binary.BigEndian.Uint32(p[5:])&maxID == id
}

const frameHead = 9 // bytes before a frame's payload: RFC 9113 section 4.1

func skip(from *bufio.Reader, n int) error {
	_, err := from.Discard(n)
	return err
}

// padding is how many bytes of padding follow the data, and how many bytes of the
// frame are no data at all.
func (c *conn) padding(fh http2.FrameHeader) (padding, overhead int, err error) {
	if !fh.Flags.Has(http2.FlagDataPadded) {
		return 0, 0, nil
	}
	if fh.Length == 0 {
		return 0, 0, connError(http2.ErrCodeFrameSize, "padded, and empty")
	}
	length, err := c.br.ReadByte()
	if err != nil {
		return 0, 0, err
	}
	padding, overhead = int(length), int(length)+1
	if overhead > int(fh.Length) {
		return 0, 0, connError(http2.ErrCodeProtocol, "there is more padding than frame")
	}
	return padding, overhead, nil
}

// admitData counts the frame against the windows, and finds the stream it is for.
func (c *conn) admitData(fh http2.FrameHeader, data int64) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	length := int64(fh.Length)
	if c.recvWindow -= length; c.recvWindow < 0 {
		return nil, connError(http2.ErrCodeFlowControl, "the connection's window is exceeded")
	}
	s := c.streams[fh.StreamID]
	if s == nil {
		return nil, c.stray(fh.StreamID)
	}
	if s.remoteDone {
		return nil, c.faultyLocked(s.id, http2.ErrCodeStreamClosed, nil)
	}
	if s.recvWindow -= length; s.recvWindow < 0 {
		return nil, c.faultyLocked(s.id, http2.ErrCodeFlowControl, nil)
	}
	if s.call != nil && !s.call.headed {
		return nil, c.faultyLocked(s.id, http2.ErrCodeProtocol, wire.FlawPseudo)
	}
	if s.left >= 0 && data > s.left {
		return nil, c.faultyLocked(s.id, http2.ErrCodeProtocol, wire.FlawLength)
	}
	return s, nil
}

// creditApart is credit for the reader.
func (c *conn) creditApart(s *stream, n int) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.creditLocked(s, n, false) {
		c.flushApart()
	}
}

// weigh counts a DATA frame that ended nothing.
func (c *conn) weigh(n int) error {
	if n == 0 {
		return c.useless()
	}
	if n >= usefulData {
		c.mu.Lock()
		c.glitches.earn(1)
		c.mu.Unlock()
	}
	return nil
}

func (c *conn) readControl(fh http2.FrameHeader) error {
	f, err := c.framer.ReadFrameForHeader(fh)
	if err != nil {
		var stream http2.StreamError
		if errors.As(err, &stream) { // a window update of nothing
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.isIdle(stream.StreamID) {
				return connError(http2.ErrCodeProtocol, "a frame is for a stream that was never opened")
			}
			return c.faultyLocked(stream.StreamID, stream.Code, nil)
		}
		return c.framing(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		return c.onPing(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.GoAwayFrame:
		return c.onGoAway(f)
	case *http2.PushPromiseFrame:
		return connError(http2.ErrCodeProtocol, "nobody may push here")
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return connError(http2.ErrCodeProtocol, "a stream depends on itself")
		}
	}
	return c.uselessLocked()
}

func (c *conn) onPing(f *http2.PingFrame) error {
	if !f.IsAck() {
		c.out.ping(true, f.Data)
		c.flushApart()
		return c.uselessLocked()
	}
	if c.pinged == 0 {
		return c.uselessLocked()
	}
	c.pinged = 0
	if c.ponged != nil {
		c.ponged()
	}
	return nil
}

func (c *conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if c.sendWindow += int64(f.Increment); c.sendWindow > maxWindow {
			return connError(http2.ErrCodeFlowControl, "the connection's window overflows")
		}
		c.wakeSenders()
		return c.weighUpdate(f.Increment)
	}
	s := c.streams[f.StreamID]
	if s == nil {
		if c.isIdle(f.StreamID) {
			return connError(http2.ErrCodeProtocol, "a window is for a stream that was never opened")
		}
		return c.uselessLocked()
	}
	if s.sendWindow += int64(f.Increment); s.sendWindow > maxWindow {
		return c.faultyLocked(s.id, http2.ErrCodeFlowControl, nil)
	}
	s.wakeSender()
	return c.weighUpdate(f.Increment)
}

func (c *conn) weighUpdate(increment uint32) error {
	if increment < tinyUpdate {
		return c.uselessLocked()
	}
	return nil
}

func (c *conn) onReset(f *http2.RSTStreamFrame) error {
	s := c.streams[f.StreamID]
	if s == nil {
		if c.isIdle(f.StreamID) {
			return connError(http2.ErrCodeProtocol, "a reset is for a stream that was never opened")
		}
		return c.uselessLocked()
	}
	// A server gave no reason to count: what it resets we have asked for.
	counts := !c.client && !s.localDone
	c.drop(s, &StreamError{Code: f.ErrCode, Remote: true})
	if counts {
		return c.uselessLocked()
	}
	return nil
}

// onSettings takes the peer's settings as they stand (RFC 9113 section 6.5.2).
func (c *conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		if c.acked {
			return connError(http2.ErrCodeProtocol, "settings are acknowledged that were not sent")
		}
		c.acked = true
		return nil
	}
	if f.NumSettings() > maxSettings || f.HasDuplicates() {
		return connError(http2.ErrCodeProtocol, "there are too many settings, or one twice")
	}
	if err := f.ForeachSetting(c.onSetting); err != nil {
		return err
	}
	c.out.settingsAck()
	c.flushApart()
	if c.settled != nil {
		c.settled()
	}
	return c.uselessLocked()
}

func (c *conn) onSetting(s http2.Setting) error {
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.out.enc.SetMaxDynamicTableSizeLimit(min(s.Val, tableSize))
	case http2.SettingEnablePush:
		if s.Val > 1 || s.Val == 1 && c.client {
			return connError(http2.ErrCodeProtocol, "ENABLE_PUSH is neither 0 nor 1")
		}
	case http2.SettingMaxConcurrentStreams:
		c.peer.streams = s.Val
	case http2.SettingInitialWindowSize:
		return c.onInitialWindow(int64(s.Val))
	case http2.SettingMaxFrameSize: // of which we use the least that there may be
		if s.Val < frameSize || s.Val > 1<<24-1 {
			return connError(http2.ErrCodeProtocol, "MAX_FRAME_SIZE is out of its range")
		}
	case http2.SettingMaxHeaderListSize:
		c.peer.headerBytes = s.Val
	case http2.SettingEnableConnectProtocol:
		if s.Val > 1 || s.Val == 0 && c.peer.extended {
			return connError(http2.ErrCodeProtocol, "ENABLE_CONNECT_PROTOCOL is neither 0 nor 1, or taken back")
		}
		c.peer.extended = s.Val == 1
	}
	return nil
}

// onInitialWindow changes the window of every stream by the difference; that may
// make it negative (RFC 9113 section 6.9.2).
func (c *conn) onInitialWindow(v int64) error {
	if v > maxWindow {
		return connError(http2.ErrCodeFlowControl, "INITIAL_WINDOW_SIZE is out of its range")
	}
	change := v - c.peer.window
	c.peer.window = v
	for _, s := range c.streams {
		if s.sendWindow += change; s.sendWindow > maxWindow {
			return connError(http2.ErrCodeFlowControl, "the window of a stream overflows")
		}
		s.wakeSender()
	}
	return nil
}

func (c *conn) onGoAway(f *http2.GoAwayFrame) error {
	if f.ErrCode != http2.ErrCodeNo {
		reason := string(f.DebugData()[:min(len(f.DebugData()), 128)])
		c.wentAway(f.LastStreamID, &ConnError{Code: f.ErrCode, Reason: reason, Remote: true})
		return c.uselessLocked()
	}
	c.wentAway(f.LastStreamID, nil)
	return c.uselessLocked()
}

// endRemote is END_STREAM of the peer, with its trailers if there were any.
func (c *conn) endRemote(s *stream, trailer trailers) error {
	if s.left > 0 {
		return c.faulty(s.id, http2.ErrCodeProtocol, wire.FlawLength)
	}
	c.mu.Lock()
	// First out of the map, then told: whoever reads the end may make the next
	// request at once.
	s.remoteDone = true
	if s.localDone {
		c.complete(s)
	}
	c.mu.Unlock()
	s.in.finish(io.EOF, trailer)
	return nil
}
