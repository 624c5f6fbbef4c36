package forward

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The close codes that a [WebSocket] is closed with: RFC 6455 section 7.4.1.
const (
	GoingAway       = 1001
	PolicyViolation = 1008
)

const (
	goodbyeTime = time.Second      // for both ends to leave, once they were asked to
	halfTime    = 30 * time.Second // for one end to say more, when the other has ended
	smallBuffer = 4 << 10          // of a socket that says little, for each direction
)

// WebSocket is an open tunnel of WebSocket frames. It may say nothing for ever. An
// end that takes no byte for the Job's Write breaks it.
type WebSocket struct {
	in, out socketHalf
	half    atomic.Bool   // one end has nothing more to say
	leaving atomic.Bool   // a close frame has passed: from there on nothing is lost
	status  atomic.Uint32 // what it is closed with; zero: it is not
	asked   sync.Once

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	over   bool
	result Result
}

// socketHalf is one direction.
type socketHalf struct {
	from, to         net.Conn
	masks            bool  // as a client does
	sent, took, late Fault // whose fault it is when from breaks, to breaks, to stalls
	stall            time.Duration
	armed            time.Time

	mu     sync.Mutex // guards what follows, and writing to to
	frames frames
	n      int64
	shut   bool // nothing more is written
}

func newWebSocket(client, upstream net.Conn, stall time.Duration) *WebSocket {
	return &WebSocket{
		in:  socketHalf{from: client, to: upstream, masks: true, sent: ClientGone, took: Broken, late: Timeout, stall: stall},
		out: socketHalf{from: upstream, to: client, sent: Broken, took: ClientGone, late: ClientGone, stall: stall},
	}
}

// carry carries frames until both ends have left, and closes both connections.
func (s *WebSocket) carry() Result {
	var back sync.WaitGroup
	back.Go(func() { s.run(&s.out) })
	s.run(&s.in)
	back.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.cut()
	s.result.BytesIn, s.result.BytesOut = s.in.n, s.out.n
	return s.result
}

// cut closes both connections. What was ended properly has ended by now.
func (s *WebSocket) cut() {
	_ = s.in.from.Close()
	_ = s.in.to.Close()
}

// Close asks both ends to leave: each gets a close frame with that status, between
// two frames, and a second later the connections are closed. It does not wait.
func (s *WebSocket) Close(status uint16) {
	s.asked.Do(func() {
		s.mu.Lock()
		if !s.over {
			s.timer = time.AfterFunc(goodbyeTime, s.cut)
		}
		s.mu.Unlock()
		s.status.Store(uint32(status))
		for _, half := range []*socketHalf{&s.in, &s.out} {
			// One that is writing looks at the status when it is done.
			if half.mu.TryLock() {
				half.goodbye(status)
				half.mu.Unlock()
			}
		}
	})
}

// run carries one direction. An end that goes away without a word takes the other
// with it, unless it was asked to leave.
func (s *WebSocket) run(half *socketHalf) {
	fault, err := s.copy(half)
	if fault == None {
		return
	}
	if s.leaving.Load() || s.status.Load() != 0 {
		s.cut()
		return
	}
	s.mu.Lock()
	if s.result.Fault == None {
		s.result.Fault, s.result.Err = fault, err
	}
	s.mu.Unlock()
	s.cut()
}

func (s *WebSocket) copy(half *socketHalf) (Fault, error) {
	small := make([]byte, smallBuffer)
	var large *[]byte // only while much is said: most sockets are idle
	defer func() {
		if large != nil {
			buffers.Put(large)
		}
	}()
	for {
		buffer := small
		if large != nil {
			buffer = *large
		}
		if s.half.Load() {
			_ = half.from.SetReadDeadline(time.Now().Add(halfTime)) // of the real clock, as every deadline of a connection
		}
		n, err := half.from.Read(buffer)
		if n > 0 {
			if failed := half.pass(s, buffer[:n]); failed != nil {
				return half.blame(failed)
			}
			half.leave(s)
		}
		switch {
		case err == io.EOF:
			return s.end(half)
		case errors.Is(err, os.ErrDeadlineExceeded) && s.half.Load():
			s.cut() // it was told that the other end has gone, and does not go
			return None, nil
		case err != nil:
			return half.sent, err
		case large == nil && n == len(small):
			large = buffers.Get().(*[]byte)
		case large != nil && n < len(small):
			buffers.Put(large)
			large = nil
		}
	}
}

// pass sends on what came, or as much of it as is left of a frame when the socket
// is being closed.
func (half *socketHalf) pass(s *WebSocket, p []byte) error {
	half.mu.Lock()
	defer half.mu.Unlock()
	if s.status.Load() != 0 && !half.shut {
		if half.frames.between() {
			p = nil
		} else {
			rest := half.frames // next counts once
			p = p[:rest.next(p)]
		}
	}
	if half.shut {
		return nil // it has had its close frame: what comes too late is dropped
	}
	if len(p) > 0 {
		half.arm()
		n, err := half.to.Write(p)
		half.n += int64(n)
		half.frames.all(p)
		if half.frames.last {
			s.leaving.Store(true)
		}
		return err
	}
	return nil
}

// leave says goodbye where that was asked for while we were writing.
func (half *socketHalf) leave(s *WebSocket) {
	if status := s.status.Load(); status != 0 {
		half.mu.Lock()
		defer half.mu.Unlock()
		half.goodbye(uint16(status))
	}
}

// goodbye ends the direction with a close frame, if one can be put in here. mu is
// held.
func (half *socketHalf) goodbye(status uint16) {
	if half.shut || !half.frames.between() {
		return
	}
	half.shut = true
	_ = half.to.SetWriteDeadline(time.Now().Add(goodbyeTime)) // or the write fails
	if !half.frames.last {
		var key *[4]byte
		if half.masks {
			key = new([4]byte)
			_, _ = rand.Read(key[:]) // it never fails
		}
		if _, err := half.to.Write(closeFrame(status, key)); err != nil {
			return // it goes with the connection, in a second
		}
	}
	_ = half.closeWrite() // so does this
}

// end tells the other end that there is no more.
func (s *WebSocket) end(half *socketHalf) (Fault, error) {
	both := s.half.Swap(true)
	other := &s.in
	if half == other {
		other = &s.out
	}
	_ = other.from.SetReadDeadline(time.Now().Add(halfTime)) // or it is closed already
	half.mu.Lock()
	defer half.mu.Unlock()
	if status := s.status.Load(); status != 0 {
		half.goodbye(uint16(status)) // an end that was asked to leave was quicker than we are
	}
	if half.shut {
		return None, nil
	}
	half.shut = true
	half.arm()
	if err := half.closeWrite(); err != nil && !both { // or it has gone already
		return half.blame(err)
	}
	return None, nil
}

func (half *socketHalf) closeWrite() error {
	if to, ok := half.to.(interface{ CloseWrite() error }); ok {
		return to.CloseWrite()
	}
	return errNoHalves
}

func (half *socketHalf) blame(err error) (Fault, error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return half.late, err
	}
	return half.took, err
}

// arm gives the next write its time. A deadline costs a timer, so it is moved only
// when a part of it has passed.
func (half *socketHalf) arm() {
	if half.stall <= 0 {
		return
	}
	if now := time.Now(); now.Sub(half.armed) > half.stall/8 {
		half.armed = now
		_ = half.to.SetWriteDeadline(now.Add(half.stall)) // a closed connection says so on the write
	}
}
