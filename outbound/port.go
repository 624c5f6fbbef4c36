package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/everyhop/everyhop/policy"
	"github.com/everyhop/everyhop/sidecar/hop"
	"github.com/everyhop/everyhop/sidecar/listener"
	"github.com/everyhop/everyhop/sidecar/wire"
	"github.com/everyhop/everyhop/sidecar/wire/serve"
)

// portKey is a local address as the policy writes it. Port 0 is another one for
// each call, so there the call is part of the key.
type portKey struct {
	network, address, call string
}

func keyOf(call *policy.CallRule) portKey {
	key := portKey{network: call.Local.Network, address: call.Local.Address}
	if strings.HasSuffix(key.address, ":0") {
		key.call = call.Name
	}
	return key
}

// callAt is the snapshot's call with this local address. The port does not keep
// it, so that one request is judged by one policy.
func callAt(snapshot *policy.Snapshot, key portKey) *policy.CallRule {
	if snapshot == nil {
		return nil
	}
	for _, call := range snapshot.Calls {
		if call.Local != nil && keyOf(call) == key {
			return call
		}
	}
	return nil
}

// wantedPorts are the local ports of the snapshot's calls, or all that is wrong
// with them.
func wantedPorts(snapshot *policy.Snapshot) (map[portKey]*policy.CallRule, error) {
	wanted := make(map[portKey]*policy.CallRule)
	if snapshot == nil {
		return wanted, nil
	}
	var faults []error
	for _, call := range snapshot.Calls {
		if call.Local == nil {
			continue
		}
		key := keyOf(call)
		if err := usable(call); err != nil {
			faults = append(faults, fmt.Errorf("%s: call %s: %w", call.Pos, call.Name, err))
		} else if twin := wanted[key]; twin != nil {
			faults = append(faults, fmt.Errorf("%s: calls %s and %s have one local address, %s: give each its own", call.Local.Pos, twin.Name, call.Name, key.address))
		}
		wanted[key] = call
	}
	return wanted, errors.Join(faults...)
}

// usable says what of a call this hop cannot do. A policy file cannot say most of
// it; a snapshot made otherwise can.
func usable(call *policy.CallRule) error {
	if call.As.IsZero() {
		return errors.New("nobody is named who must answer (add as: SPIFFE-ID)")
	}
	if len(call.At) == 0 {
		return errors.New("it has no address (add at: HOST:PORT)")
	}
	for _, at := range call.At {
		if _, port, err := net.SplitHostPort(at.Text); err != nil || !isPort(port) {
			return fmt.Errorf("at: %q is not host:port, which is all that is supported yet", at.Text)
		}
	}
	if call.Local.Network == "unix" {
		return nil
	}
	addr, err := netip.ParseAddrPort(call.Local.Address)
	if call.Local.Network != "tcp" || err != nil || !addr.Addr().IsLoopback() {
		return fmt.Errorf("local: %q is not a loopback address such as 127.0.0.1:9001: others could call in the app's name", call.Local.Address)
	}
	return nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// port is one local address, open.
type port struct {
	key      portKey
	listener *listener.Listener
	server   *serve.Server
	take     func(net.Conn) bool // the connections that are of bytes
	failed   chan<- error
	loop     sync.WaitGroup
}

func (s *Server) openPort(key portKey, timeouts policy.Timeouts) (*port, error) {
	ln, err := listener.Bind(key.network, key.address, socketMode)
	if err != nil {
		return nil, err
	}
	p := &port{key: key, failed: s.failed, take: func(c net.Conn) bool { return s.takeBytes(c, key) }}
	p.listener = listener.New(ln, listener.Config{Logger: s.config.Logger, Now: s.config.Now})
	p.server = serve.NewServer(serve.ServerConfig{
		Handler:         http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, key) }),
		Flawed:          func(w http.ResponseWriter, r *http.Request, flaw wire.Flaw) { s.flawed(w, r, flaw, key) },
		H2C:             true,
		ExtendedConnect: true,
		HTTP10:          true,
		Headers:         timeouts.Headers,
		Idle:            timeouts.Idle,
		Body:            timeouts.Body,
		Write:           timeouts.Write,
		Now:             s.config.Now,
		Logger:          s.config.Logger,
	})
	return p, nil
}

func (p *port) start() { p.loop.Go(p.serve) }

func (p *port) serve() {
	err := p.server.Serve(hop.Split(p.listener, p.take))
	if err == nil {
		return
	}
	select {
	case p.failed <- fmt.Errorf("serving the local port %s: %w", p.key.address, err):
	default: // another port has said so already
	}
}

// stop ends the port. One that was never started has a listener still.
func (p *port) stop(ctx context.Context) error {
	err := p.server.Shutdown(ctx)
	p.loop.Wait()
	if closing := p.listener.Close(); !errors.Is(closing, net.ErrClosed) {
		err = errors.Join(err, closing)
	}
	return err
}

const socketMode = 0o660 // the app may run as another user of our group
