"""Real processes for the Python tests: programs come from MEMKV_BIN (build/release/bin), servers take a free port and are always reaped."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("MEMKV_BIN", ROOT / "build/release/bin"))
DRAWN_KEY = "4f1d0c6a9b7e2358d1406fb2ae93c857601bfd8e24a7c93510e6b84f7d2a5c39"  # a credential as it may be drawn; of no store


def clean_environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MEMKV_")}
    env.update({k: str(v) for k, v in more.items()})
    return env


def freeze(pid):
    """Stops the process. Every one of its threads stands still when this returns."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 30
    while {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in pathlib.Path(f"/proc/{pid}/task").iterdir()} != {"T"}:
        assert time.monotonic() < deadline, "a process does not stop"


class Result:
    def __init__(self, process):
        self.code = process.returncode
        self.out = process.stdout
        self.err = process.stderr.decode(errors="replace")

    @property
    def text(self):
        return self.out.decode(errors="replace")

    def __repr__(self):
        return f"exit {self.code}\nstdout: {self.text[:4000]}\nstderr: {self.err[:4000]}"


def run(program, *args, cwd=None, timeout=120, env=None, prefix=(), stdin=None):
    argv = [*prefix, str(BIN / program), *map(str, args)]
    return Result(subprocess.run(argv, cwd=cwd, capture_output=True, timeout=timeout, env=env or clean_environment(), input=stdin))


class Server:
    """`memkv start` until stop(); .address is host:port. A server in a container has the program at `program` and sees `folder` as `seen`."""

    count = 0

    def __init__(self, folder, *args, address="127.0.0.1:0", prefix=(), timeout=60, program=BIN / "memkv", seen=None):
        Server.count += 1
        self.ready = pathlib.Path(folder) / f"ready-{Server.count}"
        self.log_path = pathlib.Path(folder) / f"server-{Server.count}.log"
        argv = [*prefix, str(program), "start", "--address", address, "--ready-file", f"{seen or folder}/{self.ready.name}", *map(str, args)]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log, env=clean_environment())
        deadline = time.monotonic() + timeout
        while not (self.ready.exists() and self.ready.read_text().endswith("\n")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"server not ready (exit {self.process.returncode}):\n{self.log()}")
            time.sleep(0.01)
        self.address = self.ready.read_text().strip()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def stop(self, timeout=30):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"server did not stop:\n{self.log()}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def servers(tmp_path):
    """Starts servers that are reaped at the end: servers(*args) -> Server."""
    started = []

    def start(*args, **kwargs):
        started.append(Server(tmp_path, *args, **kwargs))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def memory_server(tmp_path_factory):
    """A server that a module's tests share."""
    started = Server(tmp_path_factory.mktemp("server"), "--mode", "memory", "--memory", "256MiB")
    yield started
    started.kill()


class DriveServer:
    """A server with one drive, a file, and a RAM tier: .address, .key."""

    def __init__(self, folder, tier_size="64MiB", drive_size="256MiB"):
        self.folder, self.key = folder, f"@{folder}/store.key"
        made = run("memkv", "setup", "--drive", f"{folder}/d0.memkv:{drive_size}", "--shards", 1, "--auth-key-file", f"{folder}/store.key")
        assert made.code == 0, made
        config = pathlib.Path(folder) / "store.yaml"
        config.write_text(made.text.replace("\nmemory:\n", f"\nmemory:\n  tier_size: {tier_size}\n"))
        self.server = Server(folder, "--config", config, "--workers", 1)
        self.address, self.kill = self.server.address, self.server.kill

    def tier(self):
        env = clean_environment(MEMKV_SERVERS=self.address, MEMKV_AUTH_KEY=self.key)
        return json.loads(run("memkv", "status", "--json", cwd=self.folder, env=env).text)["servers"][0]["status"]["tier"]

    def wait_for(self, **figures):
        """Until the tier's figures are these; they are published ten times a second."""
        until = time.monotonic() + 10
        while any(self.tier()[name] != value for name, value in figures.items()):
            assert time.monotonic() < until, f"{self.tier()}, not {figures}"
            time.sleep(0.05)


@pytest.fixture
def tier_server(tmp_path):
    started = DriveServer(tmp_path)
    yield started
    started.kill()


@pytest.fixture
def memkv(tmp_path):
    """memkv(*args, server=...) -> Result, in tmp_path."""

    def call(*args, server=None, key=None, **kwargs):
        env = {}
        if server is not None:
            env["MEMKV_SERVERS"] = getattr(server, "address", server)
        if key is not None:
            env["MEMKV_AUTH_KEY"] = key
        return run("memkv", *args, cwd=kwargs.pop("cwd", tmp_path), env=clean_environment(**env), **kwargs)

    return call


def setup_store(memkv, folder, *drives, shards=1, name="store", more=()):
    """Formats drives ("d0.memkv:64MiB", ...) and writes NAME.yaml; returns (config path, credential reference)."""
    args = []
    for drive in drives:
        args += ["--drive", f"{folder}/{drive}"]
    result = memkv("setup", *args, "--shards", shards, "--auth-key-file", f"{folder}/{name}.key", *more)
    assert result.code == 0, result
    config = pathlib.Path(folder) / f"{name}.yaml"
    config.write_bytes(result.out)
    return config, f"@{folder}/{name}.key"
