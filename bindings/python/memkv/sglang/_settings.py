"""What the extra config says, checked; and what the engine says of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

from .. import _parameters

# Of the engine: it reads these itself, and leaves some of them in place.
_ENGINES = frozenset(
    (
        "backend_name", "module_path", "class_name", "tp_lcm_size", "prefetch_threshold", "prefetch_timeout_base",
        "prefetch_timeout_per_ki_token", "hicache_storage_pass_prefix_keys", "file_storage_path",
    )
)  # fmt: skip
_TEXTS = ("client_name", "model", "weights", "draft_weights", "revision", "kv_dtype", "salt")
_SECONDS = ("exists_timeout_s", "get_timeout_s", "put_timeout_s")
_KNOWN: dict[str, _parameters.Check] = {
    **dict.fromkeys(_TEXTS, _parameters.optional_text),
    **dict.fromkeys(_SECONDS, _parameters.seconds),
    **_parameters.STORE,
    "prefix": _parameters.prefix,
    "register_memory": _parameters.flag,
    "prefetch": _parameters.flag,
    "interface_v1": _parameters.flag,  # the engine reads it, too
    "io_contexts": partial(_parameters.count, least=0, most=_parameters.IO_CONTEXTS_MAX),
}
_UNSET = ("servers", "transport", "prefix")  # where null or "" is the default


@dataclass(frozen=True)
class Settings:
    """Parameters of --hicache-storage-backend-extra-config. Timeouts are seconds, each of a whole call of the engine."""

    servers: tuple[str, ...] = ()
    auth_key: str | None = None
    transport: str = "auto"
    shm_dir: str | None = None
    config_file: str | None = None
    client_name: str | None = None
    rdma_devices: tuple[str, ...] = ()
    io_contexts: int = 0
    exists_timeout_s: float = 0.5
    get_timeout_s: float = 2.0
    put_timeout_s: float = 5.0
    register_memory: bool = True
    prefetch: bool = False
    model: str | None = None
    weights: str | None = None
    draft_weights: str | None = None
    revision: str | None = None
    kv_dtype: str | None = None
    salt: str | None = None
    prefix: str | None = None
    interface_v1: bool = False


def read(extra: Mapping[str, Any] | None) -> Settings:
    """Settings from the extra config. InvalidError (a ValueError) names the parameter that is unknown or wrong."""
    extra = dict(extra or {})
    given = {name: value for name, value in extra.items() if name not in _ENGINES and not (name in _UNSET and value in (None, ""))}
    return Settings(**_parameters.checked(given, _KNOWN, "memkv"))


@dataclass(frozen=True)
class EngineModel:
    """What the engine's own arguments say that changes the bytes of a page. Empty where there is no engine (tests)."""

    path: str | None = None
    revision: str | None = None
    draft_path: str | None = None
    draft_revision: str | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    rest: tuple[tuple[str, str], ...] = ()
    dummy: bool = False
    """--load-format dummy: no weights of that path"""
    version: str = ""
    """of SGLang: a new one may lay pages out anew"""


_REST = ("quantization", "quantization_param_path", "json_model_override_args", "kv_cache_quant_algo")


def engine_model() -> EngineModel:
    """From the arguments that SGLang publishes in each of its processes."""
    version = metadata.version("sglang")
    try:
        from sglang.srt.runtime_context import get_server_args

        arguments = get_server_args()
    except Exception:  # none are published: a test, or a tool
        return EngineModel(version=version)

    def text(name: str) -> str | None:
        value = getattr(arguments, name, None)
        return None if value in (None, "", "{}") else str(value)

    rest = tuple((name, value) for name in _REST if (value := text(name)))
    return EngineModel(
        text("model_path"), text("revision"), text("speculative_draft_model_path"), text("speculative_draft_model_revision"),
        text("dtype"), text("kv_cache_dtype"), rest, text("load_format") == "dummy", version,
    )  # fmt: skip
