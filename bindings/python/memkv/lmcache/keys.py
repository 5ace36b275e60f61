"""LMCache's keys as MemKV's: a prefix for the model's namespace, then the text that LMCache's own adapters use.

    PREFIX org/model@01000100@0@HASH_HEX[@SALT]        up to 1,024 bytes: can be listed, and is an ObjectKey again
    PREFIX #BLAKE2B_HEX                                of the text of a longer one: works, but is not listed
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from ctypes import c_char_p, c_void_p, cast
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy

from .. import KEY_BYTES_MAX
from .namespace import Namespace

_HEADS_MAX = 4096  # a head for each model, rank, group and salt: more only with many salts


@dataclass(frozen=True)
class KeyColumns:
    """Keys for one call of the library: `text` holds them, `addresses` (uint64) and `sizes` (uint64, bytes) say where."""

    text: bytes
    addresses: Any
    sizes: Any

    def __len__(self) -> int:
        return len(self.sizes)

    def key(self, i: int) -> bytes:
        start = int(self.addresses[i] - self.addresses[0])
        return self.text[start : start + int(self.sizes[i])]

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> "KeyColumns":
        text, sizes = b"".join(keys), numpy.fromiter(map(len, keys), numpy.uint64, len(keys))
        return cls(text, numpy.cumsum(sizes, dtype=numpy.uint64) - sizes + numpy.uint64(_address(text)), sizes)

    @classmethod
    def alike(cls, head: bytes, hashes: Sequence[bytes], tail: bytes) -> "KeyColumns":
        """Keys that differ in their hashes only, which are of one size: nothing is made for each."""
        count, size = len(hashes), len(head) + 2 * len(hashes[0]) + len(tail)
        text = head + b"".join(hashes).hex("@", len(hashes[0])).encode().replace(b"@", tail + head) + tail
        first = _address(text)
        return cls(text, numpy.arange(first, first + size * count, size, dtype=numpy.uint64), numpy.full(count, size, numpy.uint64))


def _address(text: bytes) -> int:
    return cast(c_char_p(text), c_void_p).value or 0


_HASH = attrgetter("chunk_hash")
_FIELDS = [attrgetter(name) for name in ("model_name", "kv_rank", "object_group_id", "cache_salt")]


def _same(keys: Sequence[Any], field: Any) -> bool:
    values = list(map(field, keys))
    return values.count(values[0]) == len(values)


def _fit(prefix_bytes: int, key: bytes) -> bytes:
    """The key, or a digest of it behind the same prefix."""
    if len(key) <= KEY_BYTES_MAX:
        return key
    return key[:prefix_bytes] + b"#" + hashlib.blake2b(key[prefix_bytes:], digest_size=32).hexdigest().encode()


class Keys:
    """Thread: any."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._heads: dict[tuple[str, int, int, str], tuple[int, bytes, bytes]] = {}

    def columns(self, keys: Sequence[Any], wait_s: float) -> KeyColumns:
        """Of ObjectKeys. Those of a request mostly differ in their hash only. `wait_s`: for a model's weights to be read.
        TimeoutError, InvalidError: as Namespace.prefix()."""
        if not keys:
            return KeyColumns.of([])
        hashes = list(map(_HASH, keys))
        first = keys[0]
        if len(set(map(len, hashes))) == 1 and all(_same(keys, field) for field in _FIELDS):
            _, head, tail = self._around(first, wait_s)
            if len(head) + 2 * len(hashes[0]) + len(tail) <= KEY_BYTES_MAX:
                return KeyColumns.alike(head, hashes, tail)
        around = [self._around(key, wait_s) for key in keys]
        return KeyColumns.of([_fit(size, head + key.chunk_hash.hex().encode() + tail) for key, (size, head, tail) in zip(keys, around)])

    def columns_of_text(self, keys: Sequence[str], wait_s: float) -> KeyColumns:
        """Of the texts that LMCache hands to native clients."""
        models = [key.partition("@")[0] for key in keys]
        prefixes = {model: self._namespace.prefix(model, wait_s) for model in set(models)}
        return KeyColumns.of([_fit(len(prefixes[model]), prefixes[model] + key.encode()) for model, key in zip(models, keys)])

    def _around(self, key: Any, wait_s: float) -> tuple[int, bytes, bytes]:
        """Bytes of the prefix; what stands before and behind the hash."""
        kind = key.model_name, key.kv_rank, key.object_group_id, key.cache_salt
        around = self._heads.get(kind)
        if around is None:
            model, rank, group, salt = kind
            prefix = self._namespace.prefix(model, wait_s)
            around = len(prefix), prefix + f"{model}@{rank:08x}@{group:x}@".encode(), f"@{salt}".encode() if salt else b""
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            self._heads[kind] = around
        return around

    def parts(self, key: bytes) -> dict[str, Any] | None:
        """The fields of the ObjectKey; None: a key of another namespace, or one that was too long to stand in it."""
        try:
            text = key.decode()
            before, rank, group, hash_, *salt = text.split("@")
            model = self._namespace.model_in(before)
            if model is None or len(salt) > 1:
                return None
            return {
                "chunk_hash": bytes.fromhex(hash_),
                "model_name": model,
                "kv_rank": int(rank, 16),
                "object_group_id": int(group, 16),
                "cache_salt": salt[0] if salt else "",
            }
        except ValueError:
            return None
