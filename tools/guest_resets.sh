#!/bin/bash
# Resets a guest while client processes write to NVMe drives, and compares every block with a model after the next boot.
#   tools/guest_resets.sh [--resets N] [--seed S] [--work DIR]     N: 10; runs with distinct seeds add up
# Every tenth reset the store is a fresh one. The last line is the verdict in figures; after a failure the folder stays.
# The same file is what runs in the guest: `guest_resets.sh inside BOOT SEED CHANGES LAST`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
state=/run/rxe   # of this run, on the host's disk: it outlives the guest
resets_a_store=10

inside() {
  local config=$state/store.yaml
  if [ "$1" = 0 ]; then
    "$state/bin/memkv" setup $(printf -- '--drive %s ' /dev/nvme?n1) --shards 2 --auth-key-file $state/store.key > $config
    printf 'namespaces:\n  - name: second\n    auth_key: 6ab1c5e0f4d7927b38a05c1f6e9d2b84730fd18ea96c5b42e7081d3fa4c69e57\n' >> $config
    sync $config $state/store.key
  fi
  "$state/tests/memkv-torture" reset $state "$@"
}

# one_store RESETS SEED
one_store() {
  local drives=3:256M boot rc
  (($2 % 3 != 0)) || drives=1:768M
  mkdir -p "$work/bin" "$work/tests"
  cp "$root/build/release/bin/memkv" "$work/bin"; cp "$root/build/release/tests/memkv-torture" "$work/tests"
  for boot in $(seq 0 "$1"); do
    rc=0
    RXE_WORK=$work "$root/tools/guest.sh" -n -d $drives -m 1G -t 900 -- "$root/tools/guest_resets.sh" inside "$boot" $(($2 * 1000 + boot)) $((($2 * 7919 + boot * 613) % 100)) $((boot == $1)) \
      > "$work/boot$boot.log" 2>&1 || rc=$?
    grep -a "^reset:" "$work/boot$boot.log" || true
    if [ "$boot" = "$1" ]; then ((rc == 0)); else ((rc == 125)) && grep -aq "now the reset" "$work/boot$boot.log" && done=$((done + 1)); fi ||
      { tail -n 40 "$work/boot$boot.log"; echo "resets: FAILED: seed $seed, boot $boot ended with $rc; drives, journals and logs are in $work"; exit 1; }
    acknowledged=$((acknowledged + $(sed -n 's/^reset: boot [0-9]*: \([0-9]*\) changes acknowledged, now.*/\1/p' "$work/boot$boot.log" | head -1 || echo 0) + 0))
    checked=$((checked + $(sed -n 's/^reset: .* \([0-9]*\) blocks and \([0-9]*\) misses checked.*/\1+\2/p' "$work/boot$boot.log" | head -1)))
  done
  rm -rf "$work"
}

if [ "${1:-}" = inside ]; then shift; inside "$@"; exit; fi
resets=10 seed=$RANDOM base=${TMPDIR:-/tmp}/memkv-resets-$$
while (($#)); do
  case $1 in
    --resets) resets=$2 ;; --seed) seed=$2 ;; --work) base=$2 ;;
    *) sed -n '2,5p' "$0"; exit 2 ;;
  esac
  shift 2
done
done=0 acknowledged=0 checked=0 store=0
while ((done < resets)); do
  work=$base-$store
  one_store $((resets - done < resets_a_store ? resets - done : resets_a_store)) $((seed + store))
  store=$((store + 1))
done
echo "resets: passed: seed $seed, $done resets, $store stores, $acknowledged changes acknowledged, $checked blocks checked"
