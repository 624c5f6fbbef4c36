package dev

import (
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Push makes name's socket answer FetchX509SVID with resp instead of its SVID,
// at once on open streams and first on new ones, until [Domain.Clear]. It is for
// tests of clients: any message that can be written can be sent. See
// [Domain.Message] for a good one to spoil.
func (d *Domain) Push(name string, resp *workload.X509SVIDResponse) error {
	if resp == nil {
		return fmt.Errorf("pushing to %q: there is no message", name)
	}
	return d.change(name, func(e *endpoint) {
		e.pushed, e.failure = proto.CloneOf(resp), nil
	})
}

// Fail makes name's socket answer every call with code, and ends its open
// streams so, until [Domain.Clear]. The message is what SPIRE's would be for
// PermissionDenied, and the code's name otherwise.
func (d *Domain) Fail(name string, code codes.Code) error {
	if code == codes.OK {
		return errors.New("failing a socket: OK is no failure")
	}
	message := code.String()
	if code == codes.PermissionDenied {
		message = "no identity issued"
	}
	return d.change(name, func(e *endpoint) {
		e.failure = status.Error(code, message)
	})
}

// Clear ends what [Domain.Push] and [Domain.Fail] began, and sends the SVID on
// the streams that are open.
func (d *Domain) Clear(name string) error {
	return d.change(name, func(e *endpoint) {
		e.pushed, e.failure = nil, nil
	})
}

// Cut breaks every connection to name's socket, as a proxy or an agent that
// restarts would. New ones are accepted.
func (d *Domain) Cut(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.served(name)
	if err != nil {
		return err
	}
	e.listener.cut()
	return nil
}

func (d *Domain) change(name string, f func(*endpoint)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.served(name)
	if err != nil {
		return err
	}
	f(e)
	e.svids.fire()
	e.bundles.fire()
	return nil
}
