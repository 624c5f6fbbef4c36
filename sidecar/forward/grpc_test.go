package forward_test

import (
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/everyhop/everyhop/sidecar/forward"
)

func grpcCall(timeout ...string) *http.Request {
	return &http.Request{Method: "POST", ProtoMajor: 2, Header: http.Header{"Content-Type": {"application/grpc"}, "Grpc-Timeout": timeout}}
}

// G-07: "PROTOCOL-HTTP2", Timeout.
func TestGRPCTimeout_IsDigitsAndAUnit(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond,
		"6n": 6, "00000001S": time.Second, "99999999n": 99999999, "0S": 1, "99999999H": 10 * 365 * 24 * time.Hour,
	} {
		if got, err := forward.GRPCTimeout(grpcCall(text)); got != want || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "S", "1", "1s", "-1S", "+1S", "1.5S", "1 S", "100000000n", "1SS", "0x1S", "１S"} {
		if got, err := forward.GRPCTimeout(grpcCall(text)); err != forward.ErrGRPCTimeout {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := forward.GRPCTimeout(grpcCall("1S", "1S")); err == nil {
		t.Error("two were taken for one")
	}
	for _, r := range []*http.Request{grpcCall(), {Method: "GET", ProtoMajor: 2, Header: http.Header{"Grpc-Timeout": {"nonsense"}}}} {
		if got, err := forward.GRPCTimeout(r); got != 0 || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func FuzzGRPCTimeout(f *testing.F) {
	f.Add("1H")
	f.Add("99999999n")
	f.Add("-1S")
	shape := regexp.MustCompile(`^[0-9]{1,8}[HMSmun]$`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := forward.GRPCTimeout(grpcCall(text))
		if (err == nil) != shape.MatchString(text) || err == nil && got <= 0 || err != nil && got != 0 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	})
}
