"""The real engine of vLLM 0.32 on the CPU with memkv.vllm.MemKVTier, against real servers (vllm_engine.py).

One engine goes through all of it, started while its server was down; a second one is its restart, a third has other
weights. The order of the tests does not matter but for the first."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import memkv
import pytest
from processes import Server, clean_environment, run, setup_store

HERE = pathlib.Path(__file__).resolve().parent
LOOKUP_S, LOAD_S, STORE_S, SLACK_S = 0.5, 1.0, 2.0, 0.2


class EngineProcess:
    """`engine.generate(...)` and so on are calls of vllm_engine.Engine in a process of its own."""

    def __init__(self, folder, model, tier, seed=1, timeout=240):
        self.id = f"memkv-test-{uuid.uuid4().hex[:12]}"
        config = {"model": str(model), "weights_seed": seed, "engine_id": self.id, "tier": tier}
        more = {name: os.environ[name] for name in ("MEMKV_LIBRARY", "MEMKV_TRANSPORT") if name in os.environ}
        env = clean_environment(
            PYTHONPATH=os.pathsep.join([str(HERE), str(pathlib.Path(memkv.__file__).parents[1])]),
            VLLM_CPU_KVCACHE_SPACE=1, VLLM_ENABLE_V1_MULTIPROCESSING=0, VLLM_NO_USAGE_STATS=1, HF_HUB_OFFLINE=1,
            OMP_NUM_THREADS=1, VLLM_CPU_OMP_THREADS_BIND="nobind", **more,
        )  # fmt: skip
        self.log = pathlib.Path(folder) / f"{self.id}.log"
        argv = [sys.executable, str(HERE / "vllm_engine.py"), json.dumps(config)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        self.answer(timeout)

    def answer(self, timeout):
        timer = threading.Timer(timeout, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        assert line, f"the engine ended or took more than {timeout} s:\n{self.log.read_text(errors='replace')[-6000:]}"
        answer = json.loads(line)
        assert "value" in answer, f"{answer['error']}\n{self.log.read_text(errors='replace')[-3000:]}"
        return answer["value"]

    def __getattr__(self, name):
        def call(**arguments):
            print(json.dumps({"name": name, "arguments": arguments}), file=self.process.stdin, flush=True)
            return self.answer(60)

        return call

    def kill(self):
        self.process.kill()
        self.process.wait()
        for file in pathlib.Path("/dev/shm").glob(f"vllm_offload_{self.id}*"):
            file.unlink()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Store:
    """A server with one drive, at an address that outlives it."""

    def __init__(self, folder):
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        self.drive = pathlib.Path(folder) / "d0.memkv"
        self.config, self.key = setup_store(lambda *args: run("memkv", *args, cwd=folder), folder, "d0.memkv:256MiB")
        self.server = None

    @property
    def pid(self):
        return self.server.process.pid

    def up(self):
        """Runs, and the engine's clients will soon have seen it."""
        if self.server is None or self.server.process.poll() is not None:
            self.server = Server(self.folder, "--config", self.config, address=self.address)
        self.server.process.send_signal(signal.SIGCONT)

    def connect(self):
        return memkv.connect(self.address, auth_key=self.key)

    def keys(self):
        with self.connect() as kv:
            return {block.key for block in kv.list()}

    def parameters(self, **more):
        timeouts = {"lookup_timeout_s": LOOKUP_S, "load_timeout_s": LOAD_S, "store_timeout_s": STORE_S}
        return {"type": "MemKVTier", "module_path": "memkv.vllm", "servers": self.address, "auth_key": self.key, **timeouts, **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vllm")


@pytest.fixture(scope="module")
def store(folder):
    made = Store(folder)
    yield made
    if made.server:
        made.server.kill()


@pytest.fixture(scope="module")
def main_engine(folder, store):
    started = EngineProcess(folder, folder / "model", store.parameters(locality="REMOTE", backpressure={"backpressure_cls": "EMABackpressureDetector"}))
    yield started
    started.kill()


@pytest.fixture
def engine(main_engine, store):
    """The engine with nothing in its own caches, and a store that works."""
    store.up()
    until_it_works(main_engine)
    main_engine.forget()
    main_engine.measured()
    return main_engine


def until_it_works(engine):
    """The client tries a server that was away again after a while."""
    until = time.monotonic() + 20
    while True:
        engine.generate(seed=999, tokens=40)
        engine.forget()
        if engine.generate(seed=999, tokens=40)["cached"] == [32]:
            return
        assert time.monotonic() < until, "the engine does not find its server again"
        time.sleep(0.3)


_seeds = iter(range(1000, 10**9, 100))


@pytest.fixture
def prompt(engine):
    """A prompt that the store has and the engine has not: (its seed, what must be answered)."""
    seed = next(_seeds)
    fresh = engine.generate(seed=seed)
    assert fresh["cached"] == [0]
    engine.forget()
    engine.measured()
    return seed, fresh["tokens"]


# -- The life of a cache ----------------------------------------------------------------------------------------------


def test_a_server_that_is_down_at_start_is_used_once_it_is_up(main_engine, store):
    """The first test: the engine has started without its server, and answers."""
    down = main_engine.generate(seed=1)
    assert down["cached"] == [0]
    store.up()
    until_it_works(main_engine)
    main_engine.forget()
    main_engine.generate(seed=1)
    main_engine.forget()
    up = main_engine.generate(seed=1)
    assert up["cached"] == [896] and up["tokens"] == down["tokens"]


def test_a_restarted_engine_finds_what_the_first_one_stored_and_one_with_other_weights_does_not(engine, store, folder, prompt):
    seed, tokens = prompt
    before = store.keys()
    restarted = EngineProcess(folder, folder / "model", store.parameters())
    try:
        found = restarted.generate(seed=seed)
        assert restarted.key_prefix() == engine.key_prefix()
        assert found["cached"] == [896] and found["tokens"] == tokens
        metrics = restarted.metrics()
        assert metrics["chunk_hits"] == 28 and metrics["read_bytes"] == 28 * 65536

        restarted.reopen(model=str(folder / "other-weights"), weights_seed=2, tier=store.parameters(), engine_id=restarted.id + "-other")
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
    engine.before_next_load(pid=store.pid, kill=signal.SIGKILL)
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
    engine.before_next_load(pid=store.pid, kill=signal.SIGSTOP)
    found = engine.generate(seed=seed)
    spans = engine.measured()
    assert found["tokens"] == tokens and found["cached"] == [0]
    assert spans["loads"] == 1 and spans["load"] <= LOAD_S + SLACK_S and spans["lookup"] <= LOOKUP_S + SLACK_S
    engine.forget()
    engine.fill_primary(byte=0x5A)
    store.up()
    time.sleep(1)
    assert engine.primary_holds_only(byte=0x5A), "a late reply wrote into memory that is the engine's again"
    until_it_works(engine)
    engine.forget()
    assert engine.generate(seed=seed)["tokens"] == tokens, "a late store took bytes that were no longer its own"


def test_a_server_that_is_frozen_when_it_is_asked(engine, store, prompt):
    seed, tokens = prompt
    late = engine.metrics().get("memkv_late_lookups", 0)
    os.kill(store.pid, signal.SIGSTOP)
    found = engine.generate(seed=seed, count=3)
    spans = engine.measured()
    store.up()
    assert found["tokens"][0] == tokens[0] and found["cached"] == [0, 0, 0]
    assert spans["lookup"] <= LOOKUP_S + SLACK_S and spans["loads"] == 0
    assert engine.metrics()["memkv_late_lookups"] > late
