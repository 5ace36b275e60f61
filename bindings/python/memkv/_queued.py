"""A client whose batches complete in a queue that its owner looks into: an engine's step, or its poll thread."""

from __future__ import annotations

import ctypes
import select
from ctypes import c_void_p
from typing import Any

from ._client import Client
from ._library import check, lib
from ._ops import Flight, Ops


class QueuedClient:
    """Submits batches at once, and hands back those that are complete. It has no thread, and only wait() and close() block.
    The `what` given with a batch comes back with its outcomes.

    Thread: any, one at a time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._queue = c_void_p()
        self._flying: dict[int, tuple[Flight, Any]] = {}
        self._next_tag = 0
        with client._inside() as handle:
            check(lib.memkv_queue_open(handle, ctypes.byref(self._queue)))
        self._readable = select.poll()
        self._readable.register(lib.memkv_queue_fd(self._queue), select.POLLIN)

    def __len__(self) -> int:
        """Batches under way, or complete and not handed back."""
        return len(self._flying)

    def submit(self, ops: Ops, timeout: float, what: Any) -> None:
        """Begins a batch of at least one op; `timeout` in seconds from now. A MemKVError: nothing was begun."""
        flight = Flight(ops, timeout)
        handle = self.client._state.enter(flight)
        tag = self._next_tag = self._next_tag + 1
        self._flying[tag] = flight, what
        try:
            flight.submit(handle, self._queue, tag)
        except BaseException:
            if flight.quiet:
                del self._flying[tag]
                self.client._state.leave(flight)
            raise

    def finished(self) -> list[tuple[Any, Flight]]:
        """What is complete since the last call: its memory is quiet, its outcomes are in the flight's columns."""
        done = []
        while self._flying and (pending := lib.memkv_queue_next(self._queue)):
            flight, what = self._flying.pop(lib.memkv_pending_tag(pending))
            flight.collect()
            self.client._state.leave(flight)
            done.append((what, flight))
        return done

    def wait(self, seconds: float) -> None:
        """Waits until a batch is complete, at most so long."""
        self._readable.poll(seconds * 1000)

    def close(self) -> None:
        """Cancels what is under way. When it returns, no memory of a batch is touched any more."""
        self.client.close()
        self._flying.clear()
