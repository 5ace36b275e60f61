"""The real engine of vLLM 0.32 on the CPU with memkv.vllm.MemKVTier, against real servers (vllm_engine.py).

One engine goes through all of it, started while its server was down; a second one is its restart, a third has other
weights. The order of the tests does not matter but for the first."""

import time

import pytest
from processes import freeze
from vllm_processes import EngineProcess, Store, until_it_works

LOOKUP_S, LOAD_S, STORE_S, SLACK_S = 1.0, 1.0, 5.0, 0.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vllm")


@pytest.fixture(scope="module")
def store(folder):
    made = Store(folder)
    yield made
    if made.server:
        made.server.kill()


def parameters(store, **more):
    timeouts = {"lookup_timeout_s": LOOKUP_S, "load_timeout_s": LOAD_S, "store_timeout_s": STORE_S}
    return {"type": "MemKVTier", "module_path": "memkv.vllm", "servers": store.address, "auth_key": store.key, **timeouts, **more}


@pytest.fixture(scope="module")
def main_engine(folder, store):
    started = EngineProcess(folder, folder / "model", parameters(store, locality="REMOTE", backpressure={"backpressure_cls": "EMABackpressureDetector"}))
    yield started
    started.kill()


@pytest.fixture
def engine(main_engine, store):
    """The engine with nothing in its own caches, and a store that works."""
    main_engine.before_next_load()
    store.up()
    until_it_works(main_engine)
    main_engine.measured()
    return main_engine


_seeds = iter(range(1000, 10**9, 100))


@pytest.fixture
def prompt(engine):
    """A prompt that the store has and the engine has not: (its seed, what must be answered). The client for stores may find
    its server again later than the others do: until then stores fail."""
    until = time.monotonic() + 20
    while True:
        seed, before = next(_seeds), engine.metrics().get("write_bytes", 0)
        fresh = engine.generate(seed=seed)
        assert fresh["cached"] == [0]
        engine.forget()
        if engine.metrics().get("write_bytes", 0) - before == 28 * 65536:
            break
        assert time.monotonic() < until, f"nothing is stored: {engine.metrics()}"
    engine.measured()
    return seed, fresh["tokens"]


# -- The life of a cache ----------------------------------------------------------------------------------------------


def test_a_server_that_is_down_at_start_is_used_once_it_is_up(main_engine, store):
    """The first test: the engine has started without its server, and answers."""
    down = main_engine.generate(seed=1)
    assert down["cached"] == [0]
    store.up()
    until_it_works(main_engine)
    main_engine.generate(seed=1)
    main_engine.forget()
    up = main_engine.generate(seed=1)
    assert up["cached"] == [896] and up["tokens"] == down["tokens"]


def test_a_restarted_engine_finds_what_the_first_one_stored_and_one_with_other_weights_does_not(engine, store, folder, prompt):
    seed, tokens = prompt
    before = store.keys()
    restarted = EngineProcess(folder, folder / "model", parameters(store))
    try:
        found = restarted.generate(seed=seed)
        assert restarted.key_prefix() == engine.key_prefix()
        assert found["cached"] == [896] and found["tokens"] == tokens
        metrics = restarted.metrics()
        assert metrics["chunk_hits"] == 28 and metrics["read_bytes"] == 28 * 65536
        assert {"vllm:kv_offload_tiering_chunk_hits", "vllm:kv_offload_tiering_memkv_store_backlog_bytes"} <= set(restarted.series())

        restarted.reopen(model=str(folder / "other-weights"), weights_seed=2, tier=parameters(store), engine_id=restarted.id + "-other")
        fresh = restarted.generate(seed=seed)
        mine = store.keys() - before
        assert fresh["cached"] == [0] and len(mine) == 28
        assert {key[-36:] for key in mine} <= {key[-36:] for key in before}, "only our prefix tells the weights apart"
    finally:
        restarted.kill()


def test_tenants_with_different_salts_share_no_key(engine, store, prompt):
    seed, tokens = prompt
    before = store.keys()
    salted = engine.generate(seed=seed, salt="tenant-b")
    mine = store.keys() - before
    assert salted["cached"] == [0] and salted["tokens"] == tokens
    assert len(mine) == 28 and not {key[-36:] for key in mine} & {key[-36:] for key in before}


# -- Loads that fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first, cached", [(0, 0), (5, 160)])
def test_blocks_that_are_gone_when_they_are_loaded_are_recomputed(engine, prompt, first, cached):
    seed, tokens = prompt
    failed = engine.metrics().get("memkv_failed_load_blocks", 0)
    engine.before_next_load(remove_from=first)
    found = engine.generate(seed=seed)
    assert found["tokens"] == tokens and found["cached"] == [cached]
    assert engine.measured()["loads"] == 1, "a load that failed was tried again"
    assert engine.metrics()["memkv_failed_load_blocks"] - failed == 28 - first
    engine.forget()
    assert engine.generate(seed=seed)["cached"] == [896], "what was recomputed was not stored again"


def test_a_wrong_byte_is_caught_before_the_engine_sees_it(engine, store, prompt):
    seed, tokens = prompt
    with store.connect() as kv:
        newest = max(kv.list(), key=lambda block: block.generation)
        payload = kv.get(newest.key)
    store.server.stop()
    flip_a_byte(store.drive, payload)
    store.up()
    until_it_works(engine)
    failed = engine.metrics().get("memkv_failed_load_blocks", 0)
    found = engine.generate(seed=seed)
    assert found["tokens"] == tokens and 0 <= found["cached"][0] < 896
    assert engine.metrics()["memkv_failed_load_blocks"] - failed == 1


def flip_a_byte(drive, payload):
    """In the middle of a block on a drive."""
    content = bytearray(drive.read_bytes())
    at = content.find(payload[32768 : 32768 + 256])
    assert at > 0 and content.find(payload[32768 : 32768 + 256], at + 1) < 0
    with open(drive, "r+b") as file:
        file.seek(at + 100)
        file.write(bytes([content[at + 100] ^ 1]))


# -- Servers that die and freeze --------------------------------------------------------------------------------------


def test_a_server_that_is_killed_before_a_load(engine, store, prompt):
    seed, tokens = prompt
    engine.before_next_load(killed=store.pid)
    found = engine.generate(seed=seed)
    store.server.process.wait()
    assert found["tokens"] == tokens
    assert engine.measured()["load"] <= LOAD_S + SLACK_S
    engine.forget()
    assert engine.generate(seed=seed)["tokens"] == tokens, "with the server gone"
    assert engine.measured()["lookup"] <= LOOKUP_S + SLACK_S


def test_a_server_that_freezes_before_a_load(engine, store, prompt):
    """… and goes on later, when the engine has long used the memory for something else."""
    seed, tokens = prompt
    engine.before_next_load(frozen=store.pid)
    found = engine.generate(seed=seed)
    spans = engine.measured()
    assert found["tokens"] == tokens and found["cached"] == [0]
    assert spans["loads"] == 1, engine.metrics()
    assert spans["load"] <= LOAD_S + SLACK_S and spans["lookup"] <= LOOKUP_S + SLACK_S
    engine.forget()
    engine.fill_primary(byte=0x5A)
    store.up()
    time.sleep(1)
    assert engine.primary_holds_only(byte=0x5A), "a late reply wrote into memory that is the engine's again"
    until_it_works(engine)
    assert engine.generate(seed=seed)["tokens"] == tokens, "a late store took bytes that were no longer its own"


def test_a_server_that_is_frozen_when_it_is_asked(engine, store, prompt):
    """The client notices before the deadline that nobody answers pings; test_vllm_contract.py has a shorter deadline."""
    seed, tokens = prompt
    freeze(store.pid)
    found = engine.generate(seed=seed, count=3)
    spans = engine.measured()
    store.up()
    assert found["tokens"][0] == tokens[0] and found["cached"] == [0, 0, 0]
    assert spans["lookup"] <= LOOKUP_S + SLACK_S and spans["loads"] == 0
