#!/bin/bash
# Containers' limits under cgroup version 2, and a host that permits one congestion control alone (reno), in a guest: both
# are of the whole kernel, so that this machine is no place for them.
#   tools/guest_limits.sh [WORKDIR]      run on the host after ./dev build release
# The same file is what runs in the guest: `guest_limits.sh inside`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
state=/run/rxe   # of this run; the rest of /run is the guest's own and empty, /tmp shows what lies in the host's
tests='memory_mode_and_workers or cannot_fit or does_not_allow or cap_net_admin'

case ${1:-} in
inside)
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  echo reno > /proc/sys/net/ipv4/tcp_congestion_control
  echo reno > /proc/sys/net/ipv4/tcp_allowed_congestion_control
  cd "$root"
  MEMKV_BIN=$state/bin .venv/bin/python -m pytest -p no:cacheprovider --basetemp=/run/pytest \
    tests/e2e/test_case_environment.py -k "$tests" -q -rA --timeout=120
  ;;
*)
  mkdir -p "${1:-/tmp}"; work=${1:-$(mktemp -d "${TMPDIR:-/tmp}/memkv-guest-XXXXXX")}
  trap 'rm -rf "$work"' EXIT
  export RXE_WORK=$work
  mkdir "$work/bin"
  cp "$root"/build/release/bin/memkv "$work/bin"
  "$root/tools/guest.sh" -n -m 2G -t 300 -- "$root/tools/guest_limits.sh" inside
  ;;
esac
