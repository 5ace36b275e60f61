"""The real `lmcache server` and `lmcache bench l2` with memkv.lmcache, and vLLM on the CPU before them. A store that is down,
killed or frozen costs time, never an answer."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import memkv
import pytest
from conftest import Server, clean_environment, freeze, run, setup_store
from lmcache_tasks import as_json, spec
from tiny_llama import write_model

HERE = pathlib.Path(__file__).resolve().parent
LMCACHE = pathlib.Path(sys.executable).parent / "lmcache"
LOOKUP_S, LOAD_S, SLACK_S = 0.3, 0.5, 0.2
ENGINE = {"VLLM_CPU_KVCACHE_SPACE": 1, "VLLM_ENABLE_V1_MULTIPROCESSING": 0, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": 1}
CHUNK, TOKENS = 64, 900
CHUNKS = TOKENS // CHUNK


def environment(**more):
    mine = {name: os.environ[name] for name in ("MEMKV_LIBRARY", "MEMKV_TRANSPORT", "HF_HUB_OFFLINE") if name in os.environ}
    path = os.pathsep.join([str(HERE), str(pathlib.Path(memkv.__file__).parents[1])])
    return clean_environment(PYTHONPATH=path, LMCACHE_TRACK_USAGE="false", **mine, **more)


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Program:
    """A process with a log, killed by kill()."""

    def __init__(self, name, folder, argv, **pipes):
        self.log = pathlib.Path(folder) / f"{name}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stderr=log, env=environment(**ENGINE), **pipes)

    def lives(self):
        return self.process.poll() is None

    def tail(self):
        return self.log.read_text(errors="replace")[-5000:]

    def kill(self):
        self.process.kill()
        self.process.wait()


class LMCacheServer(Program):
    def __init__(self, folder, described):
        self.port, self.http = free_ports(2)
        options = {
            "--port": self.port, "--http-port": self.http, "--l1-size-gb": 0.25, "--chunk-size": CHUNK, "--eviction-policy": "LRU",
            "--supported-transfer-mode": "auto", "--l2-adapter": as_json(described),
        }  # fmt: skip
        argv = [str(LMCACHE), "server", "--disable-observability", *(str(word) for option in options.items() for word in option)]
        super().__init__("lmcache", folder, argv, stdout=subprocess.DEVNULL)

    def ready(self):
        until = time.monotonic() + 120
        while not self.answers():
            assert self.lives() and time.monotonic() < until, self.tail()
            time.sleep(0.1)
        return self

    def ask(self, path, method="GET", body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def answers(self):
        try:
            return self.ask("/healthcheck")["status"] == "healthy"
        except OSError:
            return False

    def adapter(self):
        (adapter,) = self.ask("/status")["storage_manager"]["l2_adapters"]
        return adapter

    def forget(self):
        """Empties LMCache's own memory, once it stores nothing more: what is found next comes from MemKV."""
        until = time.monotonic() + 20
        while (stores := self.ask("/status")["storage_manager"]["store_controller"])["pending_keys_count"] + stores["in_flight_task_count"]:
            assert time.monotonic() < until, stores
            time.sleep(0.02)
        self.ask("/cache/clear", "POST", {"tier": "l1"})


class EngineProcess(Program):
    def __init__(self, folder, model, port):
        argv = [sys.executable, str(HERE / "lmcache_engine.py"), str(model), str(port)]
        super().__init__(f"engine-{port}", folder, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self):
        assert self.answer(180) == "ready"
        return self

    def answer(self, timeout):
        timer = threading.Timer(timeout, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        assert line, f"the engine ended, or took more than {timeout} s:\n{self.tail()}"
        return json.loads(line)

    def generate(self, seed, tokens=TOKENS):
        print(json.dumps({"seed": seed, "tokens": tokens}), file=self.process.stdin, flush=True)
        return self.answer(60)


class Store:
    """A server with one drive, at an address that outlives it."""

    def __init__(self, folder):
        self.folder, self.address = folder, f"127.0.0.1:{free_ports(1)[0]}"
        self.config, self.key = setup_store(lambda *args: run("memkv", *args, cwd=folder), folder, "d0.memkv:256MiB")
        self.server = None

    def up(self):
        if self.server is None or self.server.process.poll() is not None:
            self.server = Server(self.folder, "--config", self.config, address=self.address)
        self.server.process.send_signal(signal.SIGCONT)

    def kill(self):
        if self.server:
            self.server.kill()

    def keys(self):
        with memkv.connect(self.address, auth_key=self.key) as kv:
            return {block.key: block.block_bytes for block in kv.list()}

    def shorten(self, keys):
        """Blocks that no load can use."""
        with memkv.connect(self.address, auth_key=self.key) as kv:
            for key in keys:
                assert kv.put(key, b"short")


class Deployment:
    """MemKV (one drive), LMCache's server and an engine; `seed` draws prompts that none has seen."""

    def __init__(self, folder):
        self.folder, self.model = folder, folder / "model"
        write_model(self.model)
        self.store = Store(folder)
        params = {"auth_key": self.store.key, "weights": None, "lookup_timeout_s": LOOKUP_S, "load_timeout_s": LOAD_S, "store_timeout_s": 2}
        self.described = spec("plugin", self.store, **params)
        self.seeds = iter(range(1, 1000))
        self.programs = []

    def start(self):
        self.lmcache = LMCacheServer(self.folder, self.described)
        self.programs.append(self.lmcache)
        self.engine = EngineProcess(self.folder, self.model, self.lmcache.port)
        self.programs.append(self.engine)
        self.lmcache.ready()
        self.engine.ready()

    def stop(self):
        while self.programs:
            self.programs.pop().kill()

    def works(self):
        """MemKV is up, each of the adapter's clients reaches it, and LMCache has nothing of its own."""
        self.store.up()
        until = time.monotonic() + 20
        while True:
            seed = next(self.seeds)
            self.engine.generate(seed, CHUNK + 1)
            self.lmcache.forget()
            if self.engine.generate(seed, CHUNK + 1)["cached"] == CHUNK:
                return self.lmcache.forget()
            assert time.monotonic() < until, self.lmcache.adapter()

    def generate_stored(self, seed, tokens=TOKENS):
        """An answer whose chunks are all in MemKV when this returns, and LMCache has forgotten them."""
        before = len(self.store.keys())
        answer = self.engine.generate(seed, tokens)
        assert answer["cached"] == 0
        until = time.monotonic() + 20
        while len(self.store.keys()) < before + tokens // CHUNK:
            assert time.monotonic() < until, self.lmcache.tail()
            time.sleep(0.05)
        self.lmcache.forget()
        return answer

    def nothing_waited_long(self):
        """A request waits for its lookup, then for its load; how long it computes is this machine's."""
        adapter = self.lmcache.adapter()
        assert 0 < adapter["lookup_s_max"] < LOOKUP_S + SLACK_S and adapter["load_s_max"] < LOAD_S + SLACK_S, adapter

    def all_live(self):
        return self.lmcache.lives() and self.lmcache.answers() and self.engine.lives()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """Started while MemKV is down."""
    made = Deployment(tmp_path_factory.mktemp("lmcache"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
        made.store.kill()


def test_a_store_that_is_down_at_start_costs_no_answer(deployment):
    answer = deployment.engine.generate(next(deployment.seeds))
    again = deployment.engine.generate(next(deployment.seeds))
    assert answer["cached"] == again["cached"] == 0 and len(again["tokens"]) == 8
    assert deployment.all_live() and not deployment.lmcache.adapter()["reachable"]
    deployment.nothing_waited_long()


def test_the_second_start_reuses_the_first_ones_cache(deployment):
    deployment.works()
    seed = next(deployment.seeds)
    first = deployment.generate_stored(seed)
    deployment.stop()
    assert deployment.store.server.stop() == 0
    deployment.store.up()
    deployment.start()
    before = deployment.lmcache.adapter()
    second = deployment.engine.generate(seed)
    assert second["tokens"] == first["tokens"] and second["cached"] == CHUNKS * CHUNK
    assert deployment.lmcache.adapter()["loaded"] - before["loaded"] == CHUNKS
    listed = deployment.lmcache.ask("/cache/objects?page_size=1000")["entries"]
    assert len(listed) >= CHUNKS and {entry["key"]["model_name"] for entry in listed} == {str(deployment.model)}


def test_chunks_that_fail_from_the_fifth_on_are_computed(deployment):
    deployment.works()
    seed = next(deployment.seeds)
    deployment.generate_stored(seed, 5 * CHUNK + 1)
    head = set(deployment.store.keys())
    whole = deployment.engine.generate(seed)
    assert whole["cached"] == 5 * CHUNK
    deployment.lmcache.forget()
    tail = set(deployment.store.keys()) - head
    assert len(tail) == CHUNKS - 5
    deployment.store.shorten(tail)
    before = deployment.lmcache.adapter()
    answer = deployment.engine.generate(seed)
    assert answer["tokens"] == whole["tokens"] and answer["cached"] == 5 * CHUNK
    assert deployment.lmcache.adapter()["not_loaded"] - before["not_loaded"] == CHUNKS - 5
    deployment.lmcache.forget()
    again = deployment.engine.generate(seed)
    assert again["tokens"] == whole["tokens"] and again["cached"] == CHUNKS * CHUNK, "what was computed was stored over them"


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_a_store_that_goes_away_costs_its_deadlines_and_comes_back(deployment, how):
    deployment.works()
    seed = next(deployment.seeds)
    first = deployment.generate_stored(seed)
    freeze(deployment.store.server.process.pid) if how == "frozen" else deployment.store.kill()
    for _ in range(3):
        answer = deployment.engine.generate(seed)
        deployment.lmcache.forget()
        assert answer["tokens"] == first["tokens"] and answer["cached"] == 0
    assert deployment.all_live()
    deployment.nothing_waited_long()
    deployment.works()
    answer = deployment.engine.generate(seed)
    assert answer["tokens"] == first["tokens"] and answer["cached"] == CHUNKS * CHUNK, "what was there before is there again"


def test_a_store_that_freezes_while_chunks_are_loaded_changes_no_token(deployment):
    """At times drawn over the time of a request, so that lookups, loads and the engine's own work are hit."""
    deployment.works()
    seed = next(deployment.seeds)
    first = deployment.generate_stored(seed)
    for round_ in range(8):
        timer = threading.Timer(0.004 * round_, freeze, [deployment.store.server.process.pid])
        timer.start()
        answer = deployment.engine.generate(seed)
        timer.join()
        assert answer["tokens"] == first["tokens"], f"round {round_}, {answer['cached']} tokens from the cache"
        deployment.store.server.process.send_signal(signal.SIGCONT)
        time.sleep(0.3)  # late bytes would come now
        deployment.lmcache.forget()
    deployment.works()
    assert deployment.engine.generate(seed)["tokens"] == first["tokens"]
    assert deployment.all_live()
    deployment.nothing_waited_long()


@pytest.mark.parametrize("kind", ["plugin", "native_plugin"])
def test_lmcaches_own_benchmark_verifies(tmp_path, kind):
    server = Server(tmp_path, "--mode", "memory", "--memory", "128MiB")
    try:
        adapter = as_json(spec(kind, server))
        argv = [str(LMCACHE), "bench", "l2", "--l2-adapter", adapter, "--num-keys", "16", "--data-size-kb", "1024", "--rounds", "3"]
        argv += ["--no-skip-verify", "--lookup-max-hit-rate", "1.0"]
        done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=90)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-5000:]
        assert "MISMATCH" not in said and "verified OK" in said, said[-5000:]
        hits = [line.split()[-1] for line in said.splitlines() if line.startswith("Total success")]
        assert hits == ["48", "48", "48"], said[-5000:]
    finally:
        server.kill()
