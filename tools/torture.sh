#!/bin/bash
# Kills a server again and again under write load and checks it after each restart: ./dev torture [--kills N] [--seed S] [--drives D]
set -euo pipefail
cd "$(dirname "$0")/.."
./dev build release >/dev/null
exec build/release/tests/memkv-torture "$@"
