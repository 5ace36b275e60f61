"""MemKV as a secondary tier of vLLM's KV offloading (docs/engines/vllm.md).

    "secondary_tiers": [{"type": "MemKVTier", "module_path": "memkv.vllm", "servers": "kv1:9900"}]
"""

from ._tier import MemKVTier

__all__ = ["MemKVTier"]
