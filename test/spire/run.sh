#!/usr/bin/env bash
# Hold what everyhop promises about identity against a real SPIRE server and agent.
#
#   bash test/spire/run.sh [-test.run PATTERN ...]
#
# SPIRE is built the first time (build.sh). Everything that is started ends with
# this, and leaves nothing behind but the binaries. EVERYHOP_LONG=1 runs what
# takes minutes as well. It needs root, to be several users.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ((EUID != 0)); then
	echo 'NOT RUN: the suite against a real SPIRE needs root, to start sidecars as different users' >&2
	exit 0
fi

EVERYHOP_SPIRE=$(bash test/spire/build.sh)
# Every user must be able to search the directory: not one below a home, then.
state=$(mktemp -d /tmp/everyhop-spire.XXXXXX)
chmod 755 "$state"
tests=
# The kernel ends the servers, agents and sidecars when the tests end, however they do.
trap '[[ -z $tests ]] || kill "$tests" 2>/dev/null || true; wait; rm -rf "$state"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

export EVERYHOP_SPIRE TMPDIR=$state
# As `go test ./test/spire -count=1 -v` would, but as one process with a pid of its own.
go test -c -o "$state/spire.test" ./test/spire
(cd test/spire && exec "$state/spire.test" -test.v -test.timeout 20m -test.parallel 4 "$@") >"$state/out" 2>&1 &
tests=$!
tail -n +1 -f --pid="$tests" "$state/out" &
rc=0
wait "$tests" || rc=$?
tests=
wait
((rc == 0)) || exit "$rc"
passed=$(grep -c '^--- PASS' "$state/out" || true)
((passed > 0)) || { echo 'no test has run' >&2; exit 1; }
# What was not run, and what is not kept yet, is no failure, but it is not passed over either.
grep -oE '(NOT RUN): .*' "$state/out" || true
echo "$passed tests passed against SPIRE in $EVERYHOP_SPIRE"
