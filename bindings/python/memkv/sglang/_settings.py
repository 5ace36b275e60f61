"""What the extra config says, checked; and what the engine says of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

# Of the engine: it reads these itself, and leaves some of them in place.
_ENGINES = frozenset(
    (
        "backend_name", "module_path", "class_name", "interface_v1", "tp_lcm_size", "prefetch_threshold", "prefetch_timeout_base",
        "prefetch_timeout_per_ki_token", "hicache_storage_pass_prefix_keys", "file_storage_path",
    )
)  # fmt: skip
_TEXTS = ("servers", "auth_key", "transport", "shm_dir", "config_file", "client_name", "model", "weights", "draft_weights", "revision", "kv_dtype", "salt", "prefix")
_SECONDS = ("exists_timeout_s", "get_timeout_s", "put_timeout_s")
_FLAGS = ("register_memory", "interface_v1")
_COUNTS = ("io_contexts",)
_KNOWN = (*_TEXTS, *_SECONDS, *_FLAGS[:1], *_COUNTS, "rdma_devices")


@dataclass(frozen=True)
class Settings:
    """Parameters of --hicache-storage-backend-extra-config. Timeouts are seconds, each of a whole call of the engine."""

    servers: str | None = None
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
    model: str | None = None
    weights: str | None = None
    draft_weights: str | None = None
    revision: str | None = None
    kv_dtype: str | None = None
    salt: str | None = None
    prefix: str | None = None
    interface_v1: bool = False


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ValueError(f"memkv: {name} is {value!r}: it must be a number of seconds above 0")
    return float(value)


def _text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"memkv: {name} is {value!r}: it must be text")
    return value or None


def _devices(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple)) or not all(isinstance(device, str) for device in value):
        raise ValueError(f'memkv: rdma_devices is {value!r}: it must be a list such as ["mlx5_0", "mlx5_1"]')
    return tuple(device.strip() for device in value)


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"memkv: {name} is {value!r}: it must be a number from 0 on")
    return value


def _flag(name: str, value: Any) -> bool:
    if value not in (0, 1):  # True and False are these, too
        raise ValueError(f"memkv: {name} is {value!r}: it must be true or false")
    return bool(value)


def _servers(value: Any) -> str | None:
    return ",".join(value) if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value) else _text("servers", value)


def read(extra: Mapping[str, Any] | None) -> Settings:
    """Settings from the extra config. ValueError names the parameter that is unknown or wrong."""
    extra = dict(extra or {})
    unknown = sorted(set(extra) - _ENGINES - set(_KNOWN))
    if unknown:
        raise ValueError(f"memkv: unknown parameter {', '.join(unknown)} in the extra config; known are {', '.join(sorted(_KNOWN))}")
    values: dict[str, Any] = {}
    for name in _TEXTS:
        if name in extra:
            values[name] = _servers(extra[name]) if name == "servers" else _text(name, extra[name])
    values.update((name, _seconds(name, extra[name])) for name in _SECONDS if name in extra)
    values.update((name, _flag(name, extra[name])) for name in _FLAGS if name in extra)
    values.update((name, _count(name, extra[name])) for name in _COUNTS if name in extra)
    if "rdma_devices" in extra:
        values["rdma_devices"] = _devices(extra["rdma_devices"])
    if not values.get("transport"):
        values.pop("transport", None)
    return Settings(**values)


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
