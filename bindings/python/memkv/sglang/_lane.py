"""A client of the store for one direction, whose failures are values: an engine does not end because a cache is away."""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Sequence
from typing import Any

from .. import _library, _parameters
from .._ops import Flight, Ops
from ..errors import MemKVError
from ._pages import Memory
from ._settings import Settings

logger = logging.getLogger("memkv.sglang")

_QUIET_S = 30.0  # between two log lines of a lane
EXISTS = _library.OP_EXISTS
GET = _library.OP_GET
PUT = _library.OP_PUT


def ops_on(kind: int, keys: list[bytes], memories: Sequence[Memory]) -> Ops:
    """One op a key, on blocks in their order, in columns at once."""
    ops = Ops.of_keys(kind, keys)
    ops.counts = array("I")
    for memory in memories:
        ops.addresses.extend(memory.addresses)
        ops.sizes.extend(memory.sizes)
        ops.counts.extend(array("I", [memory.pieces]) * (len(memory.addresses) // memory.pieces))
        ops.kept.append(memory.keep)
    return ops


def exists_ops(keys: list[bytes], touch: bool) -> Ops:
    """`touch`: what is found counts as used."""
    return Ops.of_keys(EXISTS, keys, _library.FLAG_TOUCH if touch else 0)


class Lane:
    """Ops of one direction over connections of their own. Thread: any; each call waits at most its timeout."""

    def __init__(self, settings: Settings, direction: str, io_contexts: int = 1) -> None:
        """`io_contexts`: I/O threads; 0 = the client's default."""
        self._direction = direction
        self._say_again = 0.0
        self.client = _parameters.connect(settings, f"{settings.client_name or 'sglang'}-{direction}", io_contexts)

    def run(self, ops: Ops, timeout_s: float) -> Flight | None:
        """The ops with their outcomes; None = the call as a whole failed, and nothing is under way."""
        try:
            flight = self.client._fly(ops, max(timeout_s, 0.001))
        except MemKVError as e:
            self._say(f"nothing was {self._direction}: {e}")
            return None
        failed = [status for status in flight.statuses if status >= 16] if flight else []
        if flight and (failed or any(flight.unreachable)):
            why = "server_unreachable" if any(flight.unreachable) else _library.lib.memkv_error_name(failed[0]).decode()
            self._say(f"{max(len(failed), sum(map(bool, flight.unreachable)))} of {len(ops)} pages were not {self._direction}: {why}")
        return flight

    def _say(self, text: str) -> None:
        now = time.monotonic()
        if now >= self._say_again:
            self._say_again = now + _QUIET_S
            logger.warning("memkv: %s (at most one such line in %.0f s)", text, _QUIET_S)

    def register(self, tensor: Any) -> Any:
        """Memory that rdma moves without a copy, until the result is unregistered. None: it goes by a copy."""
        try:
            return self.client.register(tensor)
        except MemKVError as e:
            logger.warning("memkv: a host pool of %d bytes is not registered, its pages will be copied: %s", tensor.numel() * tensor.element_size(), e)
            return None
