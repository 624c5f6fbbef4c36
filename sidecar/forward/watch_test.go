package forward

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slow is an upstream that takes its time: to read the request's body, then to
// answer with a head, then to send the body.
type slow struct{ read, head, body time.Duration }

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		time.Sleep(s.read)
		if _, err := io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	select {
	case <-time.After(s.head):
		return &http.Response{StatusCode: 200, ContentLength: 2, Body: &late{s.body, r, strings.NewReader("ok")}}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

type late struct {
	after time.Duration
	r     *http.Request
	io.Reader
}

func (l *late) Read(p []byte) (int, error) {
	select {
	case <-time.After(l.after):
		return l.Reader.Read(p)
	case <-l.r.Context().Done():
		return 0, l.r.Context().Err()
	}
}

func (l *late) Close() error { return nil }

func TestDo_TimeoutRunsUntilTheHead(t *testing.T) {
	grpc := http.Header{"Content-Type": {"application/grpc"}}
	short := http.Header{"Content-Type": {"application/grpc+proto"}, "Grpc-Timeout": {"1500m"}}
	for name, c := range map[string]struct {
		timeout time.Duration
		slow    slow
		body    string
		header  http.Header
		want    Fault
	}{
		"in time":                            {time.Second, slow{head: 999 * time.Millisecond}, "", nil, None},
		"late":                               {time.Second, slow{head: 1001 * time.Millisecond}, "", nil, Timeout},
		"head in time, body hours later":     {time.Second, slow{body: time.Hour}, "", nil, None},
		"the request counts":                 {time.Second, slow{read: 2 * time.Second}, "x", nil, Timeout},
		"a long one may be allowed":          {time.Hour, slow{head: 59 * time.Minute}, "", nil, None},
		"unsaid, in time":                    {0, slow{head: headTimeout - 1}, "", nil, None},
		"unsaid, late":                       {0, slow{head: headTimeout + 1}, "", nil, Timeout},
		"unsaid, the request does not count": {0, slow{read: time.Hour, head: headTimeout - 1}, "x", nil, None},
		"unsaid, late after the request":     {0, slow{read: time.Hour, head: headTimeout + 1}, "x", nil, Timeout},
		"unsaid, gRPC may take for ever":     {0, slow{head: 24 * time.Hour}, "x", grpc, None},
		"said, gRPC is held to it":           {time.Second, slow{head: 2 * time.Second}, "x", grpc, Timeout},
		"G-07 the client's, in time":         {0, slow{head: 1499 * time.Millisecond}, "x", short, None},
		"G-07 the client's, late":            {0, slow{head: 1501 * time.Millisecond}, "x", short, Timeout},
		"G-07 the client's counts the body":  {0, slow{head: time.Second, body: time.Second}, "x", short, Timeout},
		"G-07 the grant's is shorter":        {time.Second, slow{head: 1200 * time.Millisecond}, "x", short, Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &http.Request{Method: "POST", RequestURI: "/", URL: &url.URL{Path: "/"}, ProtoMajor: 2, Header: c.header,
					Body: io.NopCloser(strings.NewReader(c.body)), ContentLength: int64(len(c.body))}
				w := &sinkhole{http.Header{}}
				got := Do(w, r, &Job{Upstream: c.slow, Path: "/", BodyMax: 8, Timeout: c.timeout})
				if got.Fault != c.want || got.Fault == None && got.BytesOut != 2 || got.Cut() {
					t.Errorf("%+v", got)
				}
				if told := w.header.Get(http.TrailerPrefix + "Grpc-Status"); (told == "4") != got.Told || got.Told != (got.Fault == Timeout && got.Status != 0) {
					t.Errorf("%+v: the client was told %q", got, told)
				}
			})
		})
	}
}
