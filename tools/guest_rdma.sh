#!/bin/bash
# RDMA in a guest with two soft-RoCE rails: see `guest_rdma.sh list`.
#   tools/guest_rdma.sh TEST [WORKDIR]      run on the host after ./dev build release
# The same file is what runs in the guest: `guest_rdma.sh inside TEST`. What it measures there is emulated: no performance.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
state=/run/rxe   # of this run; the rest of /run is the guest's own and empty, /tmp shows what lies in the host's
bin=$state/bin   # copies: a build that goes on meanwhile changes nothing here
wheel=$(ls -d "$root"/.venv-nixl/* | sort -V | tail -1)   # NIXL, the newest that ./dev setup made

fail() { echo "guest: FAILED: $*"; tail -40 /run/server.log; exit 1; }

# start_server ARGUMENT...
start_server() {
  rm -f /run/ready
  "$bin/memkv" start --no-shm --address "${host:-127.0.0.1}:${port:-0}" --ready-file /run/ready "$@" >> /run/server.log 2>&1 & server=$!
  for _ in $(seq 600); do [ -s /run/ready ] && break; kill -0 $server || fail "the server did not start"; sleep 0.1; done
  export MEMKV_SERVERS=$(cat /run/ready)
}
stop_server() { kill $server; wait $server || fail "the server ended with $?"; }
start_memory_server() { start_server --mode memory --memory "${1:-512MiB}" --workers 2; }

# rail DEVICE FIELD, of status
rail() {
  MEMKV_TRANSPORT=tcp timeout 10 "$bin/memkv" status --json | python3 -c 'import json, sys
rails = json.load(sys.stdin)["servers"][0]["status"]["rails"]
print(next(r[sys.argv[2]] for r in rails if r["device"] == sys.argv[1]))' "$1" "$2"
}

#: units      unit tests that need RDMA, the contract of links among them
test_units() { "$bin/transport_test" --gtest_filter='*Rdma*' --gtest_brief=1; }

#: sweep1     verified sweeps over one rail
test_sweep1() {
  start_memory_server 1GiB
  export MEMKV_TRANSPORT=rdma MEMKV_RDMA_DEVICES=rxe0
  "$bin/memkv-bench" sweep --sizes 4KiB,64KiB,1MiB,4MiB,64MiB --bytes 8MiB --threads 1 --depth 4 --window 128MiB --no-ceiling --deadline 60s --verify full
  for threads in 4 16; do
    "$bin/memkv-bench" sweep --sizes 4KiB,64KiB,1MiB --bytes 4MiB --threads $threads --depth 2 --window 64MiB --no-ceiling --deadline 60s --verify full
  done
  "$bin/memkv" status
  echo "guest: rail rxe0 moved $(rail rxe0 bytes_in) bytes in, $(rail rxe0 bytes_out) out"
  (($(rail rxe0 bytes_in) > 8000000 && $(rail rxe0 bytes_out) > 8000000)) || fail "the bytes did not go over the rail"
  stop_server
}

#: sweep2     verified sweep over two rails with twelve drives; both carry 40 to 60 % of the bytes
test_sweep2() {
  "$bin/memkv" setup --auth-key-file /run/memkv.key > /run/memkv.yaml
  start_server --config /run/memkv.yaml --workers 1
  export MEMKV_AUTH_KEY=@/run/memkv.key MEMKV_TRANSPORT=rdma MEMKV_RDMA_DEVICES=rxe0,rxe1
  "$bin/memkv-bench" sweep --sizes 4KiB,2MiB,64MiB --bytes "${BYTES:-32MiB}" --threads 1 --depth 8 --window 128MiB --no-ceiling --deadline 60s --verify full
  "$bin/memkv-bench" sweep --sizes 64KiB,1MiB --bytes "${BYTES:-16MiB}" --threads 4 --depth 4 --window 64MiB --no-ceiling --deadline 60s --verify full
  "$bin/memkv-bench" sweep --sizes 4KiB,256KiB --bytes "${BYTES:-8MiB}" --threads 16 --depth 2 --window 64MiB --no-ceiling --deadline 60s --verify full
  # Under load, from when both are open: until then the first takes all.
  start_load 300   # it is ended as soon as it has been seen
  both_rails load
  for _ in $(seq 40); do   # a few large blocks more or less on one rail are no share
    sleep 1
    (($(moved in) > 128000000 && $(moved out) > 128000000)) && break
  done
  share in; share out
  kill $load
  end_load
  stop_server
}
remember_rails() {
  local device way
  for device in rxe0 rxe1; do for way in in out; do eval "before_${device}_$way=$(rail $device bytes_$way)"; done; done
}
moved() { echo $(($(rail rxe0 "bytes_$1") + $(rail rxe1 "bytes_$1") - before_rxe0_$1 - before_rxe1_$1)); }
share() {
  local a b; a=$(($(rail rxe0 "bytes_$1") - before_rxe0_$1)); b=$(($(rail rxe1 "bytes_$1") - before_rxe1_$1))
  echo "guest: bytes $1: rxe0 $a, rxe1 $b: $((100 * a / (a + b))) % on the first"
  ((100 * a / (a + b) >= 40 && 100 * a / (a + b) <= 60)) || fail "the rails do not share the bytes"
}

start_load() {
  "$bin/memkv-rdma-load" "$@" > /run/load.log 2>&1 & load=$!
  for _ in $(seq 300); do grep -qs loaded /run/load.log && return; kill -0 $load || break; sleep 0.1; done
  cat /run/load.log; fail "the load did not start"
}
end_load() { wait $load || { tail -20 /run/load.log; fail "the load failed"; }; tail -1 /run/load.log; }
# Both rails carry bytes now.
both_rails() {
  for _ in $(seq 20); do
    remember_rails; sleep 1
    (($(rail rxe0 bytes_out) > before_rxe0_out && $(rail rxe1 bytes_out) > before_rxe1_out)) && return
  done
  tail -20 /run/load.log; fail "$1: not back on both rails"
}

#: quiet      random cancels and deadlines: no byte of a completed op's memory changes; regions go with gets in flight
test_quiet() {
  start_memory_server
  export MEMKV_TRANSPORT=rdma MEMKV_RDMA_DEVICES=rxe0,rxe1
  start_load 15
  end_load
  stop_server
}

#: faults     a rail removed and added again, the server killed and restarted, a client killed: nothing lost, nobody late
test_faults() {
  "$bin/memkv" setup --auth-key-file /run/memkv.key > /run/memkv.yaml
  port=19900; start_server --config /run/memkv.yaml --workers 1
  export MEMKV_AUTH_KEY=@/run/memkv.key MEMKV_RDMA_DEVICES=rxe0,rxe1
  start_load 300   # it is ended as soon as it has seen all
  both_rails start
  echo "guest: both rails carry bytes"
  rdma link delete rxe1
  sleep 2
  remember_rails; sleep 1
  (($(rail rxe0 bytes_out) > before_rxe0_out)) || fail "the rail that is left carries nothing"
  rdma link add rxe1 type rxe netdev nic1
  both_rails "link delete and add"
  echo "guest: a rail went and came back"
  MEMKV_TRANSPORT=rdma timeout -s KILL 2 "$bin/memkv-rdma-load" 60 > /dev/null 2>&1 || true
  both_rails "a client killed"
  echo "guest: another client was killed"
  kill -9 $server; wait $server || true
  start_server --config /run/memkv.yaml --workers 1
  both_rails "server restarted"
  echo "guest: the server was killed and restarted"
  kill $load   # it has seen all of it
  end_load
  stop_server
}

#: nixlbench  memkv-bench nixl over one rail and over both: verified, a column for each, and each used the rails it was to use
test_nixlbench() {
  start_memory_server
  export MEMKV_TIMEOUT_MS=60000
  nixlbench() { "$bin/memkv-bench" nixl --wheel "$wheel" --transport rdma --no-client --keys distinct --num_iter 1 "$@"; }
  nixlbench --rails 1 --start_block_size 512KiB --max_block_size 512KiB --no_check_consistency --op_type WRITE 2> /run/load.log
  echo "guest: --rails 1: $(rail rxe0 bytes_in) bytes to rxe0, $(rail rxe1 bytes_in) to rxe1"
  (($(rail rxe0 bytes_in) > 8000000 && $(rail rxe1 bytes_in) < 8000)) || fail "one rail is not the first and nothing else"
  nixlbench --rails 1,2 --start_block_size 256KiB --max_block_size 512KiB 2> /run/load.log --json /run/nixl.json --html /run/nixl.html | tee /run/nixl.txt
  grep -q ' 0 wrong, 0 requests failed' /run/nixl.txt || fail "not all was verified"
  grep -q 'emulated: no performance' /run/nixl.txt && grep -q 'Emulated: soft-RoCE' /run/nixl.html || fail "not marked as emulated"
  check_nixlbench || fail "the report is not right"
  nixlbench --rails 3 > /run/three.txt 2>&1 && fail "three rails of two devices"
  grep 'only 2 RDMA devices can be used: rxe0, rxe1' /run/three.txt || fail "$(cat /run/three.txt)"
  stop_server
}
check_nixlbench() {
  python3 - <<'PY'
import json
report = json.load(open("/run/nixl.json"))
sizes = [262144, 524288]
writes, reads = report["tables"]
for table in writes, reads:
    assert table["columns"] == ["rdma, single rail", "rdma, dual rail"], table
    assert [row["block_bytes"] for row in table["rows"]] == sizes, table
    assert all(rate > 0 for row in table["rows"] for rate in row["gib_per_s"]), table
assert "batch 16" in writes["title"] and "batch 1" in reads["title"]
assert report["emulated"] and not report["notes"], report["notes"]
runs = report["runs"]
both = [0, 0]
assert len(runs) == 2 * 2 * 2 * len(sizes), len(runs)
for run in runs:
    first, second = (run["bytes_by_rail"][device] for device in ("rxe0", "rxe1"))
    assert run["transport"] == "rdma" and run["emulated"] and run["verified_blocks"] > 0 and run["mismatches"] == 0, run
    if run["asked"] == "rdma:1":
        assert first > 0 and second == 0 and run["rails"] == 1, run
    elif run["batch"] == 16:
        both = [both[0] + first, both[1] + second]
assert min(both) > 0.2 * sum(both), both
print("guest:", len(runs), "lines; batches over both rails:", *both, "bytes")
PY
}

#: broken     queue pairs moved to error and keys that are bad, under load: nothing lost, nobody late, back on both rails
test_broken() {
  start_memory_server
  export MEMKV_RDMA_DEVICES=rxe0,rxe1
  start_load 26 break
  for _ in $(seq 300); do grep -qs 'whole again' /run/load.log && break; kill -0 $load || break; sleep 0.1; done
  both_rails "broken rails"
  end_load
  grep '^broken' /run/load.log
  echo "guest: the server saw $(rail rxe0 failures) + $(rail rxe1 failures) links fail, $(rail rxe0 access_errors) + $(rail rxe1 access_errors) of them by a bad key"
  (($(rail rxe0 access_errors) + $(rail rxe1 access_errors) > 0)) || fail "no key was refused"
  stop_server
}

#: order      case A1 over rdma: what a client has given up never undoes what it sent afterwards
test_order() {
  export CASE_A1_TRANSPORTS=rdma MEMKV_RDMA_DEVICES=rxe0,rxe1
  "$state/tests/e2e_test" --gtest_filter='*CaseA1*-*Random*:*FullSockets*' > /run/server.log 2>&1 || fail "the order of changes"
  grep -q '^\[  PASSED  \] [1-9]' /run/server.log || fail "no test ran"
  tail -1 /run/server.log
}

#: gpu        GPU memory, with stand-ins for the GPU: both ways, rot found by the server, rails that go and come
test_gpu() {
  start_memory_server
  export MEMKV_CUDART=$state/tests/libcudart_fake.so GPU_TEST_SERVER_PID=$server
  "$bin/memkv-gpu-test" --gtest_brief=1
  MEMKV_TRANSPORT=tcp "$bin/memkv" status --json > /run/status.json
  dropped=$(python3 -c 'import json, re; print(sum(map(int, re.findall(r"\"dropped_corrupt\": *(\d+)", open("/run/status.json").read()))))')
  ((dropped >= 2)) || fail "the server dropped $dropped blocks that rotted"
  stop_server
}

# run_nixl DEVICES WHICH: the plugin's tests with the newest wheel. test_bench has a test of its own here, and test_drives
# is about drives.
run_nixl() {
  export MEMKV_TRANSPORT=rdma MEMKV_RDMA_DEVICES=$1 MEMKV_BIN=$bin MEMKV_LIB=$state/lib NIXL_WHEELS=$(basename "$wheel")
  "$root/.venv/bin/python" -B -m pytest -q -s -p no:cacheprovider --basetemp=/run/nixl --timeout=300 \
    -o tmp_path_retention_policy=none "$root"/tests/nixl/test_[!bd]*.py -k "$2" || fail "the plugin's tests over $1"
}
#: nixl       the NIXL plugin's tests over two rails, those that move most: what Python loads is slow here
test_nixl() { run_nixl rxe0,rxe1 "test_patterned_data_of_all_sizes or test_random_layouts or test_fork or (test_release_in_flight and 65536)"; }
#: nixl1      all of them over one rail (10 minutes)
test_nixl1() { run_nixl rxe0 test; }
#: nixl2      all of them over two rails (10 minutes)
test_nixl2() { run_nixl rxe0,rxe1 test; }

# rxe0 on the NIC that leads to the other guest; 1 % of what it sends is lost.
join_wire() {
  local nic
  for nic in /sys/class/net/*; do [ "$(basename "$(readlink -f "$nic/device/driver")")" != virtio_net ] || break; done
  nic=$(basename "$nic")
  ip addr add "$1/24" dev "$nic"; ip link set "$nic" up
  rdma link add rxe0 type rxe netdev "$nic"
  tc qdisc add dev "$nic" root netem loss 1%
}
test_lossy_server() {
  join_wire 198.18.9.1
  host=198.18.9.1 port=9900
  printf 'network:\n  auth_key: "@%s/key"\nmemory:\n  max_size: 256MiB\n' "$state" > /run/memkv.yaml
  start_server --config /run/memkv.yaml --mode memory --workers 1
  until [ -e "$state/stop" ]; do sleep 0.2; done
  stop_server
}
#: lossy      two guests on one wire that loses 1 % of the packets each way: verified sweep, all of it over rdma
test_lossy() {
  join_wire 198.18.9.2
  export MEMKV_SERVERS=198.18.9.1:9900 MEMKV_AUTH_KEY=@$state/key
  for _ in $(seq 60); do MEMKV_TRANSPORT=tcp timeout 10 "$bin/memkv" status > /dev/null 2>&1 && break; sleep 0.5; done
  export MEMKV_TRANSPORT=rdma MEMKV_TIMEOUT_MS=60000
  "$bin/memkv-bench" sweep --sizes 4KiB,64KiB,1MiB,4MiB --bytes 4MiB --threads 1 --depth 4 --window 32MiB --no-ceiling --deadline 60s --verify full
  echo "guest: rail rxe0 of the server: $(rail rxe0 bytes_in) bytes in, $(rail rxe0 bytes_out) out, $(rail rxe0 retry_errors) retries ran out"
  (($(rail rxe0 bytes_in) > 16000000 && $(rail rxe0 bytes_out) > 16000000)) || fail "the bytes did not go over the rail"
  local counters=/sys/class/infiniband/rxe0/ports/1/hw_counters
  echo "guest: packets again: $(cat $counters/completer_retry_err) of ours, $(cat $counters/duplicate_request) of the server's; out of sequence: $(cat $counters/rcvd_seq_err)"
  (($(cat $counters/completer_retry_err) + $(cat $counters/duplicate_request) > 10)) || fail "the wire lost nothing"
}

# On the host: the server's guest, which makes the wire; both then share it.
start_other_guest() {
  local wire="id=n,addr.type=unix,addr.path=$work/wire" nic=virtio-net-pci,netdev=n,mac=52:54:00:00:00
  mkdir "$work/server"
  (umask 077 && openssl rand -hex 32 > "$work/key")
  cp -r "$work/bin" "$work/key" "$work/server"
  RXE_WORK=$work/server RXE_QEMU_NET="-netdev stream,server=on,$wire -device $nic:01" \
    "$root/tools/guest.sh" -n -s 1 -m 1G -t 240 -- "$root/tools/guest_rdma.sh" inside lossy_server 180 > "$work/server.log" 2>&1 & other=$!
  for _ in $(seq 300); do [ ! -S "$work/wire" ] || break; sleep 0.1; done
  export RXE_QEMU_NET="-netdev stream,server=off,$wire -device $nic:02"
}

names=$(sed -n 's/^#: \([a-z0-9]*\) .*/\1/p' "$0")
case ${1:-list} in
list) sed -n 's/^#: /  /p' "$0" ;;
inside) (sleep "$3"; echo "guest: it takes too long"; tail -n 30 /run/server.log /run/load.log) & "test_$2"; echo "guest: $2 passed" ;;
*)
  grep -qx "$1" <<< "$names" || { echo "no test '$1'; there are:" $names; exit 2; }
  mkdir -p "${2:-/tmp}"; work=${2:-$(mktemp -d "${TMPDIR:-/tmp}/memkv-guest-XXXXXX")}
  trap 'rm -rf "$work"' EXIT
  mkdir "$work"/{bin,lib,tests}
  cp "$root"/build/release/bin/memkv{,-bench} "$root"/build/release/tests/{transport_test,memkv-rdma-load,memkv-gpu-test} "$work/bin"
  cp "$root"/build/release/tests/{libcudart_fake.so,e2e_test} "$work/tests"
  cp "$root/build/release/lib/libplugin_MEMKV.so" "$work/lib"
  limit=480 memory=3G; case $1 in nixl?) limit=1500 memory=8G ;; esac
  guest=(); case $1 in sweep2) guest=(-d 12:512M:4096) ;; faults) guest=(-d 2:512M:4096) ;; lossy) guest=(-n -s 1) ;; esac
  if [ "$1" = lossy ]; then start_other_guest; fi
  RXE_WORK=$work "$root/tools/guest.sh" "${guest[@]}" -m $memory -t $limit -- "$root/tools/guest_rdma.sh" inside "$1" $((limit - 60)) || status=$?
  if [ "$1" = lossy ]; then touch "$work/server/stop"; wait $other || { cat "$work/server.log"; exit 1; }; fi
  exit ${status:-0}
  ;;
esac
