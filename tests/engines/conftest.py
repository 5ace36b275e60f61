"""Adapters inside real engines' code (.venv-engines), on build/release's libmemkv.so, against real servers."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "bindings/python")]

from processes import *  # noqa: E402,F403
from processes import BIN  # noqa: E402

server = memory_server  # noqa: F405

os.environ.setdefault("MEMKV_LIBRARY", str(BIN.parent / "lib/libmemkv.so.1"))
os.environ.setdefault("MEMKV_TRANSPORT", "tcp")
os.environ.update(HF_HUB_OFFLINE="1", LMCACHE_TRACK_USAGE="false", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")
