#!/bin/bash
# What a power cut, a kernel crash and a full file system leave, on a raw drive and on files of ext4, xfs and btrfs (docs/data-file.md, "What is promised when").
#   tools/guest_power.sh [WORKDIR]       run on the host after ./dev build release
# The same file is what runs in the guest: `guest_power.sh first|second`.
# A power cut is a replay: dm-log-writes keeps each write from when it is durable, so what lay in a volatile cache is lost.
# A kernel crash is a reset of the guest: its controllers keep what they completed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
state=/run/rxe   # of this run; the rest of /run is the guest's own and empty
bin=$state/bin   # copies: a build that goes on meanwhile changes nothing here
changes=12 cut=10   # the cut comes after change 10: the two after it are lost, none before
keys=5

fail() { echo "guest: $*"; cat /run/server.log; exit 1; }

# start_server CONFIG
start_server() {
  rm -f /run/ready
  "$bin/memkv" start --config "$1" --address 127.0.0.1:0 --ready-file /run/ready --workers 1 --memory 64MiB > /run/server.log 2>&1 & server=$!
  for _ in $(seq 600); do [ -s /run/ready ] && break; kill -0 $server || fail "the server did not start"; sleep 0.1; done
  export MEMKV_SERVERS=$(cat /run/ready) MEMKV_AUTH_KEY=@$state/memkv.key
}
stop_server() { kill $server; wait $server || fail "the server ended with $?"; }
kill_server() { kill -9 $server; wait $server 2> /dev/null || true; }

# Change I removes block I mod 5 where I is a multiple of 4, else puts it; its bytes and their number tell I.
is_removal() { (($1 % 4 == 0)); }
make_block() { yes "change $1" | head -c $(($1 * 200003 + 1)) || true; }
change() {
  local code=3 tries
  is_removal "$1" || make_block "$1" > /run/block
  for tries in $(seq 10); do   # 3: the emulated machine was too slow to let a client in
    ((code == 3)) || break
    if is_removal "$1"; then "$bin/memkv" rm "b$(($1 % keys))" && code=0 || code=$?; ((code != 1)) || code=0
    else "$bin/memkv" put "b$(($1 % keys))" /run/block && code=0 || code=$?; fi
  done > /run/change.log 2>&1
  ((code == 0)) || { cat /run/change.log; fail "change $1 ended with $code"; }
}

# differences N: how many blocks are not as the first N changes left them
differences() {
  local key i last code count=0
  for key in $(seq 0 $((keys - 1))); do
    last=0; for i in $(seq "$1"); do ((i % keys != key)) || last=$i; done
    for _ in $(seq 10); do code=0; "$bin/memkv" get "b$key" -o /run/copy 2> /run/error || code=$?; ((code == 3)) || break; done
    if ((last == 0)) || is_removal $last; then ((code == 1)) || count=$((count + 1))
    elif ((code != 0)) || ! make_block $last | cmp -s - /run/copy; then count=$((count + 1)); fi
  done
  echo $count
}

# set_up DRIVE CONFIG [protected]: formats; `protected`: the owner says that the drive keeps its cache
set_up() {
  "$bin/memkv" setup --drive "$1" --auth-key-file $state/memkv.key > "$2" 2> /run/setup.log || { cat /run/setup.log; exit 1; }
  [ "${3:-}" != protected ] || sed -i '/- media:/a\      power_loss_protection: true' "$2"
}

# make_file_system KIND DEVICE
make_file_system() {
  case $1 in
    ext4) mkfs.ext4 -q -F "$2" ;;
    xfs) mkfs.xfs -q -f "$2" ;;
    btrfs) mkfs.btrfs -q -f "$2" ;;
  esac
  mkdir -p /run/mnt; mount -t "$1" "$2" /run/mnt
}

# power_cut KIND [protected]: sets `wrong` to the number of blocks that are not as the acknowledged changes left them
power_cut() {
  local data=/dev/nvme0n1 log=/dev/nvme1n1 drive=/run/mnt/drive.memkv:40MiB i
  blkdiscard -f -z $data 2> /dev/null; dd if=/dev/zero of=$log bs=1M count=1 status=none
  dmsetup --noudevsync --noudevrules create logged --table "0 $(blockdev --getsz $data) log-writes $data $log"
  local dm=/dev/dm-0
  if [ "$1" = raw ]; then drive=$dm; else make_file_system "$1" "$dm"; fi
  set_up "$drive" /run/cut.yaml "${2:-}"
  start_server /run/cut.yaml
  for i in $(seq $changes); do change $i; dmsetup message logged 0 mark "change-$i"; done
  kill_server
  [ "$1" = raw ] || umount /run/mnt
  dmsetup --noudevsync --noudevrules remove logged
  blkdiscard -f -z $data 2> /dev/null   # what was written after the cut never was
  "$root/tools/replay_writes.py" $log $data change-$cut
  if [ "$1" = raw ]; then sed -i "s|media: .*|media: $data|" /run/cut.yaml; else mount -t "$1" $data /run/mnt; fi
  start_server /run/cut.yaml
  wrong=$(differences $cut)
  stop_server
  [ "$1" = raw ] || umount /run/mnt
}

power_cuts() {
  local kind
  for kind in raw ext4 xfs btrfs; do
    power_cut $kind
    [ "$wrong" = 0 ] || fail "power cut, $kind: $wrong of $keys blocks are not as they were acknowledged"
    echo "guest: power cut, $kind: every acknowledged change is there"
  done
  power_cut raw protected   # the owner lies: shows that the cut takes what is not flushed
  ((wrong > 0)) || fail "power cut: a drive without flushes lost nothing, so the cut cuts nothing"
  echo "guest: power cut, raw, wrongly declared protected: $wrong of $keys blocks are not as they were acknowledged"
}

# The stores of the kernel crash: flushed and protected, on one file system of each kind.
each_crashed() {
  local kind how device=2
  for kind in ext4 xfs btrfs; do
    for how in flushed protected; do "$1" $kind $how /dev/nvme${device}n1; done
    device=$((device + 1))
  done
}
# fill_up DIR: takes all room that the file system still has
fill_up() {
  local size=$((256 << 20)) i=0
  while ((size >= 4096)); do fallocate -l $size "$1/filler$i" 2> /dev/null || size=$((size / 2)); i=$((i + 1)); done
}
fill_for_crash() {
  if mountpoint -q /run/$1; then :; else make_file_system "$1" "$3"; umount /run/mnt; mkdir -p /run/$1; mount -t "$1" "$3" /run/$1; fi
  set_up "/run/$1/$2.memkv:40MiB" $state/$1-$2.yaml "$2"
  [ "$2" = flushed ] || fill_up "/run/$1"   # the second store of a file system runs where there is no room left
  sync
  start_server $state/$1-$2.yaml
  for i in $(seq $changes); do change $i; done
}
check_after_crash() {
  mkdir -p /run/$1; mountpoint -q /run/$1 || mount -t "$1" "$3" /run/$1
  start_server $state/$1-$2.yaml
  local wrong; wrong=$(differences $changes)
  [ "$wrong" = 0 ] || fail "kernel crash, $1, $2: $wrong of $keys blocks are not as they were acknowledged"
  stop_server
  echo "guest: kernel crash, $1, $2: every acknowledged change is there"
}

case ${1:-} in
first)
  for module in ext4 xfs btrfs dm-log-writes; do modprobe -d "$RXE_MODULES" $module; done
  power_cuts
  each_crashed fill_for_crash
  echo "guest: kernel crash"
  echo b > /proc/sysrq-trigger
  sleep 60
  ;;
second)
  for module in ext4 xfs btrfs; do modprobe -d "$RXE_MODULES" $module; done
  each_crashed check_after_crash
  ;;
*)
  mkdir -p "${1:-/tmp}"; work=${1:-$(mktemp -d "${TMPDIR:-/tmp}/memkv-guest-XXXXXX")}
  trap 'rm -rf "$work"' EXIT
  export RXE_WORK=$work
  mkdir "$work/bin"
  cp "$root/build/release/bin/memkv" "$work/bin"
  rc=0; "$root/tools/guest.sh" -n -d 5:400M:4096 -m 2G -t 2400 -- "$root/tools/guest_power.sh" first || rc=$?
  [ $rc = 125 ] || { echo "guest: the first boot ended with $rc instead of a reset"; exit 1; }
  "$root/tools/guest.sh" -n -d 5:400M:4096 -m 2G -t 1200 -- "$root/tools/guest_power.sh" second
  ;;
esac
