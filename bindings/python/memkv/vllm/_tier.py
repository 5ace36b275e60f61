"""The tier: vLLM's calls on one side, three clients of MemKV on the other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import compress, islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import OffloadingConnectorStats
from vllm.logger import init_logger
from vllm.v1.kv_offload.base import (
    Locality,
    LookupResult,
    Medium,
    OffloadingCounterMetadata,
    OffloadingEvent,
    OffloadingGaugeMetadata,
    OffloadingMetricMetadata,
    RequestOffloadingContext,
)
from vllm.v1.kv_offload.tiering.async_lookup import AsyncLookupManager, LookupPhase
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager, TieringOffloadingMetrics

import memkv
from memkv import _library
from memkv._hints import Hints
from memkv._ops import Flight, Ops
from memkv._queued import QueuedClient

from . import _identity
from ._settings import Settings

if TYPE_CHECKING:
    from vllm.v1.kv_offload.base import OffloadKey, ReqContext, ScheduleEndContext
    from vllm.v1.kv_offload.tiering.base import TransferJob

logger = init_logger("vllm.memkv")

_MIB = 1 << 20
_SAY_AGAIN_S = 10.0  # between two warnings
_TOUCHES_MAX = 16384  # keys that wait to be told to the store as used
_TOUCHES_A_STEP = 2048  # of them: about a millisecond of Python
_STORED = (_library.OK, _library.EXISTS)


class MemKVMetrics:
    """Names of what upstream has no series for. Label: `tier`, as in upstream's."""

    LATE_LOOKUPS = "vllm:kv_offload_tiering_memkv_late_lookups"
    FAILED_LOAD_BLOCKS = "vllm:kv_offload_tiering_memkv_failed_load_blocks"
    FAILED_STORE_BLOCKS = "vllm:kv_offload_tiering_memkv_failed_store_blocks"
    SHED_TOUCHES = "vllm:kv_offload_tiering_memkv_shed_touches"
    STORE_BACKLOG_BYTES = "vllm:kv_offload_tiering_memkv_store_backlog_bytes"


class _Job(NamedTuple):
    """A TransferJob under way. `shed`: how many of its blocks were never begun."""

    job_id: int
    keys: list[bytes]
    is_load: bool
    begun: float
    shed: int = 0


class _Lookups(AsyncLookupManager):  # type: ignore[misc]
    """Asks in upstream's thread, one batch a request, never beyond the request's deadline."""

    def __init__(self, tier_type: str, client: memkv.Client, prefix: bytes, seconds_left: Callable[[str], float], hints: Hints | None) -> None:
        self._client, self._prefix, self._seconds_left, self._hints = client, prefix, seconds_left, hints
        self.late = 0  # batches that were not answered in time; written by the thread alone
        super().__init__(tier_type)

    def batch_lookup(self, keys: list[OffloadKey], req_context: ReqContext) -> Iterable[bool]:
        left = self._seconds_left(req_context.req_id)
        asked = [self._prefix + key for key in keys]
        found = self._client.exists_many(asked, timeout=left) if left > 0 else [False] * len(keys)
        if self._hints is not None:
            self._hints.send(list(compress(asked, found)))  # loads of these follow, once the primary tier has room
        if self._seconds_left(req_context.req_id) <= 0:
            self.late += 1
        return found

    def mark_miss(self, keys: Collection[OffloadKey]) -> None:
        """Only of verdicts that are there: 0.32 forces probes under way too, and its assert on their answer then ends the
        engine (0.33 leaves them)."""
        states = self._lookup_state
        super().mark_miss([key for key in keys if key in states and states[key].phase is LookupPhase.RESOLVED])

    def mark_stored(self, keys: Iterable[OffloadKey]) -> None:
        """Upstream keeps "absent" for all requests of a key that overlap, also once it is stored (0.32, 0.33)."""
        for key in keys:
            state = self._lookup_state.get(key)
            if state is not None and state.phase is LookupPhase.RESOLVED:
                state.result = True


class _Touches:
    """Keys that vLLM has used: told to the store beside its stores, a batch at a time, once a step. Nobody waits for them,
    and what is too much for now is left out: it only makes a block look older than it is. Thread: as the tier."""

    def __init__(self, client: memkv.Client, timeout_s: float) -> None:
        self._queue, self._timeout_s = QueuedClient(client), timeout_s
        self._waiting: dict[bytes, None] = {}  # in order, each once
        self.shed = 0

    def add(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            if len(self._waiting) < _TOUCHES_MAX:
                self._waiting[key] = None
            elif key not in self._waiting:
                self.shed += 1

    def step(self) -> None:
        """Begins the next batch once the last one is done. What it asks as well, whether a block is there, is not looked at:
        the question for many keys is one message."""
        self._queue.finished()
        if not self._waiting or len(self._queue):
            return
        keys = list(islice(self._waiting, _TOUCHES_A_STEP))
        for key in keys:
            del self._waiting[key]
        self._queue.submit(Ops.of_keys(_library.OP_EXISTS, keys, _library.FLAG_TOUCH), self._timeout_s, None)

    def close(self) -> None:
        self._queue.close()


class MemKVTier(SecondaryTierManager):  # type: ignore[misc]
    """A secondary tier of vLLM's tiered KV offloading whose blocks are in MemKV.

    Lookups, loads and stores have a client each, so that none waits behind another. Loads and stores are begun in the call
    and looked for in get_finished_jobs(); no thread of this class carries bytes. Every one ends by its deadline, and no
    byte of the primary view is touched after a job was handed back.

    Thread: any, one at a time (the manager's lock), as upstream demands from 0.33 on."""

    medium: ClassVar[Medium] = Medium.STORAGE

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: Any = None,
        **parameters: Any,
    ) -> None:
        """offloading_spec, primary_kv_view (rows x bytes a block), tier_type, backpressure_detector: from vLLM. parameters:
        those of Settings. InvalidError (a ValueError): one is unknown or wrong, before anything is connected."""
        settings = Settings.of(parameters)
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        self.locality = Locality(settings.locality) if settings.locality else None
        self._view: memoryview | None = primary_kv_view
        self._settings = settings
        self._backlog, self._backlog_max = 0, int(settings.max_store_backlog_mb * _MIB)
        self._prefix = settings.prefix.encode() + _identity.key_prefix(
            offloading_spec, self._block_size_bytes, weights=settings.weights, revision=settings.revision, salt=settings.salt
        )
        self._label = (_tier_label(offloading_spec, tier_type),)
        self._events = _event_list(offloading_spec, settings.enable_kv_events, tier_type)
        self._counts: Counter[str] = Counter()
        self._results: list[JobResult] = []
        self._asking_since: dict[str, float] = {}  # requests that were told to ask again, and since when
        self._late_told = 0
        self._warned = -_SAY_AGAIN_S
        self._asks = settings.connect("lookups", 1)
        self._loads = QueuedClient(settings.connect("loads", settings.n_read_threads))
        self._stores = QueuedClient(settings.connect("stores", settings.n_write_threads))
        self._touches = _Touches(self._stores.client, settings.store_timeout_s)
        self._regions = list(self._register(primary_kv_view))
        hints = Hints(self._asks) if settings.prefetch else None
        self._lookups = _Lookups(tier_type, self._asks, self._prefix, self._seconds_left, hints)
        logger.info("MemKV tier: %s; blocks of %d bytes, keys %r", self._asks.describe().strip(), self._block_size_bytes, self._prefix)

    def _register(self, view: memoryview) -> Iterator[Any]:
        """The whole view, once a client. Without it rdma copies through the client's own slots."""
        for queued in (self._loads, self._stores):
            try:
                yield queued.client.register(view)
            except memkv.MemKVError as e:
                logger.warning("MemKV: the primary tier cannot be registered, its bytes are copied: %s", e)

    # -- Lookups ---------------------------------------------------------------------------------------------------

    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:
        return RequestOffloadingContext()

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        found = self._lookups.lookup(key, req_context)
        if found is not None:
            return LookupResult.HIT if found else LookupResult.MISS
        request = req_context.req_id
        self._asking_since.setdefault(request, time.monotonic())
        if self._seconds_left(request) > 0:
            return LookupResult.RETRY
        self._warn(f"no answer within lookup_timeout_s ({self._settings.lookup_timeout_s:g} s), recomputing instead")
        return LookupResult.MISS

    def _seconds_left(self, request: str) -> float:
        """Until the request waits no longer. Thread: any."""
        since = self._asking_since.get(request)
        return self._settings.lookup_timeout_s if since is None else since + self._settings.lookup_timeout_s - time.monotonic()

    def on_schedule_end(self, context: ScheduleEndContext) -> None:
        for request in context.preempted_req_ids:
            self._asking_since.pop(request, None)  # what it will ask for then is new
        self._lookups.flush()
        try:
            self._touches.step()
        except memkv.MemKVError as e:
            self._warn(f"what was used is not told: {e}")

    def touch(self, keys: Collection[OffloadKey], req_context: ReqContext) -> None:
        """Notes that the keys count as used, so that the store keeps them longer. step() tells the store."""
        self._touches.add([self._prefix + key for key in keys])

    def on_request_finished(self, req_context: ReqContext) -> None:
        self._asking_since.pop(req_context.req_id, None)
        self._lookups.cleanup(req_context.req_id)

    # -- Loads and stores ------------------------------------------------------------------------------------------

    def submit_load(self, job_metadata: TransferJob) -> None:
        job = _Job(job_metadata.job_id, list(job_metadata.keys), True, time.monotonic())
        self._begin(self._loads, _library.OP_GET, job, job_metadata, self._settings.load_timeout_s)

    def submit_store(self, job_metadata: TransferJob) -> None:
        keys = list(job_metadata.keys)
        room = max(0, self._backlog_max - self._backlog) // self._block_size_bytes
        job = _Job(job_metadata.job_id, keys[:room], False, time.monotonic(), shed=max(0, len(keys) - room))
        if job.shed:
            self._counts[TieringOffloadingMetrics.BACKPRESSURE_STORES_DROPPED] += 1
            self._counts[TieringOffloadingMetrics.BACKPRESSURE_BLOCKS_DROPPED] += job.shed
            self._warn(f"stores of {self._backlog // _MIB} MiB are under way, {job.shed} blocks are not stored")
        self._begin(self._stores, _library.OP_PUT, job, job_metadata, self._settings.store_timeout_s)

    def _begin(self, by: QueuedClient, kind: int, job: _Job, job_metadata: TransferJob, timeout: float) -> None:
        """A failure becomes the job's result: an exception here would end the engine."""
        count = len(job.keys)
        try:
            if count:
                rows = [int(row) * self._block_size_bytes for row in job_metadata.chunk_ids[:count]]
                keys = [self._prefix + key for key in job.keys]
                by.submit(Ops.of_pages(kind, keys, self._view, rows, self._block_size_bytes), timeout, job)
        except Exception as e:
            self._warn(f"a job was not begun: {e}")
            self._count_failed(job, count)
            self._finish(job, [])
            return
        if not count:
            self._finish(job, [])
        elif not job.is_load:
            self._backlog += count * self._block_size_bytes

    def get_finished_jobs(self) -> Iterable[JobResult]:
        self._collect()
        results, self._results = self._results, []
        return results

    def _collect(self) -> None:
        for job, flight in self._loads.finished():
            self._end_load(job, flight)
        for job, flight in self._stores.finished():
            self._end_store(job, flight)

    def _end_load(self, job: _Job, flight: Flight) -> None:
        """A block counts as loaded if all of its bytes are there and true to their checksum."""
        whole = zip(job.keys, flight.statuses, flight.bytes, flight.block_bytes)
        size = self._block_size_bytes
        loaded = [key for key, status, count, of in whole if status == _library.OK and count == of == size]
        if len(loaded) < len(job.keys):
            self._count_failed(job, len(job.keys) - len(loaded))
            self._warn(f"{len(job.keys) - len(loaded)} of {len(job.keys)} blocks were not loaded ({_reasons(flight)}), recomputing them")
        self._finish(job, loaded)

    def _end_store(self, job: _Job, flight: Flight) -> None:
        """A block that the store refuses is not a failure; a store that cannot be reached is one."""
        self._backlog -= len(job.keys) * self._block_size_bytes
        failed = sum(status >= 16 or mute != 0 for status, mute in zip(flight.statuses, flight.unreachable))
        if failed:
            self._count_failed(job, failed)
            self._warn(f"{failed} of {len(job.keys)} blocks were not stored ({_reasons(flight)})")
        stored = [key for key, status in zip(job.keys, flight.statuses) if status in _STORED]
        # What the store kept as it was may be what could not be loaded a moment ago.
        self._lookups.mark_stored(key for key, status in zip(job.keys, flight.statuses) if status == _library.OK)
        if stored and self._events is not None:
            self._events.append(OffloadingEvent(keys=stored, medium=self.medium, removed=False, locality=self.locality))
        self._finish(job, stored, not failed and not job.shed)

    def _finish(self, job: _Job, done: list[bytes], success: bool | None = None) -> None:
        """The job's result. A key whose load failed is a miss from here on: if it stayed a hit, vLLM would load it again,
        and again."""
        if success is None:
            success = len(done) == len(job.keys) and not job.shed
        if job.is_load and not success:
            good = set(done)
            self._lookups.mark_miss([key for key in job.keys if key not in good])
        self._results.append(
            JobResult(
                job_id=job.job_id,
                success=success,
                successful_keys=tuple(done) if job.is_load and not success and done else None,
                transfer_time=time.monotonic() - job.begun,
                transfer_bytes=len(done) * self._block_size_bytes,
            )
        )

    def drain_jobs(self) -> None:
        """Waits until deadlines have ended all jobs. get_finished_jobs() hands them out afterwards."""
        for queued in (self._loads, self._stores):
            while len(queued):
                self._collect()
                if len(queued):
                    queued.wait(1.0)

    # -- What others see -------------------------------------------------------------------------------------------

    def take_events(self) -> Iterable[OffloadingEvent]:
        if self._events:
            yield from self._events
            self._events.clear()

    @classmethod
    def build_metric_definitions(cls, extra_config: dict[str, Any]) -> dict[str, OffloadingMetricMetadata]:
        def counter(text: str) -> OffloadingMetricMetadata:
            return OffloadingCounterMetadata(documentation=text, labelnames=("tier",))

        return {
            MemKVMetrics.LATE_LOOKUPS: counter("Lookups, one a request, that MemKV did not answer within lookup_timeout_s."),
            MemKVMetrics.FAILED_LOAD_BLOCKS: counter("Blocks that could not be loaded from MemKV and were recomputed."),
            MemKVMetrics.FAILED_STORE_BLOCKS: counter("Blocks that could not be stored in MemKV."),
            MemKVMetrics.SHED_TOUCHES: counter("Blocks whose use MemKV was not told of: too many waited."),
            MemKVMetrics.STORE_BACKLOG_BYTES: OffloadingGaugeMetadata(
                documentation="Bytes of stores to MemKV under way.", labelnames=("tier",)
            ),
        }  # fmt: skip

    def get_stats(self) -> OffloadingConnectorStats:
        stats = OffloadingConnectorStats()
        late = self._lookups.late
        self._counts[MemKVMetrics.LATE_LOOKUPS] += late - self._late_told
        self._late_told = late
        self._counts[MemKVMetrics.SHED_TOUCHES] += self._touches.shed
        self._touches.shed = 0
        for name, count in self._counts.items():
            if count:
                stats.increase_counter(name, count, self._label)
        self._counts.clear()
        stats.set_gauge(MemKVMetrics.STORE_BACKLOG_BYTES, self._backlog, self._label)
        return stats

    def _count_failed(self, job: _Job, blocks: int) -> None:
        self._counts[MemKVMetrics.FAILED_LOAD_BLOCKS if job.is_load else MemKVMetrics.FAILED_STORE_BLOCKS] += blocks

    def _warn(self, text: str) -> None:
        """Logs at most one line in a while, since a server that is down fails every job."""
        now = time.monotonic()
        if now - self._warned >= _SAY_AGAIN_S:
            self._warned = now
            logger.warning("MemKV: %s", text)

    @classmethod
    def config_info_keys(cls, tier_config: dict[str, Any]) -> tuple[str, ...]:
        """Labels of vllm:kv_offload_config_info, from 0.33 on."""
        return ("memkv_servers", "memkv_key_prefix")

    def config_info(self) -> dict[str, str]:
        return {"memkv_servers": ",".join(self._asks.servers), "memkv_key_prefix": self._prefix.decode(errors="backslashreplace")}

    def shutdown(self) -> None:
        """Cancels what is under way; when it returns, nothing touches the primary view."""
        self._asks.close()  # first: the thread of lookups ends at once then
        self._lookups.shutdown()
        for queued in (self._loads, self._stores, self._touches):
            queued.close()
        for region in self._regions:
            region.unregister()
        self._regions.clear()
        self._view = None


def _reasons(flight: Flight) -> str:
    """The statuses that are no success, each once: "deadline, miss"."""
    kinds = sorted({status for status in flight.statuses if status != _library.OK})
    return ", ".join(_library.lib.memkv_error_name(kind).decode() for kind in kinds) or "another size"


def _tier_label(spec: Any, tier_type: str) -> str:
    """As upstream's label "tier": place in the list of secondary tiers, counted from 1, and type."""
    configs = getattr(spec, "secondary_tier_configs", [])
    places = (place for place, config in enumerate(configs, 1) if config.get("type") == tier_type)
    return f"{next(places, 1)}:{tier_type}"


def _event_list(spec: Any, enabled: bool, tier_type: str) -> list[OffloadingEvent] | None:
    if enabled and not spec.kv_events_config.enable_kv_cache_events:
        logger.warning("enable_kv_events is set on tier %r, but KV cache events are off in vLLM: it emits none", tier_type)
        return None
    return [] if enabled else None
