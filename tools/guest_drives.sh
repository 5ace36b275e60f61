#!/bin/bash
# Drives that leave a running server, in a guest: one is pulled, one hangs; their blocks become misses, the rest goes on,
# status says degraded and why. Back after a restart, both are empty: no old block revives.
#   tools/guest_drives.sh [WORKDIR]      run on the host after ./dev build release
# The same file is what runs in the guest: `guest_drives.sh inside`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
state=/run/rxe   # of this run; the rest of /run is the guest's own and empty, /tmp shows what lies in the host's
bin=$state/bin   # copies: a build that goes on meanwhile changes nothing here
keys=12   # the first eight are large: chunks on three drives each

fail() { echo "guest: $*"; cat /run/server.log; exit 1; }

start_server() {
  rm -f /run/ready
  "$bin/memkv" start --config /run/memkv.yaml --address 127.0.0.1:0 --ready-file /run/ready > /run/server.log 2>&1 & server=$!
  for _ in $(seq 600); do [ -s /run/ready ] && break; kill -0 $server || fail "the server did not start"; sleep 0.1; done
  export MEMKV_SERVERS=$(cat /run/ready) MEMKV_AUTH_KEY=@/run/memkv.key
}
stop_server() { kill $server; wait $server || fail "the server ended with $?"; }

# make_block N VERSION: bytes that tell both
make_block() { yes "block $1 version $2" | head -c $(($1 <= 8 ? 4500000 : $1 * 5003)) || true; }
put_all() { for i in $(seq $keys); do make_block $i "$1" > /run/block; "$bin/memkv" put "b$i" /run/block; done; }
all_exist() { "$bin/memkv" exists $(seq -f b%.0f $keys) > /run/exist || fail "blocks are missing: $(cat /run/exist)"; }

# read_all VERSION: every block is of this version or a miss; prints how many are there
read_all() {
  local i code hits=0
  for i in $(seq $keys); do
    code=0; "$bin/memkv" get "b$i" -o /run/copy 2> /run/error || code=$?
    case $code in
      0) make_block $i "$1" | cmp -s - /run/copy || fail "block b$i is not what was last written: $(head -c 30 /run/copy)"; hits=$((hits + 1)) ;;
      1) ;;
      *) fail "get b$i ended with $code: $(cat /run/error)" ;;
    esac
  done
  echo $hits
}

# drive_field PATH FIELD, of status
drive_field() {
  "$bin/memkv" status --json | python3 -c 'import json, sys
status = json.load(sys.stdin)["servers"][0]["status"]
print(status["degraded"], *[d.get(sys.argv[2], "") for d in status["drives"] if d["path"] == sys.argv[1]])' "$1" "$2"
}

# until_out DRIVE: writes and reads go on until status says that it is out. The put that meets the drive as it begins to
# hang may be lost to it; when it gives up, the drive lags.
until_out() {
  local i lost=0
  for i in $(seq 100); do
    "$bin/memkv" put "load$i" /run/block 2> /run/error || lost=$((lost + 1))
    ((lost <= 1)) || fail "a put failed while $1 left: $(cat /run/error)"
    "$bin/memkv" get "b$((i % keys + 1))" -o /run/copy 2> /dev/null || true
    [ "$(drive_field "$1" state)" = "True out" ] && return
  done
  fail "$1 is still in the store: $("$bin/memkv" status)"
}

inside() {
  dmsetup --noudevsync --noudevrules create slow --table "0 $(blockdev --getsz /dev/nvme4n1) linear /dev/nvme4n1 0"
  drives=(/dev/nvme{0,1,2,3}n1 /dev/dm-0)
  "$bin/memkv" setup "${drives[@]/#/--drive=}" --auth-key-file /run/memkv.key > /run/memkv.yaml
  start_server
  put_all 1
  all_exist

  echo 1 > /sys/block/nvme1n1/device/device/remove
  until_out /dev/nvme1n1
  [[ $(drive_field /dev/nvme1n1 why) == *"cannot be written"* || $(drive_field /dev/nvme1n1 why) == *"writes fail"* ]] || fail "status does not say why nvme1n1 is out"
  hits=$(read_all 1)
  ((hits > 0 && hits < keys)) || fail "$hits of $keys blocks are there without one of five drives"
  echo "guest: pulled: $hits of $keys blocks are there"

  dmsetup --noudevsync --noudevrules suspend --noflush --nolockfs slow
  until_out /dev/dm-0
  [[ $(drive_field /dev/dm-0 why) == *crawls* ]] || fail "status does not say why dm-0 is out"
  put_all 2
  all_exist
  echo "guest: hung: all blocks that are written anew are there"
  dmsetup --noudevsync --noudevrules resume slow
  stop_server

  echo 1 > /sys/bus/pci/rescan
  for _ in $(seq 100); do [ -b /dev/nvme1n1 ] && break; sleep 0.1; done
  start_server
  [ "$(grep -c 'comes back empty' /run/server.log)" = 2 ] || fail "two drives should have come back empty"
  [ "$(drive_field /dev/nvme1n1 state)" = "False in" ] || fail "nvme1n1 is not in the store again"
  [ "$(read_all 2)" = $keys ] || fail "blocks were lost by the restart"
  stop_server
  echo "guest: drives left and came back empty, and no old block revived"
}

if [ "${1:-}" = inside ]; then inside; exit; fi
mkdir -p "${1:-/tmp}"; work=${1:-$(mktemp -d "${TMPDIR:-/tmp}/memkv-guest-XXXXXX")}
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
cp "$root/build/release/bin/memkv" "$work/bin"
RXE_WORK=$work "$root/tools/guest.sh" -n -d 5:256M:4096 -m 2G -t 480 -- "$root/tools/guest_drives.sh" inside
