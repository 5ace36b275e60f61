"""LMCache's `type: native_plugin` client. LMCache itself is not imported."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from typing import Any

from .. import _library
from .keys import KeyColumns, Keys
from .lanes import KindFlight, Lane, Memory, Traffic
from .namespace import Namespace
from .notes import warn
from .settings import Settings

Completion = tuple[int, bool, str, "list[bool] | None"]


class MemKVNativeClient:
    """What NativeConnectorL2Adapter of LMCache 0.5.6 calls (l2_adapters/native_connector_l2_adapter.py): texts as keys,
    memoryviews as memory. Nothing raises and nothing waits but close(). Takes `adapter_params` as arguments. Thread: any.

    MemKVL2Adapter does the same without LMCache's thread between, and registers LMCache's memory with the NICs."""

    def __init__(self, **params: Any) -> None:
        settings = Settings.of(params)
        self._namespace = Namespace(settings)
        self._keys = Keys(self._namespace)
        self._traffic = Traffic(settings)
        self._lanes = (self._traffic.lookups, self._traffic.loads, self._traffic.stores)
        self._any = select.epoll()
        for lane in self._lanes:
            self._any.register(lane.fd, select.EPOLLIN)

    def event_fd(self) -> int:
        """Readable while there may be completions; not to be read."""
        return self._any.fileno()

    def _task(self, lane: Lane, keys: Sequence[str], start: Callable[[KeyColumns], int]) -> int:
        try:
            return start(self._keys.columns_of_text(keys, self._traffic.patience_s(lane)))
        except Exception as e:
            warn(f"a task cannot be made: {e or type(e).__name__}")
            return self._traffic.failed(lane, keys)

    def submit_batch_set(self, keys: list[str], views: list[Any]) -> int:
        store = self._traffic.store
        return self._task(self._traffic.stores, keys, lambda columns: store(columns, keys, Memory.of_views(views, False)))

    def submit_batch_get(self, keys: list[str], views: list[Any]) -> int:
        load = self._traffic.load
        return self._task(self._traffic.loads, keys, lambda columns: load(columns, keys, Memory.of_views(views, True)))

    def submit_batch_exists(self, keys: list[str]) -> int:
        return self._task(self._traffic.lookups, keys, lambda columns: self._traffic.look_up(columns, keys))

    def submit_batch_delete(self, keys: list[str]) -> int:
        return self._task(self._traffic.stores, keys, lambda columns: self._traffic.remove(columns, keys))

    def drain_completions(self) -> list[Completion]:
        """(task, it was done, why not, one answer a key)."""
        return [self._completion(tag, flight) for lane in self._lanes for tag, flight in lane.take_all().items()]

    def _completion(self, tag: int, flight: KindFlight) -> Completion:
        answers, hits = [False] * len(flight.keys), flight.hits()
        for i in hits:
            answers[i] = True
        if flight.columns.kind == _library.OP_EXISTS:
            self._traffic.announce(flight, hits)
        self._traffic.count(flight, sum(answers))
        ok = flight.columns.kind != _library.OP_PUT or all(answers)  # LMCache looks at a lookup's answers only where it is ok
        return tag, ok, "" if ok else "not all blocks were stored", answers

    def status(self) -> dict[str, Any]:
        """As MemKVL2Adapter.report_status() has it."""
        return {**self._traffic.status(), "keys": self._namespace.names()}

    def close(self) -> None:
        """Returns when no memory of LMCache is touched any more."""
        self._traffic.close()
        self._any.close()
