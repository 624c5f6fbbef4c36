#!/usr/bin/env bash
# Measures the figures of the README on this machine: the size of the binary, the
# memory of an idle sidecar, and the time from the run command to the first
# allowed request, with a cold build cache and with a warm one.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/idle.sh
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags='-s -w' -o "$work/everyhop" ./cmd/everyhop
size=$(stat -c %s "$work/everyhop")

start_idle "$work/everyhop"
sleep 3 # not waiting for anything: an idle sidecar is one that has had time to be idle
rss=$(awk '/^VmRSS/ {print $2}' "/proc/$sidecar/status")
stop_idle

# first_allowed CACHE prints the seconds until the demo's first allowed request.
first_allowed() {
	local start end demo
	: >"$work/demo.out"
	start=$(date +%s.%N)
	GOCACHE=$1 go run ./cmd/everyhop demo --check >"$work/demo.out" 2>"$work/demo.err" &
	demo=$!
	wait_for "$work/demo.err" grep -q allowed "$work/demo.out"
	end=$(date +%s.%N)
	wait "$demo" || { cat "$work/demo.err" >&2; return 1; }
	echo "$start $end" | awk '{printf "%.1f", $2 - $1}'
}
cold=$(first_allowed "$work/cache")
warm=$(first_allowed "$work/cache")

awk -v size="$size" -v rss="$rss" -v cold="$cold" -v warm="$warm" 'BEGIN {
	printf "binary: %.1f MB\n", size / 1e6
	printf "idle memory (RSS): %.1f MiB\n", rss / 1024
	printf "run command to first allowed request, cold build cache: %s s\n", cold
	printf "run command to first allowed request, warm build cache: %s s\n", warm
	bad = 0
	if (size > 30e6) { print "too large: the binary must stay under 30 MB"; bad = 1 }
	# A busy machine is slow and no defect: said, not failed.
	if (cold > 60 || warm > 3) print "SLOW: under 60 s cold and 3 s warm are promised on an idle machine"
	exit bad
}'
