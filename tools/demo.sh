#!/bin/bash
# Builds, starts a server on a file-backed drive, runs a verified sweep and leaves report.html and report.json: ./dev demo [--quick]
set -euo pipefail
cd "$(dirname "$0")/.."
./dev setup
./dev build release --target memkv memkv-bench   # not the tests
work=$(mktemp -d "${TMPDIR:-/tmp}/memkv-demo-XXXXXX")
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" || true; rm -rf "$work"' EXIT
sizes=()
drive=4GiB
[ "${1:-}" = --quick ] && sizes=(--sizes 4KiB,64KiB,1MiB,4MiB --bytes 64MiB) && drive=1GiB
bin=$PWD/build/release/bin
"$bin/memkv" setup --drive "$work/d0.memkv:$drive" --auth-key-file "$work/memkv.key" > "$work/memkv.yaml"
"$bin/memkv" start --config "$work/memkv.yaml" --address 127.0.0.1:0 --ready-file "$work/ready" &
server=$!
for _ in $(seq 600); do [ -s "$work/ready" ] && break; kill -0 "$server" || exit 1; sleep 0.1; done
address=$(cat "$work/ready")
echo "demo: server on $address"
"$bin/memkv-bench" sweep --servers "$address" --auth-key "@$work/memkv.key" "${sizes[@]}" --json report.json --html report.html
"$bin/memkv" status --servers "$address" --auth-key "@$work/memkv.key"
kill "$server"
wait "$server"
server=
echo "demo: wrote report.html and report.json"
