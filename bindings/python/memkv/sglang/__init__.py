"""SGLang's HiCache keeps its pages in MemKV (docs/engines/sglang.md). For SGLang 0.5.23:

    --enable-hierarchical-cache --hicache-storage-backend dynamic --hicache-storage-backend-extra-config \\
      '{"backend_name": "memkv", "module_path": "memkv.sglang", "class_name": "MemKVHiCacheStorage", "interface_v1": 1,
        "servers": "10.0.0.10:9900"}'
"""

from __future__ import annotations

import logging
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from itertools import accumulate, compress
from typing import Any

import torch
from sglang.srt.mem_cache.hicache_storage import (
    HiCacheStorage,
    HiCacheStorageConfig,
    HiCacheStorageExtraInfo,
    PoolHitPolicy,
    PoolName,
    PoolTransfer,
    PoolTransferResult,
)

from .. import _library
from .._hints import Hints
from ..errors import MemKVError
from . import _policies, _settings
from ._lane import GET, PUT, Lane, exists_ops, ops_on
from ._names import Names
from ._pages import Memory, Pages, buffers_of, pages_of

logger = logging.getLogger("memkv.sglang")

__all__ = ["MemKVHiCacheStorage"]

_KV = str(PoolName.KV)
_REMOVE_OPS = 4096
_CLEAR_S = 60.0
_STATS_MAX = 10_000  # calls that get_stats() remembers


class _Pool:
    """A host pool: its pages, and what the keys of their blocks begin with. pages None: none of its own."""

    def __init__(self, pool: Any, pages: Pages | None, begins: list[bytes]) -> None:
        self.pool, self.pages, self.begins = pool, pages, begins

    def keys(self, hashes: Sequence[str]) -> list[bytes]:
        """One a block, page after page."""
        encoded = [page.encode() for page in hashes]
        if len(self.begins) == 1:
            begin = self.begins[0]
            return [begin + page for page in encoded]
        return [begin + page for page in encoded for begin in self.begins]

    def by_page(self, blocks: list[bool]) -> list[bool]:
        """A page is there when all its blocks are."""
        parts = len(self.begins)
        return blocks if parts == 1 else [all(blocks[start : start + parts]) for start in range(0, len(blocks), parts)]


class MemKVHiCacheStorage(HiCacheStorage):  # type: ignore[misc]  # an engine's class is Any
    """Pages of SGLang's host pools as blocks of MemKV: one block a page and pool, whatever pieces the page lies in.

    Misses, servers that are down and deadlines are results (False, None, fewer pages), never exceptions. When a call has
    returned, nothing touches its memory any more. Thread: any; SGLang asks, reads and writes in one thread each.
    ValueError in the constructor: a parameter is unknown or wrong."""

    def __init__(self, storage_config: HiCacheStorageConfig, kwargs: dict[str, Any] | None = None) -> None:
        self.storage_config = storage_config
        self.settings = _settings.read(storage_config.extra_config)
        self._names = Names(self.settings, _settings.engine_model(), storage_config)
        if not self.settings.interface_v1:
            logger.warning('memkv: without "interface_v1": 1 in the extra config SGLang copies each page on its way; add it')
        # Connections of their own: questions do not wait behind pages, nor prefetches behind backups.
        self._asks = Lane(self.settings, "asked for")
        self._reads = Lane(self.settings, "read", self.settings.io_contexts)
        self._writes = Lane(self.settings, "written")
        self._hints = Hints(self._asks.client) if self.settings.prefetch else None
        self._pools: dict[str, _Pool] = {}
        self._regions: dict[tuple[int, int], list[Any]] = {}
        self.registered_pools: dict[Any, Any] = {}
        self._counts: Counter[str] = Counter()
        self._stats: dict[str, deque[Any]] = {
            name: deque(maxlen=_STATS_MAX) for name in ("prefetch_pgs", "backup_pgs", "prefetch_bandwidth", "backup_bandwidth")
        }

    # Host pools.

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        """The anchor pool. ValueError: its pages cannot be had in this layout."""
        super().register_mem_pool_host(mem_pool_host)
        self._add(_KV, mem_pool_host)

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        super().register_mem_host_pool_v2(host_pool, host_pool_name)
        known = self._pools.get(str(host_pool_name))
        if known is None or known.pool is not host_pool:
            self._add(str(host_pool_name), host_pool)

    def _add(self, name: str, pool: Any) -> None:
        config = self.storage_config
        split = config.tp_lcm_size // config.tp_size if name == _KV and config.should_split_heads and config.tp_lcm_size else 1
        pages = pages_of(pool, name, split)
        self._pools[name] = _Pool(pool, pages, self._names.of(name, pool, pages))
        if self.settings.register_memory and pages:
            self._register(buffers_of(pool))
        logger.info(
            "memkv: pool %s, layout %s: pages of %d bytes in %d pieces, keys begin with %s", name, getattr(pool, "layout", ""),
            pages.block_bytes * pages.parts if pages else 0, pages.pieces if pages else 0, self._pools[name].begins[0].decode(),
        )  # fmt: skip

    def _register(self, tensors: list[torch.Tensor]) -> None:
        """Each memory once, for both lanes."""
        for tensor in tensors:
            where = tensor.data_ptr(), tensor.numel() * tensor.element_size()
            if where not in self._regions:
                self._regions[where] = [region for lane in (self._reads, self._writes) if (region := lane.register(tensor))]

    def _pool(self, name: Any) -> _Pool | None:
        pool = self._pools.get(str(name))
        if pool is None:
            logger.error("memkv: the host pool %s is not registered: its pages are misses", name)
        return pool

    # Blocks.

    def _there(self, keys: list[bytes], timeout_s: float, touch: bool = False) -> list[bool] | None:
        """Which blocks exist; None: no server answered."""
        if not keys:
            return []
        flight = self._asks.run(exists_ops(keys, touch), timeout_s)
        if flight is None or all(flight.unreachable) or all(status >= 16 for status in flight.statuses):
            return None
        return [status == _library.OK for status in flight.statuses]

    def _read(self, keys: list[bytes], memories: Sequence[Memory], sizes: list[int]) -> list[bool]:
        """Blocks into memory; True only for those that have come whole and are of their size."""
        begin = time.monotonic()
        flight = self._reads.run(ops_on(GET, keys, memories), self.settings.get_timeout_s)
        if flight is None:
            done = [False] * len(keys)
        else:
            columns = zip(flight.statuses, flight.bytes, flight.block_bytes, sizes)
            done = [status == _library.OK and size == count == whole for status, count, whole, size in columns]
        self._note("prefetch", done, sizes, time.monotonic() - begin)
        return done

    def _write(self, keys: list[bytes], memories: Sequence[Memory], sizes: list[int], timeout_s: float) -> list[bool]:
        begin = time.monotonic()
        flight = self._writes.run(ops_on(PUT, keys, memories), timeout_s)
        done = [status == _library.OK for status in flight.statuses] if flight else [False] * len(keys)
        self._note("backup", done, sizes, time.monotonic() - begin)
        return done

    def _note(self, what: str, done: list[bool], sizes: list[int], seconds: float) -> None:
        blocks = done.count(True)
        landed = sum(compress(sizes, done))
        self._counts[f"{what}_blocks"] += blocks
        self._counts[f"{what}_blocks_failed"] += len(done) - blocks
        self._counts[f"{what}_bytes"] += landed
        if self.storage_config.enable_storage_metrics:
            self._stats[f"{what}_pgs"].append(len(done))
            self._stats[f"{what}_bandwidth"].append(landed / max(seconds, 1e-9) / 1e9)

    # Pages of several pools in one call of the store.

    def _exist(self, asked: list[tuple[_Pool, Sequence[str]]]) -> list[list[bool]]:
        """For each pool, which of its pages are there."""
        keys = [pool.keys(hashes) for pool, hashes in asked]
        there = self._there([key for some in keys for key in some], self.settings.exists_timeout_s)
        self._counts["exists_calls"] += 1
        if there is None:
            self._counts["exists_calls_failed"] += 1
            return [[False] * len(hashes) for _, hashes in asked]
        return [pool.by_page(blocks) for (pool, _), blocks in zip(asked, _cut(there, keys))]

    def _announce(self, pool: _Pool, hashes: Sequence[str]) -> None:
        """These pages will be read, once SGLang has host memory for them."""
        if self._hints is not None:
            self._hints.send(pool.keys(hashes))

    def _move(self, transfers: list[tuple[_Pool, Sequence[str], Any]], write: bool) -> list[list[bool]]:
        """Pages of each pool, between the store and the host indices given. Pages without a place are False, pools without
        pages of their own True."""
        results = [[pool.pages is None] * len(hashes) for pool, hashes, _ in transfers]
        jobs = []
        for place, (pool, hashes, indices) in enumerate(transfers):
            if pool.pages is None or not hashes:
                continue
            if indices is None or len(indices) != len(hashes) * pool.pages.step:
                logger.error("memkv: %d host indices for %d pages: none is moved", 0 if indices is None else len(indices), len(hashes))
                continue
            jobs.append((place, pool, pool.pages, hashes, indices.detach().to("cpu").reshape(-1)))
        if jobs:
            done = self._put_missing(jobs) if write else self._get(jobs)
            results = [done.get(place, result) for place, result in enumerate(results)]
        return results

    def _get(self, jobs: list[Any]) -> dict[int, list[bool]]:
        keys = [pool.keys(hashes) for _, pool, _, hashes, _ in jobs]
        memories = [pages.target(indices, len(hashes)) for _, _, pages, hashes, indices in jobs]
        sizes = [size for (_, _, pages, _, _), some in zip(jobs, keys) for size in [pages.block_bytes] * len(some)]
        blocks = _cut(self._read([key for some in keys for key in some], memories, sizes), keys)
        done = {place: pool.by_page(some) for (place, pool, _, _, _), some in zip(jobs, blocks)}
        for (place, _, pages, _, indices), memory in zip(jobs, memories):
            pages.landed(indices, memory, done[place])
        return done

    def _put_missing(self, jobs: list[Any]) -> dict[int, list[bool]]:
        """Writes the pages of which a block is not there: what a key holds does not change."""
        end = time.monotonic() + self.settings.put_timeout_s
        keys = [pool.keys(hashes) for _, pool, _, hashes, _ in jobs]
        there = self._there([key for some in keys for key in some], min(self.settings.exists_timeout_s, self.settings.put_timeout_s), touch=True)
        if there is None:
            self._counts["backup_blocks_failed"] += sum(map(len, keys))
            return {place: [False] * len(hashes) for place, _, _, hashes, _ in jobs}
        done, lacking = {}, []
        for (place, pool, pages, hashes, indices), blocks in zip(jobs, _cut(there, keys)):
            done[place] = pool.by_page(blocks)
            if missing := [page for page, ok in enumerate(done[place]) if not ok]:
                lacking.append((place, pool, pages, missing, [hashes[page] for page in missing], _select(indices, missing, pages.step)))
        self._put(lacking, done, end - time.monotonic())
        return done

    def _put(self, lacking: list[Any], done: dict[int, list[bool]], timeout_s: float) -> None:
        if not lacking:
            return
        keys = [pool.keys(hashes) for _, pool, _, _, hashes, _ in lacking]
        memories = [pages.source(indices, len(missing)) for _, _, pages, missing, _, indices in lacking]
        sizes = [size for (_, _, pages, *_), some in zip(lacking, keys) for size in [pages.block_bytes] * len(some)]
        blocks = _cut(self._write([key for some in keys for key in some], memories, sizes, timeout_s), keys)
        for (place, pool, _, missing, _, _), some in zip(lacking, blocks):
            for page, ok in zip(missing, pool.by_page(some)):
                done[place][page] = ok

    # HiCache's zero-copy calls.

    def batch_get_v1(self, keys: list[str], host_indices: torch.Tensor, extra_info: HiCacheStorageExtraInfo | None = None) -> list[bool]:
        """Pages into the anchor pool at `host_indices` (one a token). True = the whole page is there; else its memory is
        unspecified, and quiet."""
        pool = self._pool(_KV)
        return self._move([(pool, keys, host_indices)], write=False)[0] if pool else [False] * len(keys)

    def batch_set_v1(self, keys: list[str], host_indices: torch.Tensor, extra_info: HiCacheStorageExtraInfo | None = None) -> list[bool]:
        """Pages of the anchor pool. True = stored, or it was there."""
        pool = self._pool(_KV)
        return self._move([(pool, keys, host_indices)], write=True)[0] if pool else [False] * len(keys)

    def batch_exists_v2(
        self, keys: list[str], pool_transfers: list[PoolTransfer] | None = None, extra_info: HiCacheStorageExtraInfo | None = None
    ) -> PoolTransferResult:
        """How many leading pages all pools can restore, each by its hit policy; every length that can be restored; and each
        pool's own verdict."""
        anchor = self._pool(_KV)
        transfers = [(transfer, pool) for transfer in pool_transfers or () if (pool := self._pool(transfer.name))]
        if anchor is None or len(transfers) < len(pool_transfers or ()):
            return PoolTransferResult(0, {}, [])
        if anchor.pages is None and not transfers:
            return PoolTransferResult(0, {}, [])
        asked = ([(anchor, keys)] if anchor.pages else []) + [(pool, _asked_of(transfer, keys)) for transfer, pool in transfers]
        present = self._exist(asked)
        for (pool, hashes), some in zip(asked, present):
            self._announce(pool, list(compress(hashes, some)))
        kv_pages = _policies.leading(present.pop(0)) if anchor.pages else len(keys)
        hits: dict[Any, int] = {PoolName.KV: kv_pages} if kv_pages else {}
        restorable = set(range(1, kv_pages + 1))
        for (transfer, _), some in zip(transfers, present):
            pages, lengths = _policies.boundary(transfer, some, kv_pages)
            if pages:
                hits[transfer.name] = pages
            if lengths is not None:
                restorable &= lengths
        self._counts["exists_pages"] += len(keys)
        self._counts["hit_pages"] += max(restorable, default=0)
        return PoolTransferResult(max(restorable, default=0), hits, sorted(restorable))

    def batch_get_v2(self, transfers: list[PoolTransfer], extra_info: HiCacheStorageExtraInfo | None = None) -> dict[str, list[bool]]:
        """Pages of several pools, in one round."""
        return self._move_v2(transfers, write=False)

    def batch_set_v2(self, transfers: list[PoolTransfer], extra_info: HiCacheStorageExtraInfo | None = None) -> dict[str, list[bool]]:
        return self._move_v2(transfers, write=True)

    def _move_v2(self, transfers: list[PoolTransfer], write: bool) -> dict[str, list[bool]]:
        results: dict[str, list[bool]] = {transfer.name: [False] * len(transfer.keys or ()) for transfer in transfers}
        known = [(transfer.name, pool, transfer) for transfer in transfers if (pool := self._pool(transfer.name))]
        moved = self._move([(pool, transfer.keys or (), transfer.host_indices) for _, pool, transfer in known], write)
        results.update((name, pages) for (name, _, _), pages in zip(known, moved))
        return results

    # HiCache's generic calls: flat pages in tensors of the caller.

    def _anchor(self) -> _Pool:
        """Without a host pool (a tool, a test) keys begin alike, too."""
        if _KV not in self._pools:
            self._pools[_KV] = _Pool(None, None, self._names.of(_KV, None, None))
        if len(self._pools[_KV].begins) > 1:
            raise ValueError('memkv: heads are split (tp_lcm_size): that needs "interface_v1": 1')
        return self._pools[_KV]

    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> torch.Tensor | None:
        """The page in `target_location` (a contiguous CPU tensor of its size); without one, in a new tensor of bytes."""
        return self.batch_get([key], None if target_location is None else [target_location])[0]

    def batch_get(self, keys: list[str], target_locations: Any = None, target_sizes: Any = None) -> list[torch.Tensor | None]:
        if not keys:
            return []
        if target_locations is None:
            return [self._get_new(key) for key in self._anchor().keys(keys)]
        memories = [_memory_of(tensor) for tensor in target_locations]
        done = self._read(self._anchor().keys(keys), memories, [memory.sizes[0] for memory in memories])
        return [tensor if ok else None for tensor, ok in zip(target_locations, done)]

    def _get_new(self, key: bytes) -> torch.Tensor | None:
        try:
            data = self._reads.client.get(key, timeout=self.settings.get_timeout_s)
        except MemKVError:
            return None
        return None if data is None else torch.frombuffer(bytearray(data), dtype=torch.uint8)

    def set(self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None) -> bool:
        return self.batch_set([key], None if value is None else [value])

    def batch_set(self, keys: list[str], values: Any = None, target_locations: Any = None, target_sizes: Any = None) -> bool:
        """True = all are stored, or were there."""
        if values is None or len(values) != len(keys):
            raise ValueError(f"memkv: {len(keys)} keys need as many tensors as values")
        if not keys:
            return True
        end = time.monotonic() + self.settings.put_timeout_s
        encoded = self._anchor().keys(keys)
        there = self._there(encoded, min(self.settings.exists_timeout_s, self.settings.put_timeout_s), touch=True)
        if there is None:
            return False
        missing = [place for place, ok in enumerate(there) if not ok]
        memories = [_memory_of(values[place].contiguous()) for place in missing]
        sizes = [memory.sizes[0] for memory in memories]
        return not missing or all(self._write([encoded[place] for place in missing], memories, sizes, end - time.monotonic()))

    def exists(self, key: str) -> bool:
        return self.batch_exists([key]) == 1

    def batch_exists(self, keys: list[str], extra_info: HiCacheStorageExtraInfo | None = None) -> int:
        """How many are there from the first on without a gap."""
        anchor = self._pools.get(_KV) or self._anchor()
        if anchor.pool is not None and anchor.pages is None:
            return 0  # its pages are in side pools, which nobody named
        hits = _policies.leading(self._exist([(anchor, keys)])[0])
        self._announce(anchor, keys[:hits])
        self._counts["exists_pages"] += len(keys)
        self._counts["hit_pages"] += hits
        return hits

    # The rest.

    def clear(self) -> bool:
        """Removes the pages of this model, layout and rank; others of the same credential stay. False: not all could be."""
        begins = tuple(begin for pool in self._pools.values() for begin in pool.begins)
        end = time.monotonic() + _CLEAR_S
        client = self._writes.client
        try:
            for server in range(len(client.servers)):
                listed = client.list(server, timeout=max(0.001, end - time.monotonic()))
                mine = [block.key for block in listed if block.key.startswith(begins)]
                for start in range(0, len(mine), _REMOVE_OPS):
                    with client.batch(max(0.001, end - time.monotonic())) as batch:
                        for key in mine[start : start + _REMOVE_OPS]:
                            batch.remove(key)
                    if any(outcome.failed or outcome.unreachable for outcome in batch.outcomes):
                        return False
        except MemKVError as e:
            logger.warning("memkv: clear did not end: %s", e)
            return False
        return True

    def get_stats(self) -> Any:
        """SGLang's StorageMetrics since the last call: pages (of all pools) and GB/s a call. Empty without --enable-metrics."""
        from sglang.srt.observability.metrics_collector import StorageMetrics

        metrics = StorageMetrics()
        for name, values in self._stats.items():
            while values:
                getattr(metrics, name).append(values.popleft())
        return metrics

    def counters(self) -> dict[str, int]:
        """Since the start: pages asked for and found, blocks and bytes read and written, and the clients' own counters."""
        counts = dict(self._counts)
        for name, lane in (("asks", self._asks), ("reads", self._reads), ("writes", self._writes)):
            counts.update((f"{name}_{what}", count) for what, count in lane.client.counters().items())
        return counts

    def describe(self) -> str:
        """One line a server: connected or why not, and over which transport."""
        return self._reads.client.describe()

    def close(self) -> None:
        """Cancels what is under way. When it returns, no memory of a host pool is touched any more."""
        for lane in (self._asks, self._reads, self._writes):
            lane.client.close()
        for regions in self._regions.values():
            for region in regions:
                region.unregister()
        self._regions.clear()


def _cut(column: list[bool], keys: list[list[bytes]]) -> list[list[bool]]:
    """A column as one list for each list of keys."""
    if len(keys) == 1:
        return [column]
    ends = list(accumulate(map(len, keys), initial=0))
    return [column[begin:end] for begin, end in zip(ends, ends[1:])]


def _select(indices: torch.Tensor, pages: list[int], step: int) -> torch.Tensor:
    """The indices of these pages."""
    if len(pages) * step == len(indices):
        return indices
    return indices.reshape(-1, step)[pages].reshape(-1)


def _asked_of(transfer: PoolTransfer, keys: list[str]) -> Sequence[str]:
    return transfer.keys or () if transfer.hit_policy == PoolHitPolicy.BLOCK_GROUPS else keys


def _memory_of(tensor: torch.Tensor) -> Memory:
    """A whole tensor of the caller. ValueError: it is not contiguous, or not on the CPU."""
    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise ValueError("memkv: a page is a contiguous tensor on the CPU")
    return Memory(array("Q", [tensor.data_ptr()]), array("Q", [tensor.numel() * tensor.element_size()]), 1, tensor)
