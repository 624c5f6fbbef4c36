package h1

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/everyhop/everyhop/sidecar/wire"
)

// received is what a message is, to one reader or the other.
type received struct {
	Method, Target, Host, Path, RawQuery string
	Status                               int
	Header                               http.Header
	Length                               int64
	Chunked                              bool
	Body                                 string
	Trailer                              http.Header
	Rest                                 string // what the next message starts with
}

// ourRequest reads one request; false where it is refused.
func ourRequest(message []byte) (received, bool) {
	c := newServerConn(NewServer(ServerConfig{}), context.Background(), &looped{bytes: string(message), left: len(message)})
	x := newExchange(c)
	defer x.life.cancel()
	if flaw, err := c.readRequest(x); err != nil || flaw != wire.FlawNone {
		return received{}, false
	}
	r := &x.request
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return received{}, false
	}
	return received{
		Method: r.Method, Target: r.RequestURI, Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery, Header: r.Header,
		Length: r.ContentLength, Chunked: len(r.TransferEncoding) > 0, Body: string(body), Trailer: r.Trailer, Rest: rest(&c.in),
	}, true
}

func rest(s *source) string {
	more, _ := io.ReadAll(s.conn)
	return string(s.buffered()) + string(more)
}

func theirRequest(message []byte) (received, error) {
	in := bufio.NewReader(bytes.NewReader(message))
	r, err := http.ReadRequest(in)
	if err != nil {
		return received{}, err
	}
	body, err := io.ReadAll(r.Body)
	more, _ := io.ReadAll(in)
	return received{
		Method: r.Method, Target: r.RequestURI, Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery, Header: r.Header,
		Length: r.ContentLength, Chunked: len(r.TransferEncoding) > 0, Body: string(body), Trailer: r.Trailer, Rest: string(more),
	}, err
}

// alike forgives what net/http adds and takes away, and which host it says where
// a target has one too.
func alike(ours, theirs received) bool {
	if theirs.Header["Connection"] == nil && hasToken(ours.Header["Connection"], "close") {
		delete(ours.Header, "Connection")
	}
	if theirs.Header.Get("Pragma") == "no-cache" && ours.Header["Cache-Control"] == nil {
		delete(theirs.Header, "Cache-Control")
	}
	if strings.EqualFold(ours.Host, theirs.Host) || ours.Method == "CONNECT" {
		theirs.Host = ours.Host
	}
	for name, values := range theirs.Trailer { // announced, but never to come
		if values == nil && notTrailers[name] {
			delete(theirs.Trailer, name)
		}
	}
	for _, one := range []*received{&ours, &theirs} {
		if len(one.Trailer) == 0 {
			one.Trailer = nil
		}
	}
	return reflect.DeepEqual(ours, theirs)
}

// checkRequest fails if we accept a request that net/http takes for another one.
func checkRequest(t testing.TB, message []byte) (accepted bool) {
	ours, ok := ourRequest(message)
	if !ok {
		return false
	}
	theirs, err := theirRequest(message)
	if err != nil || !alike(ours, theirs) {
		t.Fatalf("%q is\n%+v, but to net/http\n%+v, %v", message, ours, theirs, err)
	}
	return true
}

// ourAnswer reads one answer to a request of that method.
func ourAnswer(method string, message []byte) (received, bool) {
	c := newClientConn(NewTransport(TransportConfig{}), &looped{bytes: string(message), left: len(message)})
	s := &sending{r: &http.Request{Method: method}}
	s.state.Store(sendBroken) // so that the connection is not kept
	a, _, err := c.receive(s)
	if err != nil {
		return received{}, false
	}
	body, err := io.ReadAll(a.Body)
	if err != nil {
		return received{}, false
	}
	return received{
		Status: a.StatusCode, Target: a.Status, Header: a.Header, Length: a.ContentLength, Chunked: len(a.TransferEncoding) > 0,
		Body: string(body), Trailer: a.Trailer, Rest: rest(&c.in),
	}, true
}

// theirAnswer leaves out answers of 1xx, as a transport does.
func theirAnswer(method string, message []byte) (received, error) {
	in := bufio.NewReader(bytes.NewReader(message))
	for {
		a, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return received{}, err
		}
		if a.StatusCode < 200 && a.StatusCode != 101 {
			continue
		}
		body, err := io.ReadAll(a.Body)
		more, _ := io.ReadAll(in)
		return received{
			Status: a.StatusCode, Target: a.Status, Header: a.Header, Length: a.ContentLength, Chunked: len(a.TransferEncoding) > 0,
			Body: string(body), Trailer: a.Trailer, Rest: string(more),
		}, err
	}
}

func checkAnswer(t testing.TB, method string, message []byte) (accepted bool) {
	ours, ok := ourAnswer(method, message)
	if !ok {
		return false
	}
	theirs, err := theirAnswer(method, message)
	theirs.Target = strings.TrimSpace(theirs.Target)
	ours.Target = strings.TrimSpace(ours.Target)
	if err != nil || !alike(ours, theirs) {
		t.Fatalf("%q to %s is\n%+v, but to net/http\n%+v, %v", message, method, ours, theirs, err)
	}
	return true
}

var requestSeeds = func() (seeds []string) {
	for _, c := range badHeads {
		if len(c.bytes) < 1000 {
			seeds = append(seeds, c.bytes)
		}
	}
	for range len(seeds) / 12 { // so that there is something good to begin with
		seeds = append(seeds,
			typicalRequest, get(""), handshake, post("Content-Length: 5\r\n", "hello"),
			post("Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
			post("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "a\r\n0123456789\r\n00\r\n\r\n"),
			post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
			line("OPTIONS * HTTP/1.1"), line("GET https://app.test/a%2fb?c HTTP/1.1"), line("CONNECT app.test:443 HTTP/1.1"),
			get("Accept: a\r\naccept: b\r\nCookie: c=d; e=f\r\nPragma: no-cache\r\nConnection: close, x\r\n"),
			get("Content-Length: 0\r\nX: \tcaf\xe9 \t\r\n"))
	}
	return seeds
}()

var answerSeeds = []string{
	okAnswer, okAnswer, typicalAnswer, typicalAnswer, "HTTP/1.0 200 OK\r\n\r\nok", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2;a\r\nok\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + okAnswer, "HTTP/1.1 404 Not Found\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
}

// pieces are what a mutation puts in: what tells one parser from another.
var pieces = strings.Split("\r\n|\n|\r|\r\n\r\n|\n\n| |\t|\x00|\x0b|\x0c|\x80|\xff|:|;|,|=|\"|#|?|%|%2f|//|/../|@|[|]|*|+|-|_|0|00|1|5|a|F|0x|"+
	"chunked|identity|gzip|close|keep-alive|upgrade|100-continue|HTTP/1.1|HTTP/1.0|HTTP/1.2|GET|POST|HEAD|CONNECT|OPTIONS|"+
	"Host: app.test\r\n|Host: b\r\n|host: c\r\n|Content-Length: 5\r\n|content-length: 05\r\n|Content-Length : 5\r\n|Transfer-Encoding: chunked\r\n|"+
	"transfer-encoding:chunked\r\n|Transfer-Encoding: identity\r\n|Connection: close\r\n|Expect: 100-continue\r\n|Trailer: X\r\n|X: 1\r\n|x: 2\r\n| folded\r\n|"+
	"0\r\n\r\n|5\r\nhello\r\n|http://app.test|https://app.test/|app.test:443|HTTP/1.1 100 Continue\r\n\r\n|HTTP/1.1 204 No Content\r\n\r\n", "|")

// mutate changes a message in a few places, of which the lines are the joints.
func mutate(random *rand.Rand, seed string) []byte {
	b := []byte(seed)
	for range random.IntN(4) {
		at := random.IntN(len(b) + 1)
		end := min(len(b), at+1+random.IntN(6))
		if random.IntN(3) == 0 { // at a line's start
			at = bytes.LastIndexByte(b[:at], '\n') + 1
		}
		if random.IntN(6) == 0 {
			end = bytes.IndexByte(b[at:], '\n') + at + 1
		}
		end = max(at, end)
		piece := []byte(pieces[random.IntN(len(pieces))])
		switch random.IntN(6) {
		case 0: // leave out
			piece = nil
		case 1: // twice
			piece = bytes.Repeat(b[at:end], 2)
		case 2, 3: // put in
			end = at
		case 4: // another byte
			piece = []byte{byte(random.IntN(256))}
			end = min(at+1, len(b))
		}
		b = bytes.Join([][]byte{b[:at], piece, b[end:]}, nil)
		if len(b) == 0 {
			b = []byte("\n")
		}
	}
	return b
}

// rounds is how many messages are tried: a million where there is time.
func rounds() int {
	if os.Getenv("EVERYHOP_LONG") != "" {
		return 1_000_000
	}
	return 100_000
}

// S60.
func TestRequests_AcceptedOnesAreTheSameToNetHTTP(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	n := rounds()
	for range n {
		if checkRequest(t, append(mutate(random, requestSeeds[random.IntN(len(requestSeeds))]), smuggled...)) {
			accepted++
		}
	}
	if t.Logf("%d of %d accepted", accepted, n); accepted < n/10 {
		t.Error("too few to mean anything")
	}
}

func TestAnswers_AcceptedOnesAreTheSameToNetHTTP(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	accepted := 0
	n := rounds()
	for i := range n {
		method := "GET"
		if i%5 == 0 {
			method = "HEAD"
		}
		if checkAnswer(t, method, append(mutate(random, answerSeeds[random.IntN(len(answerSeeds))]), okAnswer...)) {
			accepted++
		}
	}
	if t.Logf("%d of %d accepted", accepted, n); accepted < n/10 {
		t.Error("too few to mean anything")
	}
}

func FuzzRequestHead(f *testing.F) {
	for _, seed := range requestSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) { checkRequest(t, message) })
}

func FuzzResponseHead(f *testing.F) {
	for _, seed := range answerSeeds {
		f.Add("GET", []byte(seed))
		f.Add("HEAD", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, method string, message []byte) {
		if method == "" || method == "CONNECT" { // net/http takes none for GET, and CONNECT is not carried
			return
		}
		checkAnswer(t, method, message)
	})
}

// FuzzChunked reads a body in pieces of some size, from a connection that yields
// pieces of another.
func FuzzChunked(f *testing.F) {
	for _, seed := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "5;a=b;c=\"d\"\r\nhello\r\n1\r\n!\r\n0;x\r\nX: 1\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n",
		"FFFFFFFFFFFFFFFF\r\n", "00000000000000001\r\na\r\n0\r\n\r\n", "1\na\n0\n\n", "5\r\nhello0\r\n\r\n",
	} {
		f.Add([]byte(seed), uint16(1), uint16(3))
		f.Add([]byte(seed), uint16(9000), uint16(100))
	}
	f.Fuzz(func(t *testing.T, body []byte, step, arrive uint16) {
		read := func(step, arrive int) (string, string, error) {
			in := &source{}
			in.open(&trickle{looped{bytes: string(body), left: len(body)}, arrive}, strictName, 100, 100)
			var c chunked
			var got []byte
			p := make([]byte, step)
			for {
				n, err := c.read(in, p)
				got = append(got, p[:n]...)
				if err != nil {
					return string(got), rest(in) + fmt.Sprint(c.trailer), err
				}
			}
		}
		got, after, err := read(1+int(step), 1+int(arrive))
		if all, then, same := read(len(body)+1, len(body)+1); all != got || same != err || err == io.EOF && then != after {
			t.Fatalf("%q: %q, %q, %v in pieces, else %q, %q, %v", body, got, after, err, all, then, same)
		}
		if err != io.EOF {
			return
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
		if err != nil || string(theirs) != got {
			t.Fatalf("%q: %q, but to net/http %q, %v", body, got, theirs, err)
		}
	})
}

// trickle yields a few bytes at a time.
type trickle struct {
	looped
	most int
}

func (c *trickle) Read(p []byte) (int, error) { return c.looped.Read(p[:min(len(p), c.most)]) }

// A head means the same in one piece and byte by byte.
func TestRequests_ArriveInAnyPieces(t *testing.T) {
	for _, seed := range requestSeeds {
		want, accepted := ourRequest([]byte(seed))
		for _, most := range []int{1, 2, 3, 7} {
			c := newServerConn(NewServer(ServerConfig{}), context.Background(), &trickle{looped{bytes: seed, left: len(seed)}, most})
			x := newExchange(c)
			flaw, err := c.readRequest(x)
			got := flaw == wire.FlawNone && err == nil
			if got {
				_, err := io.ReadAll(x.request.Body)
				got = err == nil
			}
			if got != accepted || got && (x.request.RequestURI != want.Target || !reflect.DeepEqual(x.request.Header, want.Header)) {
				t.Errorf("%q in pieces of %d: %v, %v", seed, most, flaw, err)
			}
			x.life.cancel()
		}
	}
}

func TestIsValue_IsTheSameByWordsAndByBytes(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			value := []byte(repeat("a", 20))
			value[at] = byte(c)
			want := c == '\t' || c >= ' ' && c != 0x7f
			if got := isValue(value); got != want || isValue(string(value)) != want {
				t.Fatalf("%q: %v", value, got)
			}
		}
	}
}

func TestParseLength_IsOnePlainNumber(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "10": 10, "9223372036854775807": 1<<63 - 1,
		"": -1, "00": -1, "01": -1, "+1": -1, "-1": -1, " 1": -1, "9223372036854775808": -1, "9999999999999999999": -1, "10000000000000000000": -1, "1e3": -1,
	} {
		got, ok := parseLength(text)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
}
