package forward

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 section 4.2.2 wants it, and nothing is secret
	"encoding/base64"
	"errors"
	"net"
	"net/http"
)

const (
	webSocket        = "websocket"
	webSocketVersion = "13"
	webSocketGUID    = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	keySize          = 16 // bytes
)

// The errors of [Upgrade].
var (
	ErrHandshake = errors.New("the WebSocket handshake is malformed")
	ErrVersion   = errors.New("the WebSocket handshake is of another version than 13")
)

// Upgrade is the protocol that the request asks to switch to: websocket, by RFC
// 6455 section 4.2.1 or, over HTTP/2, RFC 8441; empty where it asks for none.
// Every other is none: RFC 9110 section 7.8 lets us ignore it, some clients offer
// h2c on every request, and it is not passed on. One that is no proper handshake
// is an error.
func Upgrade(r *http.Request) (protocol string, err error) {
	switch {
	case r.ProtoMajor == 2:
		if to := r.Header[":protocol"]; r.Method != http.MethodConnect || len(to) != 1 || to[0] != webSocket {
			return "", nil
		}
		if r.Header["Content-Length"] != nil {
			return "", ErrHandshake
		}
	case r.ProtoMajor != 1 || r.ProtoMinor != 1 || !HasToken(r.Header["Connection"], "upgrade") || !HasToken(r.Header["Upgrade"], webSocket):
		return "", nil
	case r.Method != http.MethodGet || r.ContentLength != 0 || HasToken(r.Header["Connection"], "close") || !isKey(r.Header["Sec-Websocket-Key"]):
		return "", ErrHandshake
	}
	switch version := r.Header["Sec-Websocket-Version"]; {
	case len(version) != 1:
		return "", ErrHandshake
	case version[0] != webSocketVersion:
		return "", ErrVersion
	}
	return webSocket, nil
}

func isKey(values []string) bool {
	if len(values) != 1 {
		return false
	}
	key, err := base64.StdEncoding.Strict().DecodeString(values[0])
	return err == nil && len(key) == keySize
}

// acceptOf is how a server shows that it has read the key.
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + webSocketGUID)) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// ask makes the header that of a handshake, with the client's key or, over HTTP/2,
// where it has none, our own.
func ask(header http.Header, r *http.Request) {
	key := r.Header.Get("Sec-Websocket-Key")
	if r.ProtoMajor == 2 {
		raw := make([]byte, keySize)
		_, _ = rand.Read(raw) // it never fails
		key = base64.StdEncoding.EncodeToString(raw)
	}
	header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{webSocket}
	header["Sec-Websocket-Key"], header["Sec-Websocket-Version"] = []string{key}, []string{webSocketVersion}
}

// sayVersion tells the client of a refused handshake what to ask for: RFC 6455
// section 4.4, RFC 9110 section 15.5.22.
func sayVersion(header http.Header, r *http.Request) {
	header["Sec-Websocket-Version"] = []string{webSocketVersion}
	if r.ProtoMajor == 1 {
		header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{webSocket}
	}
}

var (
	errUnproved = errors.New("the upstream switched protocols without having read the key")
	errNoSwitch = errors.New("the upstream answered as if no other protocol had been asked for")
	errNoTunnel = errors.New("the connection cannot be taken over")
)

// openSocket passes on the switch of protocols, and what follows it.
func openSocket(w http.ResponseWriter, r *http.Request, answer *http.Response, job *Job, key string) Result {
	upstream, ok := answer.Body.(net.Conn)
	switch {
	case !ok:
		return Result{Fault: Broken, Err: errNoTunnel}
	// An upstream on HTTP/2 has no key: the connection itself can tell no answer
	// of a cache from one of its own.
	case answer.ProtoMajor == 1 && (len(answer.Header["Sec-Websocket-Accept"]) != 1 || answer.Header.Get("Sec-Websocket-Accept") != acceptOf(key)):
		return Result{Fault: Broken, Err: errUnproved}
	}
	header := w.Header()
	copyHead(header, answer)
	delete(header, "Content-Length")
	delete(header, "Sec-Websocket-Accept")
	status := http.StatusOK
	if r.ProtoMajor == 1 {
		status = http.StatusSwitchingProtocols
		header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{webSocket}
		header["Sec-Websocket-Accept"] = []string{acceptOf(r.Header.Get("Sec-Websocket-Key"))}
	}
	w.WriteHeader(status)
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return Result{Status: status, Fault: ClientGone, Err: err}
	}
	s := newWebSocket(client, upstream, job.Write)
	if job.Opened != nil {
		closed := job.Opened(s)
		defer closed()
	}
	result := s.carry()
	result.Status, result.Switched = status, true
	return result
}
