"""The client for asyncio: no thread and no polling; the loop watches the library's event descriptor.

    async with memkv.aio.connect() as kv:
        block = await kv.get("prefix/4f2a")
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Iterable
from ctypes import c_void_p
from typing import Any

from . import _library, _parameters
from ._client import _GUESS_BYTES, Client, ClientBase, add_put, hints_of
from ._library import check, lib
from ._ops import Flight, Key, Ops, Outcome
from ._state import State


class Batch:
    """Ops that run together: `async with kv.batch() as b: b.put(…); b.get_into(…)`, then b.outcomes, one an op."""

    def __init__(self, client: "AsyncClient", timeout: float | None) -> None:
        _parameters.nanoseconds("timeout", timeout)  # where it was given, not where the block ends
        self._client, self._timeout, self._ops = client, timeout, Ops()
        self.outcomes: list[Outcome] = []

    def put(self, key: Key, data: Any, *, if_absent: bool = False, offset: int | None = None) -> int:
        """Stores a block; with `offset` (bytes) writes a range of one. `data` must not change until the block has ended."""
        return add_put(self._ops, key, data, if_absent, offset)

    def get_into(self, key: Key, into: Any, *, offset: int = 0, generation: int = 0) -> int:
        """Reads the range from `offset` (bytes) on into writable memory."""
        return self._ops.add(_library.OP_GET, key, into, True, offset, generation)

    def exists(self, key: Key, *, touch: bool = False) -> int:
        return self._ops.add(_library.OP_EXISTS, key, flags=_library.FLAG_TOUCH if touch else 0)

    def remove(self, key: Key) -> int:
        return self._ops.add(_library.OP_REMOVE, key)

    def prefetch(self, key: Key) -> int:
        return self._ops.add(_library.OP_PREFETCH, key)

    async def __aenter__(self) -> "Batch":
        return self

    async def __aexit__(self, kind: Any, *_: object) -> None:
        if kind is None and len(self._ops):
            self.outcomes = (await self._client._fly(self._ops, self._timeout)).outcomes()
        self._ops = Ops()


class AsyncClient(ClientBase):
    """Of one event loop: that of the first `await`. As memkv.Client, but each call is awaited.

    A task that is canceled waits until its op's memory is quiet (its op is canceled too), then ends."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._queue: c_void_p | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[int, tuple[Flight, asyncio.Future[None]]] = {}
        self._next_tag = 0

    def _attach(self, handle: c_void_p) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            queue = c_void_p()
            check(lib.memkv_queue_open(handle, ctypes.byref(queue)))
            loop.add_reader(lib.memkv_queue_fd(queue), self._drain)
            self._queue, self._loop = queue, loop
        elif self._loop is not loop:
            raise RuntimeError("this client belongs to another event loop: connect one for each")
        return loop

    def _drain(self) -> None:
        """Hands out the batches that are complete."""
        while pending := lib.memkv_queue_next(self._queue):
            flight, future = self._waiting.pop(lib.memkv_pending_tag(pending))
            flight.collect()
            self._state.leave(flight)
            if not future.done():
                future.set_result(None)

    async def _fly(self, ops: Ops, timeout: float | None) -> Flight:
        self._check_cuda(ops)
        flight = Flight(ops, timeout)
        handle = self._state.enter(flight)
        try:
            loop = self._attach(handle)
            future: asyncio.Future[None] = loop.create_future()
            self._next_tag += 1
            self._waiting[self._next_tag] = flight, future
            flight.submit(handle, self._queue, self._next_tag)
        except BaseException:
            if flight.quiet:
                self._waiting.pop(self._next_tag, None)
                self._state.leave(flight)
            raise
        canceled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError as e:
                if future.cancelled():
                    raise
                canceled = e
                flight.cancel()
        if canceled:
            raise canceled
        return flight

    async def _one(self, ops: Ops, timeout: float | None) -> Outcome:
        return (await self._fly(ops, timeout)).outcome()

    async def put(self, key: Key, data: Any, *, if_absent: bool = False, offset: int | None = None, timeout: float | None = None) -> bool:
        """As Client.put()."""
        ops = Ops()
        add_put(ops, key, data, if_absent, offset)
        return (await self._one(ops, timeout)).hit

    async def get(self, key: Key, *, offset: int = 0, size: int | None = None, timeout: float | None = None) -> bytes | None:
        """As Client.get()."""
        wanted = _GUESS_BYTES if size is None else size
        while True:
            buffer = bytearray(wanted)
            outcome = await self._get(key, buffer, offset, timeout)
            if outcome is None:
                return None
            whole = max(0, outcome.block_bytes - offset)
            if size is not None or whole <= wanted:
                return bytes(memoryview(buffer)[: outcome.bytes])
            wanted = whole

    async def get_into(self, key: Key, into: Any, *, offset: int = 0, timeout: float | None = None) -> int | None:
        """As Client.get_into()."""
        outcome = await self._get(key, into, offset, timeout)
        return None if outcome is None else outcome.bytes

    async def _get(self, key: Key, into: Any, offset: int, timeout: float | None) -> Outcome | None:
        ops = Ops()
        ops.add(_library.OP_GET, key, into, True, offset)
        outcome = await self._one(ops, timeout)
        return outcome if outcome.hit else None

    async def exists(self, key: Key, *, timeout: float | None = None) -> bool:
        """As Client.exists()."""
        ops = Ops()
        ops.add(_library.OP_EXISTS, key)
        return (await self._one(ops, timeout)).hit

    async def exists_many(self, keys: Iterable[Key], *, touch: bool = False, timeout: float | None = None) -> list[bool]:
        """As Client.exists_many()."""
        ops = Ops()
        for key in keys:
            ops.add(_library.OP_EXISTS, key, flags=_library.FLAG_TOUCH if touch else 0)
        if not len(ops):
            _parameters.nanoseconds("timeout", timeout)  # as with ops
            return []
        flight = await self._fly(ops, timeout)
        return [status == _library.OK for status in flight.statuses]

    async def prefetch(self, keys: Iterable[Key], *, timeout: float | None = None) -> list[bool]:
        """As Client.prefetch()."""
        ops = hints_of(keys)
        if not len(ops):
            _parameters.nanoseconds("timeout", timeout)  # as with ops
            return []
        return [status == _library.OK for status in (await self._fly(ops, timeout)).statuses]

    async def remove(self, key: Key, *, timeout: float | None = None) -> bool:
        """As Client.remove()."""
        ops = Ops()
        ops.add(_library.OP_REMOVE, key)
        return (await self._one(ops, timeout)).hit

    def batch(self, timeout: float | None = None) -> Batch:
        """Many ops in one call, run when the `async with` block ends."""
        return Batch(self, timeout)

    async def close(self) -> None:
        """Cancels what is under way, waits until its memory is quiet (off the loop), and ends. Tasks that wait for an op
        end with CanceledError first."""
        for flight, _ in list(self._waiting.values()):
            flight.cancel()
        while self._waiting:
            await asyncio.wait([future for _, future in self._waiting.values()])
        if self._loop:
            self._loop.remove_reader(lib.memkv_queue_fd(self._queue))
        await asyncio.get_running_loop().run_in_executor(None, self._end)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def connect(*args: Any, **settings: Any) -> AsyncClient:
    """As memkv.connect(), for `async with` and `await`."""
    from . import connect as connect_blocking

    client: Client = connect_blocking(*args, **settings)
    client._end.detach()  # its handle goes on as the new one's
    return AsyncClient(client._state)
