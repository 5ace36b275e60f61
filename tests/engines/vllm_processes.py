"""An engine in a process of its own, and a server with one drive at an address that outlives it."""

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
from processes import Server, clean_environment, run, setup_store

HERE = pathlib.Path(__file__).resolve().parent


class EngineProcess:
    """`engine.generate(...)` and so on are calls of vllm_engine.Engine in a process of its own."""

    def __init__(self, folder, model, tier, seed=1, timeout=240, paths=(), **more):
        self.id = f"memkv-test-{uuid.uuid4().hex[:12]}"
        config = {"model": str(model), "weights_seed": seed, "engine_id": self.id, "tier": tier}
        more.update({name: os.environ[name] for name in ("MEMKV_LIBRARY", "MEMKV_TRANSPORT") if name in os.environ})
        env = clean_environment(
            PYTHONPATH=os.pathsep.join(map(str, [HERE, HERE.parent / "support", pathlib.Path(memkv.__file__).parents[1], *paths])),
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


def until_it_works(engine):
    """The client tries a server that was away again after a while, each of its threads by itself."""
    until = time.monotonic() + 20
    while True:
        engine.generate(seed=999)
        engine.forget()
        found = engine.generate(seed=999)
        engine.forget()
        if found["cached"] == [896]:
            return
        assert time.monotonic() < until, f"the engine does not find its server again: {engine.metrics()}"
        time.sleep(0.2)
