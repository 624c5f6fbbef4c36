# Sourced by scripts: start_idle BINARY starts a development trust domain and one
# sidecar with a two-grant policy, with nothing else to do, in a folder of its own.
# It sets $idle (the folder), $sidecar (its pid) and $admin (its admin socket),
# and returns when the sidecar is ready. stop_idle ends both and removes the folder.

start_idle() {
	idle=$(mktemp -d)
	admin=$idle/admin.sock
	cat >"$idle/policy.yaml" <<-'POLICY'
		service: spiffe://example.org/orders
		app: http://127.0.0.1:9
		allow:
		  - from: spiffe://example.org/web
		    to: GET /orders/{id}
		  - from: spiffe://example.org/billing
		    to: POST /orders/{id}/invoice
	POLICY
	"$1" dev identity --dir "$idle/dev" orders web >"$idle/dev.log" 2>&1 &
	devidentity=$!
	wait_for "$idle/dev.log" test -S "$idle/dev/orders.sock"
	"$1" run --policy "$idle/policy.yaml" --identity "unix://$idle/dev/orders.sock" \
		--inbound 127.0.0.1:0 --admin "unix://$admin" --audit "$idle/audit.log" >"$idle/run.log" 2>&1 &
	sidecar=$!
	wait_for "$idle/run.log" curl -fsS -o /dev/null --unix-socket "$admin" http://admin/readyz
}

stop_idle() {
	kill "$sidecar" "$devidentity" 2>/dev/null || true
	wait "$sidecar" "$devidentity" 2>/dev/null || true
	rm -rf "$idle"
}

# wait_for LOG COMMAND... waits until COMMAND succeeds, 2 minutes at most.
wait_for() {
	local log=$1 tries=0
	shift
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		if [ "$tries" -gt 2400 ]; then
			echo "gave up waiting for: $*" >&2
			cat "$log" >&2
			return 1
		fi
		sleep 0.05
	done
}
