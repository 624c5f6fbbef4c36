package forward

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Rein ends a job that is under way, from any goroutine. The zero Rein holds none.
type Rein struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc
	rc     *http.ResponseController
	grpc   int
	pulled bool
}

var errWithdrawn = errors.New("what allowed the request does so no longer")

// lastWords is how long a client may take to take what is being written when its
// request is withdrawn.
const lastWords = 500 * time.Millisecond

// Pull ends the job: its fault is Withdrawn. A gRPC client is told the status in
// trailers where its answer has begun; any other sees it cut.
func (r *Rein) Pull(grpcStatus int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulled, r.grpc = true, grpcStatus
	if r.cancel == nil {
		return
	}
	r.cancel(errWithdrawn)
	_ = r.rc.SetWriteDeadline(time.Now().Add(lastWords)) // of the real clock, as every deadline of a connection
}

// take has a job at its end, which drop lets go. A Rein that was pulled ends it at
// once.
func (r *Rein) take(cancel context.CancelCauseFunc, rc *http.ResponseController) (drop func()) {
	if r == nil {
		return func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel, r.rc = cancel, rc; r.pulled {
		cancel(errWithdrawn)
	}
	return r.drop
}

func (r *Rein) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel, r.rc = nil, nil
}

// tell ends a gRPC answer that was begun with the status.
func (r *Rein) tell(header http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	header[http.TrailerPrefix+"Grpc-Status"] = []string{strconv.Itoa(r.grpc)}
}
