"""Sizes of what this process has stored, for LMCache's accounting."""

from __future__ import annotations

import threading

_KEYS_MAX = 1 << 20


class Accounts:
    """Bounded: of the oldest keys beyond that the size is forgotten, and counted again when they are stored again.
    Thread: any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[bytes, int] = {}

    def stored(self, keys: list[bytes], sizes: list[int]) -> list[int]:
        """What is new of each, in bytes: a block that is stored again takes its own place."""
        with self._lock:
            news = [size - self._sizes.pop(key, 0) for key, size in zip(keys, sizes)]
            self._sizes.update(zip(keys, sizes))
            while len(self._sizes) > _KEYS_MAX:
                del self._sizes[next(iter(self._sizes))]
            return news

    def removed(self, keys: list[bytes]) -> list[int]:
        """What each took, in bytes."""
        with self._lock:
            return [self._sizes.pop(key, 0) for key in keys]
