"""`adapter_params` of both adapter types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import _parameters
from .._client import Client


@dataclass(frozen=True)
class Settings:
    """Times in seconds, sizes in MB (2^20 bytes) and GB (2^30). What names the store is as in memkv.connect()."""

    servers: tuple[str, ...] = ()
    auth_key: str | None = None
    transport: str = "auto"
    rdma_devices: tuple[str, ...] = ()
    shm_dir: str | None = None
    config_file: str | None = None
    n_read_threads: int = 2
    n_write_threads: int = 1
    """I/O threads of the clients for loads and for stores; lookups have one"""
    prefix: str = ""
    """before all keys"""
    weights: str | None = None
    """a name for the weights, instead of what the model's name means on this host: a folder, or the hub's cache"""
    revision: str | None = None
    dtype: str = "auto"
    kv_dtype: str = "auto"
    layout: str = "auto"
    salt: str = ""
    """these five must be the same for blocks to be shared; LMCache's own cache salt is in its keys anyway"""
    lookup_timeout_s: float = 0.1
    """a lookup that takes longer answers "not there" for what it does not know"""
    load_timeout_s: float = 2.0
    """and a second for each GiB of the load"""
    store_timeout_s: float = 10.0
    max_store_backlog_mb: float = 1024
    """stores under way beyond this are refused"""
    prefetch: bool = False
    """what a lookup finds is announced to the servers: those with a RAM tier read it from their drives meanwhile"""
    max_capacity_gb: float = 0
    """what LMCache takes for the tier's size where it is to evict; 0 = MemKV evicts by itself"""

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Settings":
        """InvalidError (a ValueError): an unknown name, or a value that cannot be."""
        return cls(**_parameters.checked(params, _CHECKS, "adapter_params"))

    def connect(self, purpose: str, io_contexts: int) -> Client:
        """A client for one purpose. A server that is down is no error."""
        return _parameters.connect(self, f"lmcache {purpose}", io_contexts)


_CHECKS: dict[str, _parameters.Check] = {
    **_parameters.STORE,
    **_parameters.TIER,
    "dtype": _parameters.some_text,
    "kv_dtype": _parameters.some_text,
    "layout": _parameters.some_text,
    "max_capacity_gb": _parameters.gigabytes,
}
