#!/usr/bin/env bash
# Holds what a running sidecar says on /metrics against promtool's rules.
set -euo pipefail
cd "$(dirname "$0")"
. ./idle.sh
everyhop=${1:?usage: test/promtool.sh BINARY}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
promtool=$(command -v promtool || true)
if [ -z "$promtool" ]; then
	# promtool alone is wanted, not a server that starts when it is installed.
	(cd "$folder" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; }) >"$folder/apt.log" 2>&1 ||
		{ cat "$folder/apt.log" >&2; echo 'promtool is not here and Debian'"'"'s package cannot be had' >&2; exit 1; }
	dpkg -x "$folder"/prometheus*.deb "$folder/x"
	promtool=$folder/x/usr/bin/promtool
fi

start_idle "$everyhop"
curl -fsS --unix-socket "$admin" http://admin/metrics >"$folder/metrics"
stop_idle
grep -c '^everyhop_' "$folder/metrics" | sed 's/^/series of our own: /'
"$promtool" check metrics <"$folder/metrics"
echo 'promtool check metrics: no complaint'
