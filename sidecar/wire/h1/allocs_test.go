package h1

import (
	"net/http"
	"testing"
)

// The bytes of the head, the map with its entries, the values, and all the rest
// in one piece, with its context.
func TestRequest_IsReadInFewAllocations(t *testing.T) {
	parse := requestParser(typicalRequest)
	if n := testing.AllocsPerRun(1000, func() { parse() }); n > 7 {
		t.Errorf("%v allocations", n)
	}
}

func TestAnswer_IsReadInFewAllocations(t *testing.T) {
	c := newClientConn(NewTransport(TransportConfig{}), &looped{bytes: typicalAnswer, left: -1})
	if n := testing.AllocsPerRun(1000, func() { c.receiveForTest(t) }); n > 8 {
		t.Errorf("%v allocations", n)
	}
}

// A kept connection's exchange: what the reading takes, and the handler's header.
func TestServer_AnswersInFewAllocations(t *testing.T) {
	const rounds = 1000
	n := testing.AllocsPerRun(5, func() { serveLooped(rounds, ServerConfig{Handler: http.HandlerFunc(answerShortly)}) })
	if n /= rounds; n > 8.5 {
		t.Errorf("%v allocations", n)
	}
}

func TestScan_AllocatesNothing(t *testing.T) {
	h := head{names: strictName, maxFields: 100, maxLine: 1000}
	message := []byte(typicalRequest)
	n := testing.AllocsPerRun(1000, func() {
		h.begin(true)
		if done, flaw := h.scan(message); !done || flaw != 0 {
			t.Fatal(flaw)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}
