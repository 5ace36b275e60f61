#!/bin/bash
# Twelve NVMe drives in a guest: setup, start, verified sweep, a power cut under load, boot again, every acknowledged block byte-exact.
#   tools/guest_nvme.sh [WORKDIR]        run on the host after ./dev build release
# The same file is what runs in the guest: `guest_nvme.sh first|second`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
state=/run/rxe   # of this run; the rest of /run is the guest's own and empty, /tmp shows what lies in the host's
bin=$state/bin   # copies: a build that goes on meanwhile changes nothing here

case ${1:-} in
first)   # in the guest: format, serve, sweep, then a reset while blocks are written
  "$bin/memkv" setup --auth-key-file $state/memkv.key > $state/memkv.yaml     # finds the drives itself
  grep -c /dev/nvme $state/memkv.yaml | grep -qx 12 || { echo "guest: setup did not find 12 drives"; exit 1; }
  "$bin/memkv" start --config $state/memkv.yaml --address 127.0.0.1:0 --ready-file /run/ready & server=$!
  for _ in $(seq 600); do [ -s /run/ready ] && break; kill -0 $server || exit 1; sleep 0.1; done
  export MEMKV_SERVERS=$(cat /run/ready) MEMKV_AUTH_KEY=@$state/memkv.key
  "$bin/memkv-bench" sweep --sizes 4KiB,64KiB,4MiB --bytes 4MiB --threads 1 --no-ceiling --verify full
  "$bin/memkv" status
  mkdir -p $state/acked
  for i in $(seq 20); do
    head -c $((i * 200003)) /dev/urandom > $state/block
    "$bin/memkv" put "guest/$i" $state/block
    sha256sum < $state/block > $state/acked/$i.tmp; sync $state/acked/$i.tmp; mv $state/acked/$i.tmp $state/acked/$i
  done
  (while :; do "$bin/memkv" put guest/torn $state/block || true; done) &
  sleep 1
  sync
  echo "guest: power cut"
  echo b > /proc/sysrq-trigger
  sleep 60
  ;;
second)  # in the next boot: everything acknowledged is there
  "$bin/memkv" start --config $state/memkv.yaml --address 127.0.0.1:0 --ready-file /run/ready & server=$!
  for _ in $(seq 600); do [ -s /run/ready ] && break; kill -0 $server || exit 1; sleep 0.1; done
  export MEMKV_SERVERS=$(cat /run/ready) MEMKV_AUTH_KEY=@$state/memkv.key
  for f in $state/acked/*; do
    i=$(basename "$f")
    "$bin/memkv" get "guest/$i" -o $state/copy || { echo "guest: block $i is lost"; exit 1; }
    sha256sum < $state/copy | cmp - "$f" || { echo "guest: block $i is wrong"; exit 1; }
  done
  echo "guest: $(ls $state/acked | wc -l) acknowledged blocks are byte-exact after the power cut"
  kill $server
  wait $server
  ;;
*)
  mkdir -p "${1:-/tmp}"; work=${1:-$(mktemp -d "${TMPDIR:-/tmp}/memkv-guest-XXXXXX")}
  trap 'rm -rf "$work"' EXIT
  export RXE_WORK=$work
  mkdir "$work/bin"
  cp "$root"/build/release/bin/memkv{,-bench} "$work/bin"
  rc=0; "$root/tools/guest.sh" -n -d 12:256M:4096 -m 3G -t 300 -- "$root/tools/guest_nvme.sh" first || rc=$?
  [ $rc = 125 ] || { echo "guest: the first boot ended with $rc instead of a power cut"; exit 1; }
  [ -d "$work/acked" ] || { echo "guest: nothing was acknowledged"; exit 1; }
  "$root/tools/guest.sh" -n -d 12:256M:4096 -m 3G -t 240 -- "$root/tools/guest_nvme.sh" second
  ;;
esac
