"""The Python package on build/release's libmemkv.so, against real servers."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "bindings/python")]

from processes import *  # noqa: E402,F403
from processes import BIN, Server, clean_environment, freeze  # noqa: E402,F401

import pytest  # noqa: E402

os.environ.setdefault("MEMKV_LIBRARY", str(BIN.parent / "lib/libmemkv.so.1"))
os.environ.setdefault("MEMKV_TRANSPORT", "tcp")

import memkv  # noqa: E402


server = memory_server  # noqa: F405


@pytest.fixture
def kv(server):
    # One I/O context: a server that stands still answers no second one's HELLO.
    with memkv.connect(server.address, io_contexts=1) as client:
        client.flush()
        yield client


@pytest.fixture
def frozen(server, kv):
    """The server stands still; the client is connected to it."""
    import signal

    kv.put("there", b"before")
    freeze(server.process.pid)
    yield server
    server.process.send_signal(signal.SIGCONT)


def python(script, **env):
    """Runs a script with the package in an interpreter of its own."""
    import subprocess

    mine = {"PYTHONPATH": ROOT / "bindings/python", "MEMKV_LIBRARY": os.environ["MEMKV_LIBRARY"], "MEMKV_TRANSPORT": "tcp"}
    env = clean_environment(**{**mine, **env})
    return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60)
