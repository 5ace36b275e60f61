"""Parameters of the tier's configuration, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import memkv
from memkv import _parameters


@dataclass(frozen=True)
class Settings:
    """What names the store is as in memkv.connect(); what is not given comes from MEMKV_*."""

    servers: tuple[str, ...] = ()
    auth_key: str | None = None
    transport: str = "auto"
    config_file: str | None = None
    prefix: str = ""
    """text in front of every key"""
    weights: str | None = None
    revision: str | None = None
    salt: str = ""
    """these three: docs/engines/vllm.md"""
    n_read_threads: int = 2
    n_write_threads: int = 1
    """I/O threads of the clients for loads and for stores"""
    lookup_timeout_s: float = 1.0
    """a request that has waited so long for answers goes on with what it has"""
    load_timeout_s: float = 10.0
    """of a load job; what is not there by then is recomputed"""
    store_timeout_s: float = 30.0
    max_store_backlog_mb: float = 1024
    """MB (2^20 bytes) of stores under way; what would be above is not stored, and counted"""
    prefetch: bool = False
    """what a lookup finds is announced to the servers: those with a RAM tier read it from their drives meanwhile"""
    enable_kv_events: bool = False
    locality: str | None = None
    """"LOCAL" or "REMOTE"; both as in upstream's tiers"""

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Settings:
        """InvalidError (a ValueError): an unknown name, or a value that cannot be."""
        return cls(**_parameters.checked(parameters, _CHECKS, "memkv"))

    def connect(self, purpose: str, io_contexts: int) -> memkv.Client:
        """A client for one purpose. A server that is down is no error."""
        return _parameters.connect(self, f"vllm-{purpose}", io_contexts)


def _locality(name: str, value: Any) -> str | None:
    return None if value is None else _parameters.choice(name, value, ("LOCAL", "REMOTE"))


_STORE = ("servers", "auth_key", "transport", "config_file")
_CHECKS: dict[str, _parameters.Check] = {
    **{name: _parameters.STORE[name] for name in _STORE},
    **_parameters.TIER,
    "enable_kv_events": _parameters.flag,
    "locality": _locality,
}
