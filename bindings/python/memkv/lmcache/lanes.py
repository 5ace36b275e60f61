"""Ops under way: a client of its own for lookups, for loads and for stores, so that nothing waits behind a store."""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time
from array import array
from collections.abc import Sequence
from ctypes import c_void_p
from typing import Any, NamedTuple

from .. import _library, _parameters
from .._buffers import piece_of
from .._client import Client
from .._hints import Hints
from .._library import OK, check, lib
from .._ops import _NOT_YET, Flight, Ops, _address
from ..errors import MemKVError, UnauthorizedError
from .keys import KeyColumns
from .settings import Settings

_BYTES_A_SECOND = 1 << 30  # the slowest rate that a load's deadline allows for
_LANES = {_library.OP_EXISTS: "lookup", _library.OP_GET: "load"}
_COUNTED = {
    _library.OP_EXISTS: ("found", "not_found"),
    _library.OP_GET: ("loaded", "not_loaded"),
    _library.OP_PUT: ("stored", "not_stored"),
    _library.OP_REMOVE: ("removed", "not_removed"),
}


class KindFlight(Flight):
    """Ops of one kind from columns, each with a key and at most one piece: nothing is made for each op. `asked`: LMCache's
    own keys, for the result; `kept`: the objects whose memory it is, until that is quiet."""

    def __init__(self, kind: int, keys: KeyColumns, asked: Any, timeout: float | None = None, flags: int = 0, memory: "Memory | None" = None) -> None:
        self.begun_s = time.monotonic()
        self.ops = Ops()  # without entries
        self.pending = c_void_p()
        self.thread = 0
        self.keys, self.asked, self.kept = keys, asked, memory
        self.sizes = memory.sizes if memory else array("Q")
        self.bytes_asked = sum(self.sizes)
        self.statuses = array("i", [_NOT_YET]) * len(keys)
        self.unreachable = bytearray(len(keys))
        self.bytes = array("Q", bytes(8 * len(self.sizes)))
        self.block_bytes = self.bytes[:]
        self.columns = _library.BatchColumns(
            op_count=len(keys),
            keys=keys.addresses.ctypes.data,
            key_sizes=keys.sizes.ctypes.data,
            piece_count=len(self.sizes),
            pieces=_address(memory.addresses) or None if memory else None,
            piece_sizes=_address(self.sizes) or None,
            kind=kind,
            flags=flags,
            timeout_ns=_parameters.nanoseconds("timeout", timeout),
        )

    def collect(self) -> None:
        results = _library.ResultColumns(
            statuses=_address(self.statuses),
            bytes=_address(self.bytes) or None,
            block_bytes=_address(self.block_bytes) or None,
            unreachable=_address(self.unreachable),
        )
        check(lib.memkv_collect(self.pending, ctypes.byref(results)))
        self.kept = None

    @property
    def all_hit(self) -> bool:
        """A quick look, before hits()."""
        if self.columns.kind == _library.OP_GET and not self.bytes == self.block_bytes == self.sizes:
            return False
        return self.statuses.count(OK) == len(self.statuses)

    def hits(self) -> list[int]:
        """Places of the ops that were done; of gets those that gave a whole block of the size that was asked for."""
        if self.columns.kind == _library.OP_GET:
            columns = zip(self.statuses, self.bytes, self.block_bytes, self.sizes)
            return [i for i, (status, count, whole, size) in enumerate(columns) if status == OK and count == whole == size]
        return [i for i, status in enumerate(self.statuses) if status == OK]


class Memory(NamedTuple):
    """A piece an op: `addresses` (uint64) and `sizes` (uint64, bytes), good as long as `owners` live."""

    addresses: array[int]
    sizes: array[int]
    owners: Any

    @classmethod
    def of_objects(cls, objects: Sequence[Any]) -> "Memory":
        """Of LMCache's MemoryObjs."""
        return cls(array("Q", [obj.data_ptr for obj in objects]), array("Q", [obj.get_size() for obj in objects]), objects)

    @classmethod
    def of_views(cls, views: Sequence[Any], writable: bool) -> "Memory":
        found = [piece_of(view, writable) for view in views]
        return cls(array("Q", [piece.address for piece in found]), array("Q", [piece.size for piece in found]), found)


class Lane:
    """A client, its queue, and what is under way. Thread: any; nothing here waits but close().

    `fd` is the queue's event descriptor. LMCache reads it before it asks for results, and asks by task, so that a signal may
    be gone while results are here: whoever fetches one signals again if others stay behind. It may be signaled for nothing."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._lock = threading.Lock()
        self._flying: dict[int, KindFlight] = {}
        self._done: dict[int, KindFlight] = {}
        self._closed = False
        self._queue = c_void_p()
        with client._inside() as handle:
            check(lib.memkv_queue_open(handle, ctypes.byref(self._queue)))
        self.fd = int(lib.memkv_queue_fd(self._queue))

    def submit(self, tag: int, flight: KindFlight) -> None:
        """Never fails: a flight that cannot leave ends at once, without a hit."""
        with self._lock:
            if self._closed or not len(flight.keys):
                return self._finish(tag, flight)
            self._flying[tag] = flight
            try:
                flight.submit(self.client._state.enter(flight), self._queue, tag)
            except MemKVError:
                del self._flying[tag]
                self.client._state.leave(flight)
                self._finish(tag, flight)

    def refuse(self, tag: int, flight: KindFlight) -> None:
        """Ends a flight that has not left."""
        with self._lock:
            self._finish(tag, flight)

    def _finish(self, tag: int, flight: KindFlight) -> None:
        flight.kept = None
        self._done[tag] = flight
        self._signal()

    def _signal(self) -> None:
        if not self._closed:
            os.eventfd_write(self.fd, 1)

    def take(self, tag: int) -> KindFlight | None:
        """A flight that is done, once; None: not yet, or not any more."""
        with self._lock:
            drained = tag not in self._done and self._drain()
            flight = self._done.pop(tag, None)
            if drained and self._done:
                self._signal()
            return flight

    def take_all(self) -> dict[int, KindFlight]:
        with self._lock:
            self._consume()
            self._drain()
            done, self._done = self._done, {}
            return done

    def _consume(self) -> None:
        """Call it before the queue is emptied: whatever comes in between then signals again."""
        if self._closed:
            return
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass

    def _drain(self) -> bool:
        drained = False
        while not self._closed and (pending := lib.memkv_queue_next(self._queue)):
            tag = lib.memkv_pending_tag(pending)
            flight = self._flying.pop(tag)
            flight.collect()
            self.client._state.leave(flight)
            self._done[tag] = flight
            drained = True
        return drained

    def bytes_under_way(self) -> int:
        with self._lock:
            if self._drain():
                self._signal()
            return sum(flight.bytes_asked for flight in self._flying.values())

    def close(self) -> None:
        """Cancels what is under way and waits until its memory is quiet; it is done then, without a hit."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.client.close()
            for flight in self._flying.values():
                flight.kept = None
            self._done.update(self._flying)
            self._flying.clear()


class Traffic:
    """The three lanes, and what went over them. Deadlines are here: LMCache has none. Thread: any."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._backlog_bytes = int(settings.max_store_backlog_mb * (1 << 20))
        self._tags = itertools.count(1)
        opened: list[Lane] = []
        try:
            for purpose, contexts in (("lookup", 1), ("load", settings.n_read_threads), ("store", settings.n_write_threads)):
                opened.append(Lane(settings.connect(purpose, contexts)))
        except BaseException:
            for lane in opened:
                lane.close()
            raise
        self.lookups, self.loads, self.stores = opened
        self._hints = Hints(self.lookups.client) if settings.prefetch else None
        self.counts = dict.fromkeys(("found not_found loaded not_loaded stored not_stored removed not_removed not_made refused_bytes").split(), 0)
        self.longest_s = dict.fromkeys(("lookup", "load", "store"), 0.0)
        self.reachable: bool | None = None

    def look_up(self, keys: KeyColumns, asked: Any) -> int:
        """What is found counts as used: a block that LMCache serves from its own memory stays in the store."""
        tag = next(self._tags)
        self.lookups.submit(tag, KindFlight(_library.OP_EXISTS, keys, asked, self.settings.lookup_timeout_s, _library.FLAG_TOUCH))
        return tag

    def announce(self, flight: KindFlight, hits: Sequence[int]) -> None:
        """What a lookup has found will be loaded, once LMCache has room for it."""
        if self._hints is not None:
            self._hints.send([flight.keys.key(i) for i in hits])

    def load(self, keys: KeyColumns, asked: Any, memory: Memory) -> int:
        timeout = self.settings.load_timeout_s + sum(memory.sizes) / _BYTES_A_SECOND
        tag = next(self._tags)
        self.loads.submit(tag, KindFlight(_library.OP_GET, keys, asked, timeout, memory=memory))
        return tag

    def store(self, keys: KeyColumns, asked: Any, memory: Memory) -> int:
        """Refuses the store if too much is under way. A single store is let through even if it is larger than the limit."""
        flight = KindFlight(_library.OP_PUT, keys, asked, self.settings.store_timeout_s, memory=memory)
        tag, backlog = next(self._tags), self.stores.bytes_under_way()
        if backlog and backlog + flight.bytes_asked > self._backlog_bytes:
            self.counts["refused_bytes"] += flight.bytes_asked
            self.stores.refuse(tag, flight)
        else:
            self.stores.submit(tag, flight)
        return tag

    def patience_s(self, lane: Lane) -> float:
        """How long a task of this lane may wait before it leaves."""
        return self.settings.lookup_timeout_s if lane is self.lookups else self.settings.store_timeout_s

    def failed(self, lane: Lane, asked: Sequence[Any]) -> int:
        """Makes a tag for a task that could not be begun."""
        tag = next(self._tags)
        lane.refuse(tag, KindFlight(_library.OP_STAT, KeyColumns.of([b""] * len(asked)), asked))
        return tag

    def count(self, flight: KindFlight, hits: int) -> None:
        """Counts a flight that is done."""
        done, not_done = _COUNTED.get(flight.columns.kind, ("not_made", "not_made"))
        self.counts[done] += hits
        self.counts[not_done] += len(flight.keys) - hits
        if flight.pending.value:
            refused = all(status == UnauthorizedError.status for status in flight.statuses)
            self.reachable = not refused and not any(flight.unreachable)
            what = _LANES.get(flight.columns.kind, "store")
            self.longest_s[what] = max(self.longest_s[what], time.monotonic() - flight.begun_s)

    def status(self) -> dict[str, Any]:
        """`reachable`: the last task's servers answered, and not all refused the credential; None: no task yet. `servers`: a line each. `…_s_max`: of the longest task, from its
        begin until LMCache had its result. Keys, bytes where it says so."""
        try:
            servers = self.lookups.client.describe().splitlines()
        except MemKVError as e:
            servers = [str(e)]
        longest = {f"{what}_s_max": round(seconds, 6) for what, seconds in self.longest_s.items()}
        return {"reachable": self.reachable, "servers": servers, **self.counts, **longest, "store_backlog_bytes": self.stores.bytes_under_way()}

    def remove(self, keys: KeyColumns, asked: Any) -> int:
        tag = next(self._tags)
        self.stores.submit(tag, KindFlight(_library.OP_REMOVE, keys, asked, self.settings.store_timeout_s))
        return tag

    def remove_now(self, keys: KeyColumns) -> list[int]:
        """Blocks, by the deadline of a store. Places of those that were there."""
        flight = KindFlight(_library.OP_REMOVE, keys, None, self.settings.store_timeout_s)
        if len(keys):
            self.stores.client._state.fly(flight)
        return flight.hits()

    def close(self) -> None:
        for lane in (self.lookups, self.loads, self.stores):
            lane.close()
