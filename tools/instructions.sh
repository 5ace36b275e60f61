#!/bin/bash
# Instructions that a server spends on a get and a put, counted by callgrind: the same on a busy machine as on a quiet one.
# usage: tools/instructions.sh [BLOCK [OPS]]        such as tools/instructions.sh 4KiB 4000; BATCH: ops of a frame; TRANSPORT: tcp, shm;
# MEMKV_BIN: programs of another version
set -euo pipefail
block=${1:-4KiB} ops=${2:-4000}
bin=${MEMKV_BIN:-$(cd "$(dirname "$0")/.." && pwd)/build/release/bin}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

bytes() { python3 -c "import sys; n, u = sys.argv[1][:-3], sys.argv[1][-3:]; print(int(n) * {'KiB': 1 << 10, 'MiB': 1 << 20}[u] * int(sys.argv[2]))" "$block" "$1"; }

# Instructions of a whole server that took OPS puts and as many gets (nothing is removed afterwards), and once more as many
# of which a share SHARE is gets. One CPU: nothing polls.
count() {
  rm -f "$dir"/ready
  # A "rep stos" would count as one instruction a byte.
  GLIBC_TUNABLES=glibc.cpu.x86_rep_stosb_threshold=1000000000:glibc.cpu.x86_rep_movsb_threshold=1000000000 taskset -c 0 valgrind --tool=callgrind --callgrind-out-file="$dir/callgrind" --log-file="$dir/log" \
    "$bin/memkv" start --mode memory --memory 512MiB --address 127.0.0.1:0 --workers 1 --io epoll --ready-file "$dir/ready" > "$dir/out" 2>&1 &
  local server=$!
  until [ -s "$dir/ready" ]; do sleep 0.2; kill -0 $server; done
  "$bin/memkv-bench" sweep --servers "$(cat "$dir/ready")" --sizes "$block" --bytes "$(bytes "$1")B" --threads 1 --depth 8 --transport "${TRANSPORT:-tcp}" --batch "${BATCH:-1}" --deadline 60s \
    --verify off --no-ceiling --keep ${2:+--mix $2} > "$dir/bench" || { cat "$dir/bench" >&2; exit 1; }
  kill $server
  wait $server || true
  sed -n 's/.*Collected : //p' "$dir/log"
}

base=$(count "$ops")
double=$(count $((2 * ops)))
reads=$(count "$ops" 0.99)
get=$(((reads - base) / ops))
echo "$block, ${TRANSPORT:-tcp}, batch ${BATCH:-1}: get $get, put $(((double - base) / ops - get)) instructions of the server an op"
