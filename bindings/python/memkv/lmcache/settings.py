"""`adapter_params` of both adapter types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .._client import Client
from ..errors import InvalidError


@dataclass(frozen=True)
class Settings:
    """Times in seconds, sizes in MB (2^20 bytes) and GB (2^30). What names the store is as in memkv.connect()."""

    servers: str | None = None
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
    max_capacity_gb: float = 0
    """what LMCache takes for the tier's size where it is to evict; 0 = MemKV evicts by itself"""

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Settings":
        """InvalidError (a ValueError): an unknown name, or a value that cannot be."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(params) - set(known))
        if unknown:
            raise InvalidError(f"adapter_params: {', '.join(unknown)}: not known; there are {', '.join(known)}")
        return cls(**{**params, "rdma_devices": _names(params.get("rdma_devices", ()))})

    def __post_init__(self) -> None:
        for name in ("lookup_timeout_s", "load_timeout_s", "store_timeout_s", "max_store_backlog_mb"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not value > 0:
                raise InvalidError(f"adapter_params: {name} is a number above 0, not {value!r}")
        if not isinstance(self.max_capacity_gb, (int, float)) or self.max_capacity_gb < 0:
            raise InvalidError(f"adapter_params: max_capacity_gb is a number, not {self.max_capacity_gb!r}")

    def connect(self, purpose: str, io_contexts: int) -> Client:
        """A client for one purpose. A server that is down is no error."""
        from .. import connect

        return connect(
            self.servers,
            auth_key=self.auth_key,
            transport=self.transport,
            rdma_devices=self.rdma_devices,
            shm_dir=self.shm_dir,
            config_file=self.config_file,
            io_contexts=io_contexts,
            client_name=f"lmcache {purpose}",
        )


def _names(value: Any) -> tuple[str, ...]:
    """A list, or a comma list, of names."""
    listed = value.split(",") if isinstance(value, str) else value
    return tuple(name.strip() for name in listed if name.strip())
