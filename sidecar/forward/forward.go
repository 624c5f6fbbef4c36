// Package forward carries one request to an upstream and its answer back, and
// says whose fault it is when that does not work out. It knows nothing of why the
// request was allowed.
//
// It promises that what belongs to one hop stays on that hop (RFC 9110 section
// 7.6.1), that no identity header of a client's making goes on, that a body ends
// where its sender ended it or is seen to be cut, and that nothing is done twice.
// A zero Job forwards nothing.
package forward

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// headTimeout is how long an upstream may think where nothing else is said,
// counted from the end of the request.
const headTimeout = 60 * time.Second

// Job is one request to be forwarded.
type Job struct {
	Upstream http.RoundTripper
	Scheme   string
	Host     string      // what the upstream is told; what is dialled is Upstream's own
	Path     string      // exactly as it is sent: canonical, or "*"
	Header   http.Header // of [Pass.Select], with what we set; it is not used again
	Via      string      // names this sidecar in Via, so that a loop is seen
	BodyMax  int64       // bytes; negative: no bound
	// Timeout ends at the answer's head; zero: a minute after the request's end,
	// and for ever on gRPC.
	Timeout time.Duration
	// Body and Write are how long the client may send or take nothing; zero: for
	// ever. They are of the real clock, as deadlines of connections are.
	Body, Write time.Duration
	// Upgrade is what [Upgrade] says of the request where it may have that, and
	// empty else. Opened is told of the socket once it is open, and what it returns
	// is called when it is not any more; it may be nil.
	Upgrade string
	Opened  func(*WebSocket) (closed func())
	// Rein ends it from outside; it may be nil. A WebSocket is not at its end.
	Rein *Rein
	// Unverified says whether an error of Upstream means that the other end did
	// not prove who it is. Nil: none does.
	Unverified func(error) bool
}

// Result is what came of a request.
type Result struct {
	// Status is the upstream's, zero where no head was passed on: then nothing was
	// written, and the caller answers.
	Status            int
	BytesIn, BytesOut int64 // of the bodies, or of the WebSocket
	Switched          bool  // it became a WebSocket, which has ended
	Told              bool  // the client has been told of the fault, in trailers
	Fault             Fault
	Err               error // for the log, never for the client

	upgrade bool // a switch of protocols was asked for
}

// Cut reports whether the client has a head but not the whole answer: the
// connection or stream must be broken, so that nobody takes it for the end.
func (r Result) Cut() bool { return r.Status != 0 && r.Fault != None && !r.Switched && !r.Told }

// Do forwards the request and copies the answer to w.
func Do(w http.ResponseWriter, r *http.Request, job *Job) Result {
	result := do(w, r, job)
	result.upgrade = job.Upgrade != ""
	return result
}

func do(w http.ResponseWriter, r *http.Request, job *Job) Result {
	if job.Header == nil {
		job.Header = http.Header{}
	}
	if r.Method == http.MethodOptions && !countDown(r, job.Header) {
		w.WriteHeader(http.StatusNoContent)
		return Result{Status: http.StatusNoContent}
	}
	if job.BodyMax >= 0 && r.ContentLength > job.BodyMax {
		return Result{Fault: BodyTooLarge, Err: errTooLarge}
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	watch := newWatch(r, job, cancel)
	defer watch.stop()
	if limit, err := GRPCTimeout(r); err == nil && limit > 0 { // of all of the call
		defer time.AfterFunc(limit, func() { cancel(errDeadline) }).Stop()
	}
	rc := http.NewResponseController(w)
	defer job.Rein.take(cancel, rc)()
	body := newRequestBody(r, rc, job, watch.bodyEnded)
	defer body.end()

	out := outgoing(ctx, r, job, body)
	answer, err := job.Upstream.RoundTrip(out)
	if !watch.stop() && err == nil { // it answered as its time ran out
		_ = answer.Body.Close()
		err = errTimeout
	}
	if err != nil {
		fault := job.fault(r, body, ctx, err)
		return Result{Fault: fault, Err: err, BytesIn: body.read()}
	}
	defer answer.Body.Close()
	switched := answer.StatusCode == http.StatusSwitchingProtocols
	switch {
	case job.Upgrade != "" && switched:
		return openSocket(w, r, answer, job, out.Header.Get("Sec-Websocket-Key"))
	case job.Upgrade != "" && r.ProtoMajor == 2 && answer.StatusCode/100 == 2:
		return Result{Fault: Broken, Err: errNoSwitch} // passed on, it would be a tunnel
	case answer.StatusCode < 200 || answer.StatusCode > 599:
		// A switch of protocols that nobody asked for, or no status at all.
		return Result{Fault: Broken, Err: errStatus, BytesIn: body.read()}
	}
	result := copyAnswer(w, rc, r, answer, job, body)
	if result.Fault == Broken && context.Cause(ctx) == errDeadline {
		tellDeadline(w.Header())
		result.Fault, result.Told = Timeout, true
	}
	if result.Fault != None && context.Cause(ctx) == errWithdrawn {
		result.Fault = Withdrawn
		if result.Told = IsGRPC(r); result.Told {
			job.Rein.tell(w.Header())
		}
	}
	result.BytesIn = body.read()
	return result
}

var (
	errTimeout = errors.New("the upstream did not answer in time")
	errStatus  = errors.New("the upstream answered with a status that is none, or with a switch of protocols that was not asked for")
)

// outgoing is the request as the upstream gets it.
func outgoing(ctx context.Context, r *http.Request, job *Job, body *requestBody) *http.Request {
	header := job.Header
	addVia(header, r.ProtoMajor, job.Via)
	_, query, asked := cutTarget(r.RequestURI)
	method := r.Method
	if job.Upgrade != "" {
		method = http.MethodGet // which an extended CONNECT is, too
		ask(header, r)
	}
	if _, trailers := header["Te"]; trailers { // RFC 9110 section 10.1.4
		header["Connection"] = []string{strings.Join(append(header["Connection"], "TE"), ", ")}
	}
	out := &struct { // in one piece
		http.Request
		url url.URL
	}{
		Request: *new(http.Request).WithContext(ctx),
		// Opaque goes out byte for byte; a path would be encoded anew.
		url: url.URL{Scheme: job.Scheme, Host: job.Host, Opaque: job.Path, RawQuery: query, ForceQuery: asked},
	}
	out.Method, out.URL, out.Host, out.Header = method, &out.url, job.Host, header
	out.Proto, out.ProtoMajor, out.ProtoMinor = "HTTP/1.1", 1, 1
	if r.ContentLength != 0 && job.Upgrade == "" {
		out.Body, out.ContentLength = body, r.ContentLength
	}
	return &out.Request
}

// watch cancels a request whose answer's head is not there in time.
type watch struct {
	mu      sync.Mutex
	timer   *time.Timer
	later   bool // it starts when the request has been sent
	stopped bool
	cancel  context.CancelCauseFunc
}

func newWatch(r *http.Request, job *Job, cancel context.CancelCauseFunc) *watch {
	w := &watch{cancel: cancel}
	switch {
	case job.Timeout > 0:
		w.start(job.Timeout)
	case IsGRPC(r):
	case r.ContentLength == 0, job.Upgrade != "":
		w.start(headTimeout)
	default:
		w.later = true
	}
	return w
}

func (w *watch) start(limit time.Duration) {
	w.timer = time.AfterFunc(limit, func() { w.cancel(errTimeout) })
}

func (w *watch) bodyEnded() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.later && !w.stopped {
		w.later = false
		w.start(headTimeout)
	}
}

// stop ends the watch. It is false where the time had run out before.
func (w *watch) stop() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := !w.stopped
	w.stopped = true
	if w.timer == nil || !first {
		return true
	}
	return w.timer.Stop()
}

const bufferSize = 32 << 10

// buffers are only ever held between a read and the write of the same bytes.
var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// copyAnswer passes the answer on: its head, its body as it comes, its trailers.
func copyAnswer(w http.ResponseWriter, rc *http.ResponseController, r *http.Request, answer *http.Response, job *Job, body *requestBody) Result {
	copyHead(w.Header(), answer)
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// Do not wait for the rest of the request: it may never come.
		_ = rc.EnableFullDuplex()
		if !body.whole() {
			w.Header().Set("Connection", "close")
		}
	}
	out := &answerWriter{w: w, rc: rc, stall: job.Write, second: r.ProtoMajor == 2}
	defer out.arm() // for what the server still writes when we have returned
	w.WriteHeader(answer.StatusCode)
	result := Result{Status: answer.StatusCode}
	if answer.ContentLength < 0 {
		if err := out.flush(); err != nil {
			result.Fault, result.Err = ClientGone, err
			return result
		}
	}
	result.BytesOut, result.Fault, result.Err = copyBody(out, r, answer)
	if result.Fault != None {
		return result
	}
	if wantsTrailers(r.Header) {
		copyTrailers(w.Header(), answer)
	}
	if !body.whole() && r.ProtoMajor == 1 {
		_ = out.flush() // the answer need not wait until the rest of the request is given up
	}
	return result
}

func copyBody(out *answerWriter, r *http.Request, answer *http.Response) (n int64, fault Fault, err error) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	for {
		got, err := answer.Body.Read(*buffer)
		if got > 0 {
			n += int64(got)
			// The end is flushed by the server: one write for a short answer.
			if werr := out.write((*buffer)[:got], n != answer.ContentLength && err != io.EOF); werr != nil {
				return n, ClientGone, werr
			}
		}
		switch {
		case err == nil:
		case err == io.EOF:
			return n, None, nil
		case r.Context().Err() != nil:
			return n, ClientGone, err
		default:
			return n, Broken, err
		}
	}
}

// answerWriter writes to a client that may stop taking.
type answerWriter struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	stall  time.Duration
	second bool // HTTP/2: there a deadline cuts the stream even while nothing is written
}

func (a *answerWriter) write(p []byte, flush bool) error {
	a.arm()
	defer a.disarm()
	if _, err := a.w.Write(p); err != nil {
		return err
	}
	if flush {
		return a.rc.Flush()
	}
	return nil
}

func (a *answerWriter) flush() error {
	a.arm()
	defer a.disarm()
	return a.rc.Flush()
}

func (a *answerWriter) arm() {
	if a.stall > 0 {
		_ = a.rc.SetWriteDeadline(time.Now().Add(a.stall))
	}
}

func (a *answerWriter) disarm() {
	if a.stall > 0 && a.second {
		_ = a.rc.SetWriteDeadline(time.Time{})
	}
}
