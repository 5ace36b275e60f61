"""Sizes of what this process has stored, for LMCache's accounting."""

from __future__ import annotations

import threading

_KEYS_MAX = 1 << 20


class Accounts:
    """Bounded: beyond the limit the sizes of the oldest keys are forgotten. A forgotten key counts as new when it is stored
    again. Thread: any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[bytes, int] = {}

    def stored(self, keys: list[bytes], sizes: list[int]) -> list[int]:
        """How many bytes each key adds. A block that is stored again replaces itself and adds only what it grew."""
        with self._lock:
            news = [size - self._sizes.pop(key, 0) for key, size in zip(keys, sizes)]
            self._sizes.update(zip(keys, sizes))
            while len(self._sizes) > _KEYS_MAX:
                del self._sizes[next(iter(self._sizes))]
            return news

    def removed(self, keys: list[bytes]) -> list[int]:
        """How many bytes each key took."""
        with self._lock:
            return [self._sizes.pop(key, 0) for key in keys]
