"""What two engines must have in common to share blocks, as the bytes that stand before vLLM's own keys.

vLLM's key is a hash over the tokens, the cache salt, the LoRA adapter and the images before and in the block. It does not
know the weights, their types, nor how a block's bytes are laid out: those are here."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from memkv import naming


def find_vllm_config() -> Any:
    """The engine's VllmConfig, or None. A tier is given an OffloadingConfig, which knows neither revision nor quantization;
    the engine's own config is a local variable of those who are building the tier just now."""
    from vllm.config import get_current_vllm_config_or_none

    config = get_current_vllm_config_or_none()
    frame = sys._getframe(1)
    while config is None and frame is not None:
        config = frame.f_locals.get("vllm_config")
        frame = frame.f_back  # type: ignore[assignment]
    return config


def _folder_of(model: str, revision: str | None) -> str | None:
    """Where the files of a model lie: a folder, or the snapshot of its revision in Hugging Face's cache."""
    if os.path.isdir(model):
        return model
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model, "config.json", revision=revision)
    except Exception:
        return None
    return os.path.dirname(found) if isinstance(found, str) else None


def _weights(model: str, revision: str | None, override: str | None) -> str:
    return naming.weights_identity(_folder_of(model, revision), revision=revision, override=override)


def _layout(config: Any) -> str:
    """How a block's bytes lie in a row of the primary tier. Sizes of parallel groups matter only where upstream says that
    the bytes differ by them (config.py: is_parallelism_agnostic; replicated_layout: each rank has the same bytes)."""
    parallel = config.parallel
    shared = parallel.is_parallelism_agnostic or config.replicated_layout
    sizes = None if shared else [parallel.tp_size, parallel.pp_size, parallel.pcp_size, parallel.dcp_size, parallel.rank]
    return json.dumps(
        {
            "groups": [[group.tokens_per_block, list(group.layer_names)] for group in config.groups],
            "tokens_per_hash": config.cache.tokens_per_hash,
            "blocks_per_chunk": config.cache.blocks_per_chunk,
            "parallel": sizes,
            "replicated": config.replicated_layout,
            "canonical": config.canonical_layout,
            "kv_cache_layout": config.kv_cache_layout,
        }
    )


def _engine_facts(vllm_config: Any) -> dict[str, Any]:
    """What else of the engine changes the bytes: a new minor version may lay them out anew."""
    import vllm

    facts: dict[str, Any] = {"version": ".".join(vllm.__version__.split(".")[:2])}
    if vllm_config is None:
        return facts
    model, draft = vllm_config.model_config, getattr(vllm_config, "speculative_config", None)
    attention = getattr(getattr(vllm_config, "attention_config", None), "backend", None)
    facts.update(
        device=str(getattr(vllm_config.device_config, "device_type", "")),
        quantization=str(getattr(model, "quantization", None)),
        overrides=repr(getattr(model, "hf_overrides", None)),
        attention=str(getattr(attention, "name", attention)),
    )
    if draft is not None and getattr(draft, "model", None):
        facts["draft"] = _weights(str(draft.model), getattr(draft, "revision", None), None)
    return facts


def key_prefix(spec: Any, block_bytes: int, *, weights: str | None, revision: str | None, salt: str) -> bytes:
    """Stands before every key of this engine. `weights`: their identity as the user knows it, instead of the files'
    digests; `revision`: as vLLM's own, which is taken where None; `salt`: another tenant shares nothing."""
    config, vllm_config = spec.config, find_vllm_config()
    if vllm_config is None:
        dtype, hash_scheme = "", ""
    else:
        dtype = str(vllm_config.model_config.dtype).removeprefix("torch.")
        hash_scheme = str(vllm_config.cache_config.prefix_caching_hash_algo)
        revision = revision or vllm_config.model_config.revision
    return naming.prefix(
        engine="vllm",
        model=config.model.name,
        weights=_weights(config.model.name, revision, weights),
        dtype=dtype,
        kv_dtype=config.model.dtype,
        layout=_layout(config),
        block_bytes=block_bytes,
        hash_scheme=hash_scheme,
        salt=salt,
        extra=_engine_facts(vllm_config),
    )
