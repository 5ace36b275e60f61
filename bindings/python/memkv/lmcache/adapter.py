"""LMCache's `type: plugin` adapter."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmcache.lmcache_native import Bitmap
from lmcache.v1.distributed.api import KeyListPage
from lmcache.v1.distributed.internal_api import L2StoreResult
from lmcache.v1.distributed.l2_adapters.base import L2AdapterInterface

from .._client import Region
from ..errors import MemKVError
from .accounts import Accounts
from .keys import KeyColumns, Keys
from .lanes import KindFlight, Lane, Memory, Traffic
from .listing import Listing
from .namespace import Namespace
from .notes import warn
from .settings import Settings


class MemKVL2Adapter(L2AdapterInterface):  # type: ignore[misc]
    """L2AdapterInterface of LMCache 0.5.6 (l2_adapters/base.py). Objects are bytes at `data_ptr`, `get_size()` of them.

    Nothing raises into LMCache's threads, and nothing waits but delete(), list_l2_keys() and close(): what cannot be done is
    a lookup without hits, a load whose keys failed, a store that failed. A result is reported when the memory of its objects
    is quiet. There are no locks: a block that goes between lookup and load is a key that was not loaded. Thread: any."""

    def __init__(self, params: Mapping[str, Any], l1_memory_desc: Any = None) -> None:
        settings = Settings.of(params)
        super().__init__(max_capacity_bytes=int(settings.max_capacity_gb * (1 << 30)))
        self._namespace = Namespace(settings)
        self._keys = Keys(self._namespace)
        self._traffic = Traffic(settings)
        self._accounts = Accounts()
        self._listing = Listing(self._traffic.stores.client, self._keys, settings)
        self._regions = self._register(l1_memory_desc) if l1_memory_desc else []

    def _register(self, arena: Any) -> list[Region]:
        """The whole of LMCache's own memory, once for each client that moves it; only rdma needs that."""
        stable = getattr(arena, "stable_registration_size", None)
        memory = (ctypes.c_char * (stable or arena.size)).from_address(arena.ptr)
        try:
            return [lane.client.register(memory) for lane in (self._traffic.loads, self._traffic.stores)]
        except MemKVError as e:
            warn(f"LMCache's memory is not registered, rdma copies: {e}")
            return []

    # Descriptors

    def get_store_event_fd(self) -> int:
        return self._traffic.stores.fd

    def get_lookup_and_lock_event_fd(self) -> int:
        return self._traffic.lookups.fd

    def get_load_event_fd(self) -> int:
        return self._traffic.loads.fd

    def _task(self, lane: Lane, keys: Sequence[Any], start: Callable[[KeyColumns], int]) -> int:
        """The task that `start` begins, or one that failed."""
        try:
            return start(self._keys.columns(keys, self._traffic.patience_s(lane)))
        except Exception as e:
            warn(f"a task cannot be made: {e or type(e).__name__}")
            return self._traffic.failed(lane, keys)

    # Store

    def submit_store_task(self, keys: list[Any], objects: list[Any]) -> int:
        store = self._traffic.store
        return self._task(self._traffic.stores, keys, lambda columns: store(columns, keys, Memory.of_objects(objects)))

    def pop_completed_store_tasks(self) -> dict[int, Any]:
        return {tag: self._stored(flight) for tag, flight in self._traffic.stores.take_all().items()}

    def _stored(self, flight: KindFlight) -> Any:
        keys, hits = flight.asked, flight.hits()
        self._traffic.count(flight, len(hits))
        if not hits:
            return L2StoreResult(not len(keys), 0)
        sizes = [flight.sizes[i] for i in hits]
        self._notify_keys_stored([keys[i] for i in hits], self._accounts.stored([flight.keys.key(i) for i in hits], sizes))
        return L2StoreResult(len(hits) == len(keys), sum(sizes))

    # Lookup

    def submit_lookup_and_lock_task(self, keys: list[Any], group_layout_descs: Any) -> int:
        return self._task(self._traffic.lookups, keys, lambda columns: self._traffic.look_up(columns, keys))

    def query_lookup_and_lock_result(self, task_id: int) -> Any:
        flight = self._traffic.lookups.take(task_id)
        if flight is None:
            return None
        bitmap, hits = self._bitmap(flight)
        self._traffic.announce(flight, hits)
        return bitmap

    def submit_unlock(self, keys: list[Any]) -> None:
        """There are no locks."""

    # Load

    def submit_load_task(self, keys: list[Any], objects: list[Any]) -> int:
        load = self._traffic.load
        return self._task(self._traffic.loads, keys, lambda columns: load(columns, keys, Memory.of_objects(objects)))

    def query_load_result(self, task_id: int) -> Any:
        flight = self._traffic.loads.take(task_id)
        if flight is None:
            return None
        bitmap, hits = self._bitmap(flight)
        if hits:
            self._notify_keys_accessed([flight.asked[i] for i in hits])
        return bitmap

    def _bitmap(self, flight: KindFlight) -> tuple[Any, Sequence[int]]:
        """A bit for each key that was found or loaded, and their places."""
        count = len(flight.keys)
        hits: Sequence[int] = range(count) if flight.all_hit else flight.hits()
        self._traffic.count(flight, len(hits))
        if len(hits) == count:
            return Bitmap(count, count), hits
        bitmap = Bitmap(count)
        bitmap.batched_set(hits)
        return bitmap, hits

    # The rest

    def delete(self, keys: list[Any]) -> None:
        """Blocks for `store_timeout_s` at most."""
        try:
            columns = self._keys.columns(keys, self._traffic.settings.store_timeout_s)
            gone = self._traffic.remove_now(columns)
        except Exception as e:
            warn(f"keys were not deleted: {e}")
            return
        if gone:
            self._notify_keys_deleted([keys[i] for i in gone], self._accounts.removed([columns.key(i) for i in gone]))

    def list_l2_keys(self, model_name: str | None = None, page_size: int = 500, cursor: str | None = None) -> KeyListPage:
        """Keys of this adapter's namespace in order, on all servers. Blocks. MemKVError: a server cannot be asked."""
        return self._listing.page(model_name, page_size, cursor)

    def report_status(self) -> dict[str, Any]:
        """`is_healthy` says that LMCache works, which it does while MemKV is away; `reachable`, that the last task was answered;
        `keys`, by model, what stands before its keys, and what that is made of."""
        return {"is_healthy": True, "type": type(self).__name__, **self._traffic.status(), "keys": self._namespace.names()}

    def close(self) -> None:
        """Returns when no memory of LMCache is touched any more."""
        self._traffic.close()
        for region in self._regions:
            region.unregister()
