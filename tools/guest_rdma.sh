#!/bin/bash
# RDMA in a guest with two soft-RoCE rails: see `guest_rdma.sh list`.
#   tools/guest_rdma.sh TEST [WORKDIR]      run on the host after ./dev build release
# The same file is what runs in the guest: `guest_rdma.sh inside TEST`. What it measures there is emulated: no performance.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
state=/run/rxe
bin=$state/bin   # copies: a build that goes on meanwhile changes nothing here

fail() { echo "guest: FAILED: $*"; tail -40 /tmp/server.log; exit 1; }

# start_server ARGUMENT...
start_server() {
  rm -f /tmp/ready
  "$bin/memkv" start --address "127.0.0.1:${port:-0}" --ready-file /tmp/ready "$@" >> /tmp/server.log 2>&1 & server=$!
  for _ in $(seq 600); do [ -s /tmp/ready ] && break; kill -0 $server || fail "the server did not start"; sleep 0.1; done
  export MEMKV_SERVERS=$(cat /tmp/ready)
}
stop_server() { kill $server; wait $server || fail "the server ended with $?"; }
start_memory_server() { start_server --mode memory --memory "${1:-512MiB}" --workers 2; }

# rail DEVICE FIELD, of status
rail() {
  MEMKV_TRANSPORT=tcp "$bin/memkv" status --json | python3 -c 'import json, sys
rails = json.load(sys.stdin)["servers"][0]["status"]["rails"]
print(next(r[sys.argv[2]] for r in rails if r["device"] == sys.argv[1]))' "$1" "$2"
}

#: units      unit tests that need RDMA, the contract of links among them
test_units() { "$bin/transport_test" --gtest_filter='*Rdma*' --gtest_brief=1; }

#: sweep1     verified sweep over one rail
test_sweep1() {
  start_memory_server
  export MEMKV_TRANSPORT=rdma MEMKV_RDMA_DEVICES=rxe0
  "$bin/memkv-bench" sweep --sizes 4KiB,64KiB,1MiB,4MiB --bytes 8MiB --threads 1 --depth 4 --window 64MiB --no-ceiling --verify full
  "$bin/memkv" status
  echo "guest: rail rxe0 moved $(rail rxe0 bytes_in) bytes in, $(rail rxe0 bytes_out) out"
  (($(rail rxe0 bytes_in) > 8000000 && $(rail rxe0 bytes_out) > 8000000)) || fail "the bytes did not go over the rail"
  stop_server
}

names=$(sed -n 's/^#: \([a-z0-9]*\) .*/\1/p' "$0")
case ${1:-list} in
list) sed -n 's/^#: /  /p' "$0" ;;
inside) "test_$2"; echo "guest: $2 passed" ;;
*)
  grep -qx "$1" <<< "$names" || { echo "no test '$1'; there are:" $names; exit 2; }
  mkdir -p "${2:-/tmp}"; work=${2:-$(mktemp -d "${TMPDIR:-/tmp}/memkv-guest-XXXXXX")}
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/bin"
  cp "$root"/build/release/bin/memkv{,-bench} "$root/build/release/tests/transport_test" "$work/bin"
  RXE_WORK=$work "$root/tools/guest.sh" -m 3G -t 400 -- "$root/tools/guest_rdma.sh" inside "$1"
  ;;
esac
