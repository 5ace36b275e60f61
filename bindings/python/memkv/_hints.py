"""Prefetches of an engine's adapter: told to the servers, and not waited for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from . import _library
from ._client import Client
from ._ops import Ops
from ._queued import QueuedClient
from .errors import MemKVError

_BATCHES_MAX = 4  # under way at a time
_KEYS_MAX = 4096  # of a batch
_TIMEOUT_S = 1.0  # a hint that comes later is worth nothing


class Hints:
    """Tells servers which blocks an engine has found, and will load. Whatever goes wrong with a hint is no error; and while
    a few batches are under way, more of them are left out. Ends with its client. Thread: any."""

    def __init__(self, client: Client) -> None:
        self._queue, self._lock = QueuedClient(client), threading.Lock()
        self.sent = self.shed = 0
        """keys"""

    def send(self, keys: Sequence[bytes]) -> None:
        """Returns at once."""
        if not keys:
            return
        with self._lock:
            try:
                sent = self._submit(keys[:_KEYS_MAX])
            except MemKVError:
                sent = 0
            self.sent += sent
            self.shed += len(keys) - sent

    def _submit(self, keys: Sequence[bytes]) -> int:
        with self._queue.client._inside():  # another thread may be about to close it
            self._queue.finished()
            if len(self._queue) >= _BATCHES_MAX:
                return 0
            self._queue.submit(Ops.of_keys(_library.OP_PREFETCH, keys), _TIMEOUT_S, None)
            return len(keys)
