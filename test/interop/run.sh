#!/usr/bin/env bash
# Hold sidecars against the programs of others, and print the figures.
#
#   bash test/interop/run.sh [-run PATTERN ...]
#
# EVERYHOP_LONG=1 runs everything at its full size.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! bash test/interop/install.sh; then
	[ "${CI:-}" != true ] || exit 1
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
if ! go test -count=1 -v -timeout 60m "$@" ./test/interop >"$out" 2>&1; then
	grep -vE '^ *(=== |--- PASS)' "$out"
	exit 1
fi
grep -E '^(--- |ok)|NOT RUN|OWED|KiB more|mutants on|answered whole|good requests|cases of h2spec' "$out"
