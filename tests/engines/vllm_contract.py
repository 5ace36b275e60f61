"""The tier in upstream's own TieringOffloadingManager, without an engine: run by test_vllm_contract.py in a process of its own
for each version of vLLM. The part of the engine is played by World."""

import contextlib
import dataclasses
import inspect
import itertools
import math
import os
import signal
import threading
import time

import memkv
import numpy
import pytest
import vllm
from memkv import _vllm_plugin
from processes import DriveServer, Server, freeze
from vllm.v1.kv_offload.base import LookupResult, Medium, ReqContext, ScheduleEndContext, make_offload_key
from vllm.v1.kv_offload.config import OffloadingCacheConfig, OffloadingConfig, OffloadingGroupConfig, OffloadingModelConfig, OffloadingParallelConfig
from vllm.v1.kv_offload.tiering.async_lookup import LookupPhase
from vllm.v1.kv_offload.tiering.base import SecondaryTierManager, TieringOffloadingMetrics
from vllm.v1.kv_offload.tiering.factory import SecondaryTierFactory
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec

_vllm_plugin.register()
BLOCK = 65536
LOOKUP_S, LOAD_S, SLACK_S = 0.3, 1.0, 0.2
_numbers = itertools.count()


def offloading_config(tier, block=BLOCK, rows=64, **more):
    parallel = {"tp_size": 1, "is_parallelism_agnostic": False, **more.pop("parallel", {})}
    model = {"name": "model", "dtype": "bfloat16", **more.pop("model", {})}
    return OffloadingConfig(
        groups=(OffloadingGroupConfig(tokens_per_block=16, layer_names=("l0", "l1"), group_id=0),),
        worker_kv_bytes_per_block=block // parallel["tp_size"],
        enable_kv_cache_events=True,
        extra_config={"cpu_bytes_to_use": rows * block, "secondary_tiers": [tier]},
        engine_id=f"memkv-test-{os.getpid()}-{next(_numbers)}",
        model=OffloadingModelConfig(**model),
        cache=OffloadingCacheConfig(tokens_per_hash=16, blocks_per_chunk=1),
        parallel=OffloadingParallelConfig(
            rank=0, world_size=parallel["tp_size"], pp_size=1, pcp_size=1, dcp_size=1, data_parallel_index=0, data_parallel_size=1,
            data_parallel_rank_local=None, **parallel,
        ),
        **more,
    )  # fmt: skip


class World:
    """Upstream's manager with our tier. `call`: who makes the calls (a thread of its own, for some)."""

    def __init__(self, server, tier=None, call=None, **more):
        defaults = {"weights": "w", "lookup_timeout_s": LOOKUP_S, "load_timeout_s": LOAD_S}
        self.parameters = {"type": "memkv", "servers": getattr(server, "address", server), **defaults, **(tier or {})}
        self.call = call or (lambda function: function())
        self.spec = TieringOffloadingSpec(offloading_config(self.parameters, **more))
        self.manager = self.spec.get_manager()
        self.tier = self.manager.secondary_tiers[0]
        self.memory = numpy.asarray(self.manager.primary_tier.get_kv_memoryview())
        self.loads = 0
        submit = self.tier.submit_load

        def counted(job):
            self.loads += 1
            submit(job)

        self.tier.submit_load = counted

    def locked(self, function):
        def inside():
            with getattr(self.manager, "lock", contextlib.nullcontext()):
                return function()

        return self.call(inside)

    def step(self, preempted=()):
        self.locked(lambda: self.manager.on_schedule_end(ScheduleEndContext((), preempted)))

    def request(self, name):
        context = ReqContext(name)
        self.locked(lambda: self.manager.on_new_request(context))
        return context

    def finish(self, context):
        self.locked(lambda: self.manager.on_request_finished(context))

    def begin_store(self, keys, byte):
        """As when the GPU's blocks have come to the primary tier: their cascade begins."""
        context = self.request(f"store-{next(_numbers)}")
        stored = self.locked(lambda: self.manager.prepare_store(keys, context))
        self.memory[stored.store_spec.chunk_ids] = byte
        self.locked(lambda: self.manager.complete_store(keys, context))
        self.finish(context)

    def until_idle(self, seconds=10):
        until = time.monotonic() + seconds
        while self.locked(self.manager.has_pending_work):
            assert time.monotonic() < until, "jobs do not end"
            self.step()
            time.sleep(0.001)

    def store(self, keys, byte=7):
        self.begin_store(keys, byte)
        self.until_idle()

    def forget(self):
        """The primary tier is empty; promotions are held until the workers are flushed (from 0.33 on)."""
        self.locked(self.manager.reset_cache)
        self.locked(getattr(self.manager, "on_reset_flushed", lambda: None))

    def look(self, context, keys):
        return [self.locked(lambda key=key: self.manager.lookup(key, context)) for key in keys]

    def find(self, keys, seconds=10):
        """As the scheduler asks, step by step, until all is answered."""
        context, until = self.request(f"find-{next(_numbers)}"), time.monotonic() + seconds
        while True:
            results = self.look(context, keys)
            self.step()
            if not {LookupResult.RETRY, LookupResult.HIT_PENDING} & set(results):
                self.finish(context)
                return [result.name for result in results]
            assert time.monotonic() < until, f"a request waits for ever: {results}"
            time.sleep(0.001)

    def connect(self, keys):
        """Until every thread of the clients has its connections, also where the machine is busy."""
        until = time.monotonic() + 20
        while set(self.find(keys)) != {"HIT"}:
            assert time.monotonic() < until, "the server is not found"
            self.forget()
        self.forget()

    def loaded(self, key):
        """What lies in the primary tier under a key."""
        context = self.request(f"read-{next(_numbers)}")
        spec = self.locked(lambda: self.manager.prepare_load([key], context))
        row = self.memory[spec.chunk_ids[0]].copy()
        self.locked(lambda: self.manager.complete_load([key], context))
        self.finish(context)
        return row

    def end(self):
        self.memory = None
        self.manager.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("server"), "--mode", "memory", "--memory", "512MiB")
    yield started
    started.process.send_signal(signal.SIGCONT)
    started.kill()


@pytest.fixture
def world(server):
    made = World(server)
    yield made
    server.process.send_signal(signal.SIGCONT)
    made.end()


@pytest.fixture
def worlds(server):
    made = []

    def make(*args, **more):
        made.append(World(server, *args, **more))
        return made[-1]

    yield make
    server.process.send_signal(signal.SIGCONT)
    for one in made:
        one.end()


def draw_keys(count, size=32):
    return [make_offload_key(os.urandom(size), 0) for _ in range(count)]


def test_what_a_lookup_finds_is_announced_and_read_once(tmp_path):
    drive = DriveServer(tmp_path)
    world = World(drive, tier={"prefetch": True, "auth_key": drive.key, "lookup_timeout_s": 5.0, "load_timeout_s": 5.0})
    keys = draw_keys(8)
    try:
        world.store(keys, byte=3)
        world.forget()
        assert set(world.find(keys + draw_keys(1))) == {"HIT", "MISS"}
        assert all(set(world.loaded(key)) == {3} for key in keys)
        time.sleep(0.3)
        tier = drive.tier()
        assert tier["prefetches"] > 0 and tier["prefetches"] + tier["misses"] == 8, tier
    finally:
        world.end()
        drive.kill()


# -- The interface ----------------------------------------------------------------------------------------------------


def test_this_is_the_version_that_is_meant():
    assert vllm.__version__.startswith(os.environ["VLLM_EXPECTED"])


def test_the_tier_has_each_method_with_upstreams_parameters():
    tier = SecondaryTierFactory.get_tier_class({"type": "memkv"})
    assert tier is SecondaryTierFactory.get_tier_class({"type": "MemKVTier", "module_path": "memkv.vllm"})
    assert not tier.__abstractmethods__ and tier.medium is Medium.STORAGE
    for name, method in inspect.getmembers(SecondaryTierManager, inspect.isfunction):
        if name != "__init__" and not name.startswith("__"):
            assert list(inspect.signature(getattr(tier, name)).parameters) == list(inspect.signature(method).parameters), name


def test_registering_again_harms_nothing():
    _vllm_plugin.register()
    assert "memkv" in SecondaryTierFactory._registry


@pytest.mark.parametrize("wrong", [{"transport": "pigeon"}, {"locality": "NEAR"}, {"auth_key": "short"}, {"weights": None}])
def test_a_wrong_setting_ends_the_start_with_a_reason(server, wrong):
    with pytest.raises(ValueError):
        World(server, wrong)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"lookup_timeout": 1}, r"unknown parameter lookup_timeout \(is it lookup_timeout_s\?\); known are auth_key, .*weights"),
        ({"lookup_timeout_s": math.nan}, "lookup_timeout_s is nan: it must be a number of seconds above 0"),
        ({"load_timeout_s": 0}, "load_timeout_s is 0: it must be a number of seconds above 0"),
        ({"store_timeout_s": "30"}, "store_timeout_s is '30': it must be a number of seconds above 0"),
        ({"n_read_threads": True}, "n_read_threads is True: it must be a whole number from 1 to 64"),
        ({"n_write_threads": 0}, "n_write_threads is 0: it must be a whole number from 1 to 64"),
        ({"max_store_backlog_mb": -1}, "max_store_backlog_mb is -1: it must be a number of MB .* above 0"),
        ({"prefix": None}, "prefix is None: it must be text"),
        ({"prefix": "p" * 1000}, "prefix is .*: it must be at most 768 bytes, not 1000"),
        ({"salt": 7}, "salt is 7: it must be text"),
        ({"weights": 7}, "weights is 7: it must be text"),
        ({"revision": ["main"]}, "revision is .*: it must be text"),
        ({"servers": 7}, "servers is 7: it must be a list such as"),
        ({"transport": None}, "transport None: known are auto"),
        ({"enable_kv_events": "no"}, "enable_kv_events is 'no': it must be true or false"),
        ({"locality": "NEAR"}, "locality 'NEAR': known are LOCAL, REMOTE"),
    ],
)
def test_a_wrong_parameter_is_named_before_anything_is_connected(monkeypatch, wrong, says):
    monkeypatch.setattr(memkv, "connect", lambda *_, **__: pytest.fail("it connects"))
    config = {"type": "memkv", "servers": "127.0.0.1:1", "backpressure": {"backpressure_cls": "EMABackpressureDetector"}, **wrong}
    with pytest.raises(memkv.InvalidError, match="memkv: " + says):
        SecondaryTierFactory.create_secondary_tier(config, memoryview(b""), None)


def test_weights_that_cannot_be_told_name_their_parameter(server):
    with pytest.raises(memkv.InvalidError, match="cannot tell which weights .*: add \"weights\": .* to the tier's configuration"):
        World(server, {"weights": None})


def test_each_parameter_has_a_check():
    from memkv.vllm import _settings

    defaults = dataclasses.asdict(_settings.Settings())
    assert set(_settings._CHECKS) == set(defaults) and _settings.Settings.of(defaults) == _settings.Settings()


def test_parameters_have_the_names_of_upstreams_tiers(worlds):
    more = {"prefix": "team/", "n_read_threads": 1, "n_write_threads": 1, "max_store_backlog_mb": 8, "locality": "REMOTE"}
    world = worlds({**more, "enable_kv_events": True, "backpressure": {"backpressure_cls": "EMABackpressureDetector"}})
    keys = draw_keys(2)
    world.store(keys)
    events = world.locked(lambda: [event for event in world.manager.take_events() if event.medium is Medium.STORAGE])
    assert [(event.keys, event.locality.value, event.removed) for event in events] == [(keys, "REMOTE", False)]
    assert world.tier.bp_detector is not None and world.tier._prefix.startswith(b"team/vllm/")


# -- Stores and loads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 16])
def test_what_was_stored_is_loaded(world, size):
    keys = draw_keys(5, size)
    world.store(keys, 9)
    world.forget()
    world.memory[:] = 0
    assert world.find(keys + draw_keys(1)) == ["HIT"] * 5 + ["MISS"]
    assert all((world.loaded(key) == 9).all() for key in keys)


def test_each_call_may_come_from_another_thread(worlds):
    def elsewhere(function):
        result = []
        thread = threading.Thread(target=lambda: result.append(function()))
        thread.start()
        thread.join()
        return result[0]

    world, keys = worlds(call=elsewhere), draw_keys(5)
    world.store(keys, 9)
    world.forget()
    assert world.find(keys) == ["HIT"] * 5


def test_only_the_blocks_that_failed_are_misses_and_none_is_tried_again(world):
    keys = draw_keys(6)
    world.store(keys)
    world.forget()
    world.tier._lookups.batch_lookup = lambda asked, context: [True] * len(asked)
    for key in (keys[1], keys[4]):
        world.tier._stores.client.remove(world.tier._prefix + key)
    context = world.request("one")
    seen = set()
    for _ in range(300):
        seen.add(tuple(result.name for result in world.look(context, keys)))
        world.step()
        time.sleep(0.002)
    assert ("HIT", "MISS", "HIT", "HIT", "MISS", "HIT") in seen and world.loads == 1
    world.finish(context)


def test_a_miss_is_not_forced_on_a_probe_under_way(world):
    """In 0.32 upstream's mark_miss() does, and its own assert on the probe's answer then ends the engine."""
    (key,) = draw_keys(1)
    context = world.request("one")
    world.look(context, [key])
    world.step()
    assert world.tier._lookups._lookup_state[key].phase is not LookupPhase.PENDING
    world.locked(lambda: world.tier._lookups.mark_miss([key]))
    time.sleep(0.1)  # the answer is there
    world.step()
    assert world.find([key]) == ["MISS"]
    world.finish(context)


def test_a_block_that_is_stored_is_found_by_the_next_request(world):
    """Beside one that was told that it is absent: upstream would give its answer to all that overlap with it."""
    key = draw_keys(1)[0]
    early, seen = world.request("early"), []
    while set(seen) != {"MISS"}:
        seen = [result.name for result in world.look(early, [key])]
        world.step()
    world.store([key])
    world.forget()
    assert world.find([key]) == ["HIT"]
    world.finish(early)


def test_stores_do_not_delay_loads(worlds):
    world = worlds(rows=900)
    assert len({id(client) for client in (world.tier._asks, world.tier._loads.client, world.tier._stores.client)}) == 3
    (wanted,) = draw_keys(1)
    world.store([wanted])
    world.forget()
    world.begin_store(draw_keys(800), 3)
    assert world.find([wanted]) == ["HIT"] and world.tier._backlog > 0, "the load waited for the stores"
    world.until_idle()


def test_stores_above_the_backlog_are_shed_and_counted(worlds, server):
    world, keys = worlds({"max_store_backlog_mb": 1}), draw_keys(20)
    freeze(server.process.pid)
    world.begin_store(keys, 1)
    world.begin_store(draw_keys(3), 1)
    assert world.tier._backlog == 1 << 20
    counted = world.locked(world.manager.get_stats).reduce()
    assert counted[f"{TieringOffloadingMetrics.BACKPRESSURE_BLOCKS_DROPPED}:('1:memkv',)"] == 4 + 3
    assert counted[f"{TieringOffloadingMetrics.BACKPRESSURE_STORES_DROPPED}:('1:memkv',)"] == 2
    server.process.send_signal(signal.SIGCONT)
    world.until_idle()
    world.forget()
    assert world.tier._backlog == 0 and world.find(keys) == ["HIT"] * 16 + ["MISS"] * 4


def test_what_the_engine_uses_counts_as_used(world, monkeypatch):
    asked = []
    submit = world.tier._touches._queue.submit
    monkeypatch.setattr(world.tier._touches._queue, "submit", lambda ops, *rest: (asked.append((list(ops.keys), set(ops.kinds), set(ops.flags))), submit(ops, *rest)))
    keys, context = draw_keys(5), world.request("one")
    world.store(keys)
    for _ in range(3):
        world.locked(lambda: world.manager.touch(keys, context))
    assert asked == [], "nothing leaves in the call"
    world.step()
    assert asked == [([world.tier._prefix + key for key in keys], {memkv._library.OP_EXISTS}, {memkv._library.FLAG_TOUCH})], "each once"
    until = time.monotonic() + 10
    while len(world.tier._touches._queue):
        world.step()
        assert time.monotonic() < until
    assert len(asked) == 1 and not world.manager.has_pending_work()
    world.finish(context)


def test_a_block_that_is_used_outlives_those_that_are_not(tmp_path):
    """A store that is full gives way to new blocks; every round the same four are touched, and none is read."""
    small = Server(tmp_path, "--mode", "memory", "--memory", "64MiB", "--workers", "1")
    try:
        world = World(small, block=1 << 20, rows=16)
        used, unused, context = draw_keys(4), draw_keys(4), world.request("one")
        world.store(used)
        world.store(unused)
        for _ in range(40):
            world.locked(lambda: world.manager.touch(used, context))
            world.step()
            world.store(draw_keys(4))
        there = world.tier._asks.exists_many([world.tier._prefix + key for key in used + unused])
        assert there == [True] * 4 + [False] * 4, there
        world.finish(context)
        world.end()
    finally:
        small.kill()


def test_touches_wait_for_nobody_and_are_shed_above_a_bound(world, server):
    keys, context = draw_keys(20000), world.request("one")
    freeze(server.process.pid)
    for _ in range(3):
        begun = time.monotonic()
        world.locked(lambda: world.manager.touch(keys[:4], context))
        world.step()
        assert time.monotonic() - begun < SLACK_S
    assert len(world.tier._touches._queue) == 1
    begun = time.monotonic()
    world.locked(lambda: world.manager.touch(keys, context))
    assert time.monotonic() - begun < SLACK_S
    shed = world.locked(world.manager.get_stats).reduce()["vllm:kv_offload_tiering_memkv_shed_touches:('1:memkv',)"]
    assert shed == 20000 - 16384 and len(world.tier._touches._waiting) == 16384
    begun = time.monotonic()
    world.locked(world.tier.drain_jobs)
    assert time.monotonic() - begun < SLACK_S, "touches touch no memory of the primary tier"
    server.process.send_signal(signal.SIGCONT)
    until = time.monotonic() + 20
    while world.tier._touches._waiting or len(world.tier._touches._queue):
        world.step()
        time.sleep(0.001)
        assert time.monotonic() < until
    world.finish(context)


def test_touches_of_a_server_that_is_away_harm_nothing():
    world = World("127.0.0.1:9")
    context = world.request("one")
    for _ in range(20):
        world.locked(lambda: world.manager.touch(draw_keys(3), context))
        world.step()
        time.sleep(0.005)
    world.finish(context)
    world.end()


def test_every_series_is_declared(world):
    declared = TieringOffloadingSpec.build_metric_definitions(world.spec.extra_config)
    world.tier._counts.update(type(world.tier).build_metric_definitions({}).keys())
    world.store(draw_keys(1))
    for name, values in world.locked(world.manager.get_stats).data["data"].items():
        for labels in values:
            assert len(declared[name].labelnames) == len(labels), name


# -- Servers that freeze ----------------------------------------------------------------------------------------------


def test_no_request_waits_longer_for_a_lookup(world, server):
    keys = draw_keys(4)
    world.store(keys)
    world.forget()
    freeze(server.process.pid)
    contexts = [world.request(f"r{i}") for i in range(4)]
    begun, answered = time.monotonic(), {}
    while len(answered) < 4:
        for context, key in zip(contexts, keys):
            if world.look(context, [key]) == [LookupResult.MISS]:
                answered.setdefault(context.req_id, time.monotonic() - begun)
        world.step()
        assert time.monotonic() - begun < 5
        time.sleep(0.001)
    assert max(answered.values()) <= LOOKUP_S + SLACK_S
    time.sleep(SLACK_S)
    assert world.locked(world.manager.get_stats).reduce()["vllm:kv_offload_tiering_memkv_late_lookups:('1:memkv',)"] >= 1
    for context in contexts:
        world.finish(context)


def test_no_request_waits_for_a_lookup_that_hangs(world):
    world.tier._lookups.batch_lookup = lambda keys, context: [time.sleep(1)] * len(keys)
    begun = time.monotonic()
    assert world.find(draw_keys(3)) == ["MISS"] * 3
    assert LOOKUP_S <= time.monotonic() - begun <= LOOKUP_S + SLACK_S


@pytest.mark.parametrize("transport", ["tcp", "shm"])
@pytest.mark.parametrize("frozen_after_s", [None, 0.0, 0.004, 0.012])
def test_a_late_reply_touches_nothing(worlds, server, transport, frozen_after_s):
    """A load of 32 MiB whose server freezes before it (None) or somewhere in its middle."""
    world = worlds({"transport": transport}, block=1 << 20, rows=32)
    keys = draw_keys(32)
    world.store(keys)
    world.forget()
    world.connect(keys)
    warm = world.loads
    world.tier._lookups.batch_lookup = lambda asked, context: [True] * len(asked)
    if frozen_after_s is None:
        freeze(server.process.pid)
    context = world.request("one")
    for _ in range(200):
        if world.loads > warm:
            break
        world.look(context, keys)
        world.step()
        time.sleep(0.001)
    if frozen_after_s is not None:
        time.sleep(frozen_after_s)
        freeze(server.process.pid)
    begun = time.monotonic()
    world.locked(world.tier.drain_jobs)
    assert time.monotonic() - begun <= LOAD_S + SLACK_S
    world.memory[:] = 0x5A
    server.process.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    assert (world.memory == 0x5A).all(), "bytes moved after drain_jobs()"
    world.until_idle()
    world.finish(context)


def test_a_late_store_takes_no_bytes_that_are_not_its_own(worlds, server):
    world = worlds({"store_timeout_s": 0.4}, block=1 << 20, rows=32)
    world.store(draw_keys(1))
    keys = draw_keys(31)
    world.begin_store(keys, 3)
    freeze(server.process.pid)
    world.locked(world.tier.drain_jobs)
    world.memory[:] = 0x5A
    server.process.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    with memkv.connect(server.address) as kv:
        found = [kv.get(world.tier._prefix + key) for key in keys]
    assert all(block is None or block == b"\x03" * (1 << 20) for block in found)
    world.until_idle()


def test_shutdown_with_a_server_that_stands_still(server):
    world = World(server)
    world.store(draw_keys(1))
    freeze(server.process.pid)
    world.begin_store(draw_keys(20), 1)
    begun = time.monotonic()
    world.end()
    server.process.send_signal(signal.SIGCONT)
    assert time.monotonic() - begun < 2
    assert not os.path.exists(f"/dev/shm/vllm_offload_{world.spec.config.engine_id}.mmap")


# -- Keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first, second, shared",
    [
        ({}, {}, True),
        ({}, {"tier": {"salt": "tenant-b"}}, False),
        ({}, {"tier": {"weights": "fine-tuned"}}, False),
        ({}, {"model": {"dtype": "fp8"}}, False),
        ({}, {"kv_cache_layout": "HND"}, False),
        ({}, {"model": {"name": "the-same-weights-elsewhere"}}, True),
        ({}, {"parallel": {"tp_size": 2}}, False),
        ({"parallel": {"is_parallelism_agnostic": True}}, {"parallel": {"tp_size": 2, "is_parallelism_agnostic": True}}, True),
    ],
)
def test_engines_share_blocks_where_their_bytes_are_the_same(worlds, first, second, shared):
    one, other, keys = worlds(**first), worlds(**second), draw_keys(3)
    one.store(keys, 5)
    assert other.find(keys) == (["HIT"] if shared else ["MISS"]) * 3
    if shared:
        assert (other.loaded(keys[0]) == 5).all()


def test_config_info_has_the_declared_labels(world):
    info = world.tier.config_info()
    assert tuple(info) == world.tier.config_info_keys({}) and "vllm/" in info["memkv_key_prefix"]
