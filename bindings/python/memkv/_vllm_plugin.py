"""The entry point `memkv` of vLLM's plugin group `vllm.general_plugins`."""

from __future__ import annotations

import logging


def register() -> None:
    """Makes `"type": "memkv"` name the tier. vLLM calls it in each of its processes, also where nobody uses MemKV: so it
    loads no library of MemKV, and whatever happens is no more than a line at debug."""
    logger = logging.getLogger(__name__)
    try:
        from vllm.v1.kv_offload.tiering.factory import SecondaryTierFactory

        SecondaryTierFactory.register_tier("memkv", "memkv.vllm", "MemKVTier")
    except BaseException as e:
        logger.debug("the tier memkv is not registered: %s: %s", type(e).__name__, e)
    else:
        logger.debug("the tier memkv is registered")
