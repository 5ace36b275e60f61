"""Real NIXL wheels (./dev setup puts them into .venv-nixl) against real servers.

A test hands a *scenario*, a function of its own file, to play(): it runs in a process of its own that has the wheel and
our plugin, and may be killed by it. See play.py for what a scenario gets.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from processes import DRAWN_KEY, ROOT, Server, clean_environment, freeze, run, servers, setup_store  # noqa: E402,F401

HERE = pathlib.Path(__file__).resolve().parent
LIB = pathlib.Path(os.environ.get("MEMKV_LIB", ROOT / "build/release/lib"))
WHEELS = [pathlib.Path(p).name for p in os.environ.get("NIXL_WHEELS", "1.5.1 1.2.0 1.0.1").split()]
NEWEST = WHEELS[0]
FOREIGN = ("NIXL_", "AWS_", "LD_", "PYTHON", "UCX_")
# Over rdma (in the guest): what the scenarios' clients use, and the rails that must carry bytes.
TRANSPORT = {name: os.environ[name] for name in ("MEMKV_TRANSPORT", "MEMKV_RDMA_DEVICES") if name in os.environ}
RAILS = TRANSPORT.get("MEMKV_RDMA_DEVICES", "").split(",") if TRANSPORT.get("MEMKV_TRANSPORT") == "rdma" else []


class Played:
    """value: what the scenario returned; err: what it and the plugin wrote to stderr."""

    def __init__(self, value, err):
        self.value = value
        self.err = err


class Place:
    """A server to use: its address, its credential, the process to hurt."""

    def __init__(self, server, key=None):
        self.server = server
        self.key = key

    def parameters(self):
        # An emulated NIC moves less than the default deadlines allow for.
        slow = {"timeout_ms": 60000} if RAILS else {}
        return {**slow, "servers": self.server.address, **({"auth_key": self.key} if self.key else {})}


def wheel_environment(wheel, plugins, more):
    folder = ROOT / ".venv-nixl" / wheel
    assert folder.is_dir(), f"NIXL {wheel} is not there: ./dev setup installs it"
    env = {k: v for k, v in clean_environment().items() if not k.startswith(FOREIGN)}
    paths = [folder, HERE]
    if tuple(map(int, wheel.split("."))) < (1, 4):
        paths.append(HERE / "stand_ins")
    env.update(PYTHONPATH=os.pathsep.join(map(str, paths)), NIXL_PLUGIN_DIR=str(plugins), PYTHONDONTWRITEBYTECODE="1")
    env.update(TRANSPORT)
    env.update({k: str(v) for k, v in more.items()})
    return env


def converse(process, handlers):
    """Answers what the scenario asks for until it returns a value; None if it ends without."""
    for line in process.stdout:
        message = json.loads(line)
        if "value" in message:
            return message["value"]
        handlers[message["ask"]]()
        process.stdin.write("\n")
        process.stdin.flush()
    return None


@pytest.fixture(scope="session")
def plugins(tmp_path_factory):
    """A folder with the plugin under both its names; MEMKV_PLUGINS: one that is there, such as a wheel's."""
    if "MEMKV_PLUGINS" in os.environ:
        return pathlib.Path(os.environ["MEMKV_PLUGINS"])
    folder = tmp_path_factory.mktemp("plugins")
    for name in ("MEMKV", "OBJ"):
        (folder / f"libplugin_{name}.so").symlink_to(LIB / "libplugin_MEMKV.so")
    return folder


@pytest.fixture(params=WHEELS)
def wheel(request):
    return request.param


@pytest.fixture
def play(plugins, tmp_path, request):
    """play(scenario, place=..., wheel=..., env={...}, on={name: function}, **arguments) -> Played."""

    def call(scenario, place=None, wheel=NEWEST, env=None, on=None, timeout=60, fails=False, **arguments):
        log = tmp_path / f"{scenario.__name__}.err"
        context = {"parameters": place.parameters() if place else {}, "folder": str(tmp_path), "prefix": f"{request.node.name}/"}
        argv = [sys.executable, str(HERE / "play.py"), scenario.__code__.co_filename, scenario.__name__, json.dumps(context), json.dumps(arguments)]
        with open(log, "wb") as err:
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True, env=wheel_environment(wheel, plugins, env or {}))
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            value = converse(process, on or {})
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        text = log.read_text(errors="replace")
        assert fails or code == 0, f"scenario {scenario.__name__} ended with {code} after at most {timeout} s\n{text[-6000:]}"
        return Played(value, text)

    return call


def start_place(folder, memory=False):
    if memory:
        return Place(Server(folder, "--mode", "memory", "--memory", "512MiB"))

    def call(*args, **kwargs):
        return run("memkv", *args, cwd=folder, **kwargs)

    size = "512MiB" if RAILS else "1GiB"  # the guest's files are in memory
    config, key = setup_store(call, folder, f"d0.memkv:{size}", f"d1.memkv:{size}")
    return Place(Server(folder, "--config", config), key)


def rail_bytes(place):
    """{device: (bytes in, bytes out)} of the server; {} without RDMA."""
    more = {"MEMKV_AUTH_KEY": place.key} if place.key else {}
    status = run("memkv", "status", "--json", env=clean_environment(MEMKV_SERVERS=place.server.address, MEMKV_TRANSPORT="tcp", **more))
    assert status.code == 0, status
    return {rail["device"]: (rail["bytes_in"], rail["bytes_out"]) for rail in json.loads(status.text)["servers"][0]["status"].get("rails", [])}


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """One server for all tests that leave it whole, on file-backed drives (over rdma: in memory, the guest's files are
    in memory too); each test has a key prefix of its own. Over rdma every rail must have carried bytes both ways."""
    place = start_place(tmp_path_factory.mktemp("place"), memory=bool(RAILS))
    before = rail_bytes(place) if RAILS else {}
    yield place
    after = rail_bytes(place) if RAILS else {}
    place.server.kill()
    for rail in RAILS:
        moved = [b - a for a, b in zip(before[rail], after[rail])]
        print(f"\nrail {rail} moved {moved[0]} bytes in, {moved[1]} out")
        assert min(moved) > 1_000_000, f"the bytes did not go over rail {rail}"


@pytest.fixture(scope="session")
def keyed(place, tmp_path_factory):
    """A server that wants a credential."""
    if place.key:
        yield place
        return
    own = start_place(tmp_path_factory.mktemp("keyed"))
    yield own
    own.server.kill()


@pytest.fixture
def own_place(tmp_path):
    """A server that the test may stop, freeze and kill."""
    place = start_place(tmp_path, memory=True)
    yield place
    place.server.kill()
