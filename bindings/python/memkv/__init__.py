"""MemKV: a store for the KV cache of LLM inference (docs/python.md).

    with memkv.connect() as kv:                      # MEMKV_SERVERS and so on, as everywhere
        kv.put("prefix/4f2a", tensor)                # bytes, numpy, torch, any buffer, or a list of such pieces
        n = kv.get_into("prefix/4f2a", tensor)       # no copy; None is a miss
        with kv.batch() as b: ...                    # one call for many ops, one outcome an op
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import (
    BusyError,
    CanceledError,
    ClosedError,
    CorruptError,
    DeadlineError,
    ForkedError,
    InternalError,
    InvalidError,
    IoError,
    MemKVError,
    NoSpaceError,
    NotReadyError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnknownError,
    UnsupportedError,
    VersionError,
)

if TYPE_CHECKING:
    from . import aio
    from ._client import Batch, Client, ListedBlock, Region
    from ._ops import Outcome

    __version__: str

KEY_BYTES_MAX = 1024

_LAZY = {"Batch": "_client", "Client": "_client", "ListedBlock": "_client", "Region": "_client", "Outcome": "_ops"}


def __getattr__(name: str) -> Any:
    """Loads what needs libmemkv.so only when it is asked for: commands of the wheel and programs that look at entry points
    do not wait for it."""
    if name == "aio":
        return importlib.import_module(".aio", __name__)
    if name == "__version__":
        return importlib.import_module("._library", __name__).lib.memkv_version().decode()
    if name in _LAZY:
        return getattr(importlib.import_module("." + _LAZY[name], __name__), name)
    raise AttributeError(f"module 'memkv' has no attribute {name!r}")


def connect(
    servers: str | Iterable[str] | None = None,
    *,
    auth_key: str | None = None,
    transport: str = "auto",
    rdma_devices: str | Iterable[str] = (),
    shm_dir: str | None = None,
    io_contexts: int = 0,
    connections_per_worker: int = 0,
    get_timeout: float | None = None,
    put_timeout: float | None = None,
    verify: bool = True,
    congestion: str | None = None,
    client_name: str | None = None,
    config_file: str | None = None,
    log_level: str | None = None,
) -> Client:
    """A client. What is not given comes from MEMKV_* variables, then from the file that MEMKV_CONFIG names; without any
    server: that of `memkv start` on this host, with its credential.

    servers: "kv1=10.0.0.10:9900,kv2=10.0.0.11:9900" or a list of such. auth_key: 64 hex characters or "@FILE". transport:
    "auto", "shm", "rdma" or "tcp". rdma_devices: "mlx5_0,mlx5_1" or a list of such. get_timeout, put_timeout: floors of
    default deadlines, in seconds. log_level: "debug", "info", "warn", "error" or "off": what the library writes to stderr, in
    the whole process. A server that is down is no error: its keys are misses until it is up. InvalidError: a
    setting is wrong."""
    from ._client import Client, open_client

    return Client(
        open_client(
            servers, auth_key, transport, rdma_devices, shm_dir, io_contexts, connections_per_worker, get_timeout, put_timeout, verify,
            congestion, client_name, config_file, log_level,
        )
    )  # fmt: skip


__all__ = [
    "KEY_BYTES_MAX",
    "Batch",
    "BusyError",
    "CanceledError",
    "Client",
    "ClosedError",
    "CorruptError",
    "DeadlineError",
    "ForkedError",
    "InternalError",
    "InvalidError",
    "IoError",
    "ListedBlock",
    "MemKVError",
    "NoSpaceError",
    "NotReadyError",
    "Outcome",
    "Region",
    "TooLargeError",
    "UnauthorizedError",
    "UnavailableError",
    "UnknownError",
    "UnsupportedError",
    "VersionError",
    "aio",
    "connect",
]
