"""What two engines must have in common to share blocks, as the bytes that stand before vLLM's own keys.

vLLM's key is a hash over the tokens, the cache salt, the LoRA adapter and the images before and in the block. It does not
know the weights, their types, nor how a block's bytes are laid out: those are here."""

from __future__ import annotations

import json
import sys
from typing import Any

from memkv import naming
from memkv.errors import InvalidError


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


def _engine_facts(vllm_config: Any) -> dict[str, str]:
    """What else of the engine changes the bytes: a new minor version may lay them out anew."""
    import vllm

    facts = {"version": ".".join(vllm.__version__.split(".")[:2])}
    if vllm_config is None:
        return facts
    model, draft = vllm_config.model_config, getattr(vllm_config, "speculative_config", None)
    attention = getattr(getattr(vllm_config, "attention_config", None), "backend", None)
    facts.update(
        device=str(getattr(vllm_config.device_config, "device_type", "")),
        quantization=str(getattr(model, "quantization", None)),
        overrides=_overrides(getattr(model, "hf_overrides", None)),
        attention=str(getattr(attention, "name", attention)),
    )
    if draft is not None and getattr(draft, "model", None):
        facts["draft"] = _draft_weights(draft)
    return facts


def _overrides(overrides: Any) -> str:
    """Changes to config.json: a dictionary, or a function, which has a name."""
    return getattr(overrides, "__qualname__", None) or json.dumps(naming.plain(overrides), sort_keys=True)


def _draft_weights(draft: Any) -> str:
    """A draft model's blocks are stored as well. One that has no weights of its own (n-grams) is told by its name.
    InvalidError: it has some, and they cannot be told."""
    model, revision = str(draft.model), getattr(draft, "revision", None)
    try:
        return naming.weights_identity(model, revision)
    except InvalidError as e:
        if naming.find(model, revision) is not None:
            raise InvalidError(f"memkv: the draft model: {e}") from None
        return f"{model}@{revision}"


def _weights(model: str, revision: str | None, override: str | None) -> str:
    try:
        return naming.weights_identity(model, revision, override)
    except InvalidError as e:
        raise InvalidError(f'memkv: {e}: add "weights": "<a name of these weights>" to the tier\'s configuration') from None


def key_prefix(spec: Any, block_bytes: int, *, weights: str | None, revision: str | None, salt: str) -> bytes:
    """Stands before every key of this engine. `weights`: the operator's own name for them, instead of what the files say;
    `revision`: vLLM's own where None; `salt`: who has another one shares nothing. InvalidError: the weights cannot be told."""
    config, vllm_config = spec.config, find_vllm_config()
    dtype, hash_scheme = config.model.dtype, ""
    if vllm_config is not None:
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
