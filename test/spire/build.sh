#!/usr/bin/env bash
# Build a SPIRE server and agent, once, and print the directory that holds them.
#
#   bash test/spire/build.sh
#
# SPIRE is built inside its own downloaded module, by its own go.mod and go.sum, so that none of
# its dependencies becomes one of ours. (`go install PACKAGE@VERSION` asks the module proxy for a
# list of versions, which a restricted proxy refuses.) It takes minutes the first time, a C
# compiler because of SQLite, and some gigabytes of Go's build cache.
#
#   SPIRE_VERSION   1.13.0   the release
#   XDG_CACHE_HOME  ~/.cache the binaries are below it, in everyhop/spire/VERSION
set -euo pipefail

version=${SPIRE_VERSION:-1.13.0}
bin=${XDG_CACHE_HOME:-$HOME/.cache}/everyhop/spire/$version
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
built() { [[ -x $bin/spire-server && -x $bin/spire-agent ]]; }

build() (
	cd /
	export GOWORK=off GOFLAGS=-buildvcs=false CGO_ENABLED=1
	info=$(go mod download -json "github.com/spiffe/spire@v$version") || true
	source=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p' <<<"$info")
	[[ -n $source ]] || { printf '%s\n' "$info"; exit 1; }
	unfinished=$(mktemp -d -p "$bin")
	trap 'rm -rf "$unfinished"' EXIT
	go build -C "$source" -trimpath -ldflags '-s -w' -o "$unfinished/" ./cmd/spire-server ./cmd/spire-agent &&
		mv "$unfinished"/spire-* "$bin/"
)

# Two builds at once would only be slower: the second waits, and finds the binaries there.
exec 9>"$bin/.lock"
flock 9
if ! built; then
	echo "building SPIRE $version into $bin: minutes the first time" >&2
	build >"$bin/build.log" 2>&1 9>&- || {
		tail -n 20 "$bin/build.log" >&2
		echo "SPIRE $version cannot be built; the whole of it is in $bin/build.log" >&2
		exit 1
	}
fi
printf '%s\n' "$bin"
