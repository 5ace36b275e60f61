"""Checks of what callers and operators set. InvalidError names the parameter, shows its value and says what is expected."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from . import KEY_BYTES_MAX
from .errors import InvalidError

if TYPE_CHECKING:
    from ._client import Client

Check = Callable[[str, Any], Any]
"""Takes a name and a value, and returns the value as it is used."""

TRANSPORTS = {"auto": 0, "tcp": 1, "shm": 2, "rdma": 3}
LOG_LEVELS = ("debug", "info", "warn", "error", "off")
IO_CONTEXTS_MAX, CONNECTIONS_PER_WORKER_MAX = 64, 16  # src/client/options.cc
_NUMBER_MAX = 1_000_000_000  # seconds, MB or GB: more is a mistake
_ENGINE_KEY_BYTES = 256  # for what an adapter and its engine put behind an operator's prefix
_SHOWN_MAX = 100  # characters of a value


def _wrong(name: str, value: Any, expected: str) -> InvalidError:
    """The error; a credential in the value is not shown."""
    shown = repr(value) if name != "auth_key" else f"of type {type(value).__name__}"
    return InvalidError(f"{name} is {shown if len(shown) <= _SHOWN_MAX else shown[:_SHOWN_MAX] + '…'}: it must be {expected}")


def _number(name: str, value: Any, unit: str, from_0: bool = False, otherwise: str = "") -> float:
    number: Any = value if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not (0 < number <= _NUMBER_MAX or (from_0 and number == 0)):
        raise _wrong(name, value, f"a number of {unit} {'from 0 on' if from_0 else 'above 0'}, at most {_NUMBER_MAX}{otherwise}")
    return float(number)


def seconds(name: str, value: Any) -> float:
    return _number(name, value, "seconds")


def nanoseconds(name: str, value: Any) -> int:
    """A timeout in seconds as the library takes it. None becomes 0, the default of each kind of op."""
    if value is None:
        return 0
    return max(1, int(_number(name, value, "seconds", otherwise=", or None for the default") * 1e9))


def megabytes(name: str, value: Any) -> float:
    return _number(name, value, "MB (2^20 bytes)")


def gigabytes(name: str, value: Any) -> float:
    """0 is one."""
    return _number(name, value, "GB (2^30 bytes)", from_0=True)


def count(name: str, value: Any, least: int, most: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
        raise _wrong(name, value, f"a whole number from {least} to {most}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    if value not in (0, 1):  # True and False are these, too
        raise _wrong(name, value, "true or false")
    return bool(value)


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "text")
    return value


def some_text(name: str, value: Any) -> str:
    if not text(name, value):
        raise _wrong(name, value, "text that is not empty")
    return str(value)


def optional_text(name: str, value: Any) -> str | None:
    """Empty text is none."""
    return None if value is None else text(name, value) or None


def prefix(name: str, value: Any) -> str:
    """Checks the text in front of an engine's keys: it must leave room for them."""
    size, most = len(text(name, value).encode()), KEY_BYTES_MAX - _ENGINE_KEY_BYTES
    if size > most:
        raise _wrong(name, value, f"at most {most} bytes, not {size}: keys have {KEY_BYTES_MAX}, and the engine's own need room")
    return str(value)


def choice(name: str, value: Any, known: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise InvalidError(f"{name} {value!r}: known are {', '.join(known)}")
    return value


transport = partial(choice, known=TRANSPORTS)


def optional_log_level(name: str, value: Any) -> str | None:
    return None if value is None else choice(name, value, LOG_LEVELS)


def names(name: str, value: Any) -> tuple[str, ...]:
    """A comma list, or a list or the like of texts; None is an empty one."""
    if value is None:
        return ()
    listed = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    if not all(isinstance(entry, str) for entry in listed):
        raise _wrong(name, value, 'a list such as ["a", "b"], or text such as "a,b"')
    return tuple(entry.strip() for entry in listed)


def devices(name: str, value: Any) -> tuple[str, ...]:
    return tuple(filter(None, names(name, value)))


def checked(given: Mapping[str, Any], checks: Mapping[str, Check], where: str) -> dict[str, Any]:
    """The values as their checks return them. `where` goes in front of messages. InvalidError: also an unknown name."""
    try:
        if unknown := sorted(set(given) - set(checks)):
            told = ", ".join(_with_nearest(name, checks) for name in unknown)
            raise InvalidError(f"unknown parameter {told}; known are {', '.join(sorted(checks))}")
        return {name: checks[name](name, value) for name, value in given.items()}
    except InvalidError as e:
        raise InvalidError(f"{where}: {e}") from None


STORE: dict[str, Check] = {
    "servers": names,
    "auth_key": optional_text,
    "transport": transport,
    "config_file": optional_text,
    "rdma_devices": devices,
    "shm_dir": optional_text,
}
"""What names a store, as in memkv.connect()."""

_threads = partial(count, least=1, most=IO_CONTEXTS_MAX)
TIER: dict[str, Check] = {
    "prefix": prefix,
    "weights": optional_text,
    "revision": optional_text,
    "salt": text,
    "n_read_threads": _threads,
    "n_write_threads": _threads,
    "lookup_timeout_s": seconds,
    "load_timeout_s": seconds,
    "store_timeout_s": seconds,
    "max_store_backlog_mb": megabytes,
    "prefetch": flag,
}
"""What the tiers of vLLM and LMCache have in common."""


def connect(settings: Any, client_name: str, io_contexts: int) -> Client:
    """A client of the store that an adapter's settings name. A server that is down is no error."""
    from . import connect as connect_to

    named = {name: getattr(settings, name) for name in STORE if hasattr(settings, name)}
    return connect_to(**named, client_name=client_name, io_contexts=io_contexts)


def _with_nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"{name} (is it {near[0]}?)" if near else name
