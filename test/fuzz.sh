#!/usr/bin/env bash
# Runs every fuzzer in the module for the time given (10s), one a core at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
export time=${1:-10s}

one() { # FILE:NAME, and says nothing more than it must unless something is found
	local folder=./${1%/*} name=${1##*:} log
	log=$(mktemp)
	if go test "$folder" -run '^$' -fuzz "^$name\$" -fuzztime "$time" -parallel 1 >"$log" 2>&1; then
		echo "fuzz $folder $name: $(grep -o 'execs: [0-9]*' "$log" | tail -n 1)"
		rm -f "$log"
		return
	fi
	cat "$log" >&2
	rm -f "$log"
	return 1
}
export -f one

fuzzers=$(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's/^\.\///; s/:func /:/' | sort)
count=$(grep -c . <<<"$fuzzers") || { echo 'fuzz: no fuzzer found' >&2; exit 1; }
xargs -P "$(nproc)" -I{} bash -c 'one {}' <<<"$fuzzers"
echo "fuzz: $count fuzzers ran for $time each"
