#!/usr/bin/env bash
# Runs every fuzzer in the module, one after another, for the time given (10s).
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
ran=0
while IFS=: read -r file name; do
	echo "fuzz $(dirname "$file") $name ($time)"
	go test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "$time"
	ran=$((ran + 1))
done < <(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's/^\.\///; s/:func /:/' | sort)
if [ "$ran" -eq 0 ]; then
	echo "fuzz: no fuzzer found" >&2
	exit 1
fi
echo "fuzz: $ran fuzzers ran for $time each"
