package main

// target is a promise: the median of a measure is at most a ratio of a peer's, or,
// where no peer is named, at most an absolute figure.
type target struct {
	measure string
	peer    string
	most    float64
}

// targets are what everyhop must reach with everything on that it has.
func targets() []target {
	return []target{
		{"conns1", "haproxy", 1.4}, {"conns1", "nginx", 1.6}, {"conns1", "envoy-checks", 0.65},
		{"conns8", "haproxy", 1.0}, {"conns8", "nginx", 1.1}, {"conns8", "envoy-checks", 0.5},
		{"conns32", "haproxy", 0.85}, {"conns32", "nginx", 0.85}, {"conns32", "envoy-checks", 0.45},
		{"conns128", "haproxy", 0.65}, {"conns128", "nginx", 0.65}, {"conns128", "envoy-checks", 0.35},
		{"body64k", "haproxy", 0.85}, {"body64k", "nginx", 0.7}, {"body64k", "envoy-checks", 0.75},
		{"body1m", "haproxy", 0.95}, {"body1m", "nginx", 0.9}, {"body1m", "envoy-checks", 0.95},
		{"p50", "haproxy", 1.0}, {"p99", "haproxy", 1.0},
		{"tcp1m", "ghostunnel", 1.0},
		{"handshake", "nginx", 1.0}, {"handshake", "envoy", 1.25},
		{"rss", "", 20}, {"idleconn", "", 40}, {"binary", "", 30},
	}
}

// targetOf is the target of a measure against a peer, if there is one.
func targetOf(measure, peer string) (float64, bool) {
	for _, t := range targets() {
		if t.measure == measure && t.peer == peer {
			return t.most, true
		}
	}
	return 0, false
}
