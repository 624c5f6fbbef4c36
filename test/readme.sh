#!/usr/bin/env bash
# Runs a command of the README exactly as it stands there: the line of a code
# block that ends in the marker "# run" or "# test".
set -euo pipefail
cd "$(dirname "$0")/.."
which=${1:?usage: test/readme.sh run|test}
command=$(sed -nE "s/^ *(.*[^ ]) +# $which( .*)?\$/\1/p" README.md)
if [ "$(printf '%s' "$command" | grep -c .)" -ne 1 ]; then
	echo "README.md must have exactly one command marked '# $which', has: $command" >&2
	exit 1
fi
echo "+ $command"
eval "$command"
