"""MemKV as LMCache's second tier (MP mode, LMCache 0.5.6; docs/engines/lmcache.md).

    lmcache server … --l2-adapter '{"type": "plugin", "module_path": "memkv.lmcache", "class_name": "MemKVL2Adapter",
                                    "adapter_params": {"servers": "kv1=10.0.0.10:9900"}}'

MemKVL2Adapter is for `type: plugin`, MemKVNativeClient for `type: native_plugin`. Both use the same keys, so that one finds
what the other stored. LMCache is imported when MemKVL2Adapter is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import MemKVL2Adapter
    from .native import MemKVNativeClient

_LAZY = {"MemKVL2Adapter": "adapter", "MemKVNativeClient": "native"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module("." + _LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["MemKVL2Adapter", "MemKVNativeClient"]
