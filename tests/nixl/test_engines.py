"""The engines' own NIXL code, unchanged, over a server that is away: jobs fail, engines live, and later ones work again."""

import signal

from conftest import RAILS, Server, freeze, start_place


def parameters_of(stage, timeout_ms=700):
    """The parameters of OBJ. The deadline goes into the environment, since engines do not pass it."""
    import os

    os.environ["MEMKV_TIMEOUT_MS"] = str(timeout_ms)
    store = {"bucket": "b", "endpoint_override": stage.parameters["servers"]}
    if "auth_key" in stage.parameters:
        with open(stage.parameters["auth_key"].removeprefix("@")) as file:
            store["secret_key"] = file.read().strip()
    return store


def until_true(call, seconds=20):
    import time

    deadline = time.monotonic() + seconds
    while not call():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def all_back(store, load):
    """Stored, and loaded again. Each session of the plugin notices by itself that the server is back: until both have, a job and the question behind it may get different answers."""

    def loaded():
        try:
            return load()
        except AssertionError:
            return False

    return until_true(store) and until_true(loaded)


def faults(stage, make):
    """`make` gives store() and load(), which tell whether they succeeded; what they raise would end an engine."""
    seen = {}
    stage.ask("kill")
    store, load = make()
    seen["down before start"] = store(), load()
    stage.ask("start")
    seen["up"] = all_back(store, load)
    stage.ask("freeze")
    seen["frozen"] = load(), store(), load()
    stage.ask("thaw")
    seen["thawed"] = all_back(store, load)
    stage.ask("kill")
    seen["killed"] = store(), load(), load(), store()
    stage.ask("start")
    seen["back"] = all_back(store, load)
    return seen


def vllm(stage):
    """ObjectStoreSecondaryTierManager of vLLM: what submit_* or get_finished_jobs raise ends the engine's core."""
    import sys
    import types

    import numpy
    from engine_stand_ins import use_engines

    nixl = use_engines(stage.folder / "engines")
    utils = types.ModuleType("vllm.distributed.nixl_utils")
    utils.NixlWrapper, utils.nixl_agent_config = nixl.nixl_agent, nixl.nixl_agent_config
    files = types.ModuleType("vllm.v1.kv_offload.file_mapper")
    files.FileMapper = types.SimpleNamespace(from_offloading_spec=lambda *args, **kwargs: types.SimpleNamespace(get_file_name=lambda key: f"kv/{key.hex()}.bin"))
    sources = types.ModuleType("vllm.v1.metrics.cache_hit_source")
    sources.CacheHitSource = types.SimpleNamespace(EXTERNAL_UNSPECIFIED=0, HOST=1, DISK=2)
    sys.modules.update({module.__name__: module for module in (utils, files, sources)})
    from vllm.v1.kv_offload.base import LookupResult
    from vllm.v1.kv_offload.tiering.base import TransferJob
    from vllm.v1.kv_offload.tiering.obj.manager import ObjectStoreSecondaryTierManager

    blocks, size = 8, 65536
    memory = numpy.zeros((blocks, size), dtype=numpy.int8)
    jobs = iter(range(1, 1000))
    keys = [bytes([i]) * 36 for i in range(blocks)]

    def make():
        tier = ObjectStoreSecondaryTierManager(None, memoryview(memory), "obj", parameters_of(stage))

        def run(submit, promotion):
            context = types.SimpleNamespace(req_id=f"r{next(jobs)}")
            job = next(jobs)
            submit(TransferJob(job, keys, numpy.arange(blocks, dtype=numpy.int32), promotion, context))
            results = []
            assert until_true(lambda: results.extend(tier.get_finished_jobs()) or results), "a job hangs"
            assert [result.job_id for result in results] == [job]
            return results[0].success

        def store():
            memory[:] = 7
            return run(tier.submit_store, False)

        def load():
            memory[:] = 0
            context = types.SimpleNamespace(req_id=f"r{next(jobs)}")
            loaded = run(tier.submit_load, True)
            assert not loaded or (memory == 7).all()
            verdicts = []

            def looked_up():
                verdicts[:] = [tier.lookup(key, context) for key in keys]
                tier.on_schedule_end(None)
                return LookupResult.RETRY not in verdicts

            try:
                assert until_true(looked_up), "a question hangs"
                assert set(verdicts) == {LookupResult.HIT if loaded else LookupResult.MISS}, verdicts
            finally:
                tier.on_request_finished(context)  # vLLM keeps a key's verdict until each request that asked for it has ended
            return loaded

        return store, load

    return faults(stage, make)


def sglang(stage):
    """HiCacheNixl of SGLang: exists, set and get of pages."""
    import types

    import numpy
    from engine_stand_ins import use_engines

    use_engines(stage.folder / "engines")
    from sglang.srt.mem_cache.storage.nixl.hicache_nixl import HiCacheNixl

    memory = numpy.zeros(4 * 65536, dtype=numpy.uint8)
    pages = [(memory.ctypes.data + i * 65536, 65536) for i in range(4)]
    keys = [f"page-{i}" for i in range(4)]

    def make():
        extra = {"plugin": {"obj": {"active": True, **parameters_of(stage)}}}
        cache = HiCacheNixl(types.SimpleNamespace(extra_config=extra, tp_rank=0, tp_size=1, model_name="m", is_mla_model=False))
        registered = cache.agent.register_memory([(memory.ctypes.data, len(memory), 0, "")], "DRAM")
        assert registered

        def store():
            memory[:] = 9
            return cache._xfer_pre_registered(pages, [cache._get_suffixed_key(key) for key in keys], "WRITE")

        def load():
            memory[:] = 0
            loaded = cache._xfer_pre_registered(pages, [cache._get_suffixed_key(key) for key in keys], "READ")
            assert not loaded or (memory == 9).all()
            assert cache.batch_exists(keys) == (4 if loaded else 0)
            return loaded

        return store, load

    return faults(stage, make)


def lmcache(stage):
    """NixlDynamicStorageAgent of LMCache: post_blocking tells a failure by an exception that its callers expect."""
    import types

    import numpy
    from engine_stand_ins import use_engines

    nixl = use_engines(stage.folder / "engines")
    from lmcache import torch_dev

    torch_dev.current_device = lambda: 0
    from lmcache.v1.storage_backend.nixl_storage_backend import NixlDynamicStorageAgent

    page, count = 65536, 4
    memory = numpy.zeros(page * count, dtype=numpy.uint8)
    devices = iter(range(1, 100000))
    keys = [f"chunk-{i}" for i in range(count)]

    def make():
        allocator = types.SimpleNamespace(buffer_ptr=memory.ctypes.data, buffer_size=len(memory), align_bytes=page)
        agent = NixlDynamicStorageAgent(allocator, "cpu", "OBJ", parameters_of(stage), True)

        def run(handle_of):
            descs = [types.SimpleNamespace(device_id=next(devices), meta_info=key) for key in keys]
            registered, storage = agent.create_batched_storage_handler(descs, page)
            handle = handle_of(list(range(count)), storage, list(range(count)))
            try:
                agent.post_blocking(handle)
                return True
            except nixl.nixlBind.nixlBackendError:
                return False
            finally:
                agent.release_handle(handle)
                agent.release_storage_handler(registered, storage, descs)

        def store():
            memory[:] = 5
            return run(agent.get_mem_to_storage_handle)

        def load():
            memory[:] = 0
            loaded = run(agent.get_storage_to_mem_handle)
            assert not loaded or (memory == 5).all()
            assert all(agent.nixl_desc_exists(key, "") == loaded for key in keys)
            return loaded

        return store, load

    return faults(stage, make)


def outlives(play, folder, scenario):
    place = start_place(folder, memory=bool(RAILS))

    def start():
        more = ("--mode", "memory", "--memory", "512MiB") if RAILS else ("--config", folder / "store.yaml")
        place.server = Server(folder, *more, address=place.server.address)

    on = {
        "kill": lambda: place.server.kill(),
        "start": start,
        "freeze": lambda: freeze(place.server.process.pid),
        "thaw": lambda: place.server.process.send_signal(signal.SIGCONT),
    }
    try:
        played = play(scenario, place, on=on, env={"NIXL_TELEMETRY_ENABLE": "y"}, timeout=120)
    finally:
        place.server.kill()
    assert played.value.pop("up") and played.value.pop("thawed") and played.value.pop("back"), (played.value, played.err[-4000:])
    assert not [one for ended in played.value.values() for one in ended if one], played.value


def test_case_c18_vllm_outlives_its_store(play, tmp_path):
    outlives(play, tmp_path, vllm)


def test_case_c18_sglang_outlives_its_store(play, tmp_path):
    outlives(play, tmp_path, sglang)


def test_case_c18_lmcache_outlives_its_store(play, tmp_path):
    outlives(play, tmp_path, lmcache)
