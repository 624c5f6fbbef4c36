package main

import "testing"

const wrkSays = `Running 1s test @ http://127.0.0.1:1234/orders/7
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   331.90us  186.84us   6.61ms   94.61%
    Req/Sec    24.65k     1.58k   27.13k    72.73%
  26960 requests in 1.10s, 7.33MB read
`

const h2loadSays = `starting benchmark...
finished in 1.00s, 26000.00 req/s, 1.00MB/s
requests: 26032 total, 26032 started, 26000 done, 26000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 26000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.00MB
`

func TestParseWrk_CountsRequests(t *testing.T) {
	if n, err := parseWrk(wrkSays); n != 26960 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestParseWrk_RefusesWhatWentWrong(t *testing.T) {
	for _, out := range []string{
		"",
		"unable to connect to 127.0.0.1:1 Connection refused\n",
		"  0 requests in 1.00s, 0.00B read\n",
		wrkSays + "  Non-2xx or 3xx responses: 3\n",
		wrkSays + "  Socket errors: connect 0, read 12, write 0, timeout 0\n",
	} {
		if n, err := parseWrk(out); err == nil {
			t.Errorf("%q: %d requests", out, n)
		}
	}
}

func TestParseH2load_CountsWhatSucceeded(t *testing.T) {
	if n, err := parseH2load(h2loadSays); n != 26000 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestParseH2load_RefusesWhatWentWrong(t *testing.T) {
	for _, out := range []string{
		"",
		"requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout\n",
		"requests: 9 total, 9 started, 9 done, 8 succeeded, 1 failed, 0 errored, 0 timeout\nstatus codes: 8 2xx, 0 3xx, 0 4xx, 0 5xx\n",
		"requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 1 errored, 0 timeout\nstatus codes: 9 2xx, 0 3xx, 0 4xx, 0 5xx\n",
		"requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 8 2xx, 0 3xx, 0 4xx, 1 5xx\n",
		"requests: 0 total, 0 started, 0 done, 0 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 0 2xx, 0 3xx, 0 4xx, 0 5xx\n",
	} {
		if n, err := parseH2load(out); err == nil {
			t.Errorf("%q: %d requests", out, n)
		}
	}
}

func FuzzParseWrk(f *testing.F) {
	f.Add(wrkSays)
	f.Add(wrkSays + "  Non-2xx or 3xx responses: 3\n")
	f.Fuzz(func(t *testing.T, out string) {
		if n, err := parseWrk(out); err == nil && n <= 0 {
			t.Errorf("%q: %d requests", out, n)
		}
	})
}

func FuzzParseH2load(f *testing.F) {
	f.Add(h2loadSays)
	f.Fuzz(func(t *testing.T, out string) {
		if n, err := parseH2load(out); err == nil && n <= 0 {
			t.Errorf("%q: %d requests", out, n)
		}
	})
}
