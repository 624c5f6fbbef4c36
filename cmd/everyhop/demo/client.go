package demo

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// outcome is what came back.
type outcome struct {
	from     string // the address that we dialled from
	refusal  string // how the connection was refused, in the words of TLS; empty: there was an answer
	status   int
	location string // where a redirect would lead
	decision string // the id of the decision that was made
	body     string
}

// silence is how long a peer waits for its refusal before it takes it that there
// is none.
const silence = 2 * time.Second

// ask makes one try. Its bytes go out as they are: a client that would tidy them
// could not show what happens to untidy ones. An answer is an outcome, whichever
// it is; only what kept us from getting one is an error.
func (s *shop) ask(ctx context.Context, t try) (outcome, error) {
	c := s.callers[t.by]
	address, err := s.addressOf(c, t.to)
	if err != nil {
		return outcome{}, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return outcome{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(tryTimeout)) // only a closed connection has none
	out := outcome{from: conn.LocalAddr().String()}
	if c.tls != nil {
		secure := tls.Client(conn, c.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return out.refused(err)
		}
		conn = secure
	}
	if c.tls != nil && t.want.refusal != "" {
		// A refusal comes by itself, and what we said after it could destroy it on
		// its way (a reset). Who is let in is not told so, and waits in vain.
		_ = conn.SetReadDeadline(time.Now().Add(silence))
	} else if _, err := io.WriteString(conn, t.text()); err != nil {
		return out.refused(err)
	}
	return out.read(conn, t)
}

func (s *shop) addressOf(c caller, to string) (string, error) {
	switch {
	case c.admin:
		return s.addr(to, "admin")
	case c.via != "":
		return s.addr(c.via, to)
	}
	return s.addr(to, "inbound")
}

// text is the request as it is sent.
func (t try) text() string {
	fields := append([]string{"Host: localhost"}, t.header...)
	if !strings.Contains(strings.Join(fields, "\n"), "Connection:") {
		fields = append(fields, "Connection: close")
	}
	return t.ask + " HTTP/1.1\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n" + t.body
}

// maxAnswer is more than any answer here has.
const maxAnswer = 64 << 10

func (o outcome) read(conn net.Conn, t try) (outcome, error) {
	method, _, _ := strings.Cut(t.ask, " ")
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return o.refused(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return o, err
	}
	o.status, o.location, o.body = answer.StatusCode, answer.Header.Get("Location"), string(body)
	if o.decision = answer.Header.Get("Everyhop-Decision"); o.decision == "" {
		o.decision = decisionIn(body)
	}
	return o, nil
}

// decisionIn is the id that a sidecar behind ours refused with, or the one that
// the app was told.
func decisionIn(body []byte) string {
	var said struct {
		Decision string
		Header   map[string]string
	}
	if json.Unmarshal(body, &said) != nil {
		return "" // an answer of neither
	}
	if said.Decision != "" {
		return said.Decision
	}
	return said.Header["everyhop-decision"]
}

// noAnswer is the outcome of who was neither answered nor refused in time.
const noAnswer = "nothing came back"

// refused is the outcome that a connection's error is, unless it is our own.
func (o outcome) refused(err error) (outcome, error) {
	_, alert, alerted := strings.Cut(err.Error(), "remote error: tls: ")
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.refusal = noAnswer
	case errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled):
		return o, err
	case alerted:
		o.refusal = "TLS alert: " + alert
	default:
		o.refusal = "closed without an answer"
	}
	return o, nil
}
