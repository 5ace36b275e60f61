#!/bin/bash
# Kills servers again and again under the load of client processes and compares every block with a model: ./dev torture --help
set -euo pipefail
cd "$(dirname "$0")/.."
./dev build release --target memkv memkv-torture >/dev/null
exec build/release/tests/memkv-torture "$@"
