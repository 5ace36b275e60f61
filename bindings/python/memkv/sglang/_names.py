"""What a key begins with: everything that decides the bytes of a page, but its tokens, which the engine hashes."""

from __future__ import annotations

from typing import Any

from .. import naming
from ..errors import InvalidError
from ._pages import Pages
from ._settings import EngineModel, Settings

# Page hashes are a chain of SHA-256 over tokens (little-endian u32); a request's salt and LoRA seed it.
HASH_SCHEME = "sglang-sha256-chain"

# In a model whose KV is the same on all ranks (MLA), these pools are so, too. What is not known to be, has its rank in its key:
# then it is read by nobody else, and never wrong.
_REPLICATED = frozenset(("MLATokenToKVPoolHost", "DSAIndexerPoolHost", "DeepSeekV4PagedHostPool", "DeepSeekV4StateHostPool", "LogicalHostPool"))
_DRAFTS = frozenset(("draft", "draft_indexer", "draft_swa"))


def same_on_all_ranks(config: Any, pool: Any, name: str) -> bool:
    """The bytes of this pool's pages do not depend on the rank in tensor parallelism."""
    if not config.is_mla_model:
        return False
    return name == "kv" or any(kind.__name__ in _REPLICATED for kind in type(pool).__mro__)


def _shard(config: Any, replicated: bool, part: int, parts: int) -> dict[str, str]:
    """Which shard of a page this process has: only what makes its bytes differ."""
    shard = {}
    if not replicated:
        shard["tp"] = f"{config.tp_rank * parts + part}/{config.tp_size * parts}"
    for name in ("pp", "attn_cp", "dcp"):
        if (size := getattr(config, f"{name}_size", 1)) > 1:
            shard[name] = f"{getattr(config, f'{name}_rank')}/{size}"
    return shard


def _device_layout(pool: Any) -> str | None:
    """How the GPU's kernels lay out a page ("nhd", "hnd"): host pages are copies of its bytes."""
    for info in getattr(pool, "_buffer_infos", None) or ():
        layout = getattr(getattr(info, "buffers", None), "layout", None)
        return str(getattr(layout, "value", layout))
    return None


def _identity(model: str | None, revision: str | None, override: str | None) -> str:
    try:
        return naming.weights_identity(model, revision, override)
    except InvalidError as e:
        raise ValueError(f'memkv: {e}: add "weights": "<a name of these weights>" to the extra config') from None


class Names:
    """Prefixes of one storage. ValueError: the weights cannot be told."""

    def __init__(self, settings: Settings, model: EngineModel, config: Any) -> None:
        self._settings, self._model, self._config = settings, model, config
        override = settings.weights or ("load-format dummy" if model.dummy else None)
        self._target = _identity(settings.model or model.path, settings.revision or model.revision, override)
        self._draft = _identity(model.draft_path, model.draft_revision, settings.draft_weights) if model.draft_path else ""

    def _weights(self, name: str, pool: Any) -> str:
        """Of the target, and of the draft model where its layers are in these pages."""
        if name in _DRAFTS and self._draft:
            return self._draft
        layers = getattr(pool, "layer_num", 0)
        packed = layers != getattr(pool, "target_layer_num", layers)
        return f"{self._target}+{self._draft}" if packed and self._draft else self._target

    def of(self, name: str, pool: Any, pages: Pages | None) -> list[bytes]:
        """One a block of a page. Layout and size are in it: another layout is a miss, never wrong KV."""
        settings, model, config = self._settings, self._model, self._config
        parts = pages.parts if pages else 1
        replicated = same_on_all_ranks(config, pool, name)
        weights = self._weights(name, pool)
        front = (settings.prefix or "").encode()
        return [
            front
            + naming.prefix(
                engine="sglang",
                model=config.model_name or "",
                weights=weights,
                dtype=model.dtype or "auto",
                kv_dtype=f"{settings.kv_dtype or model.kv_dtype or 'auto'} {getattr(pool, 'dtype', '')}",
                layout=f"{getattr(pool, 'layout', '')} {'v1' if settings.interface_v1 else 'flat'}",
                block_bytes=pages.block_bytes if pages else 0,
                hash_scheme=HASH_SCHEME,
                salt=settings.salt or "",
                extra={
                    **dict(model.rest),
                    "pool": name,
                    "page": pages.step if pages else 0,
                    "format": getattr(pool, "storage_format_tag", None),
                    "device": _device_layout(pool),
                    "version": model.version,
                    **_shard(config, replicated, part, parts),
                },
            )
            for part in range(parts)
        ]
