"""Our adapter beside LMCache's own `resp` adapter on Redis, Mooncake's store over TCP and memkv-bench: by turns, in one run.

    .venv-engines/bin/python tests/engines/compare_lmcache.py [--turns 15] [--mooncake SITE_PACKAGES] [--json FILE]

Adapters are driven as LMCache drives them: a task of 16 MiB, wait for its event, ask for its result. Mooncake (no adapter of
it is in LMCache's wheel) is called in the same loop, from buffers that it registered; its wheel may be in a venv of its own,
whose site-packages --mooncake names. Every load is compared with what was stored, outside the clock. GiB are 2^30 bytes."""

import argparse
import contextlib
import json
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import conftest  # noqa: E402, F401
from conftest import BIN, Server, clean_environment  # noqa: E402
from lmcache_tasks import Arena, build, keys, load, look_up, spec, store  # noqa: E402

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZES = (64 * KIB, MIB, 4 * MIB)
TASK_BYTES, ARENA_BYTES = 16 * MIB, 128 * MIB
EXISTS = 512
WARM = 2  # turns that do not count


class Objects(Arena):
    """Without gaps, as LMCache's own memory is."""

    GAP = 0


class Adapter:
    """One of LMCache's adapters, of any type."""

    def __init__(self, described, arena):
        self.adapter = build(described, arena)

    def store(self, wanted, objects):
        assert store(self.adapter, wanted, objects).is_successful()

    def load(self, wanted, objects):
        assert len(load(self.adapter, wanted, objects)) == len(wanted)

    def clear(self, wanted):
        self.adapter.delete(wanted)

    def close(self):
        self.adapter.close()


class Mooncake:
    """MooncakeDistributedStore, with a segment in a process of its own."""

    def __init__(self, port, arena):
        from mooncake.store import MooncakeDistributedStore

        self.store_ = MooncakeDistributedStore()
        assert self.store_.setup("127.0.0.1", "P2PHANDSHAKE", 0, 0, "tcp", "", f"127.0.0.1:{port}") == 0
        assert self.store_.register_buffer(arena.memory.data_ptr(), arena.memory.numel()) == 0

    def _columns(self, wanted, objects):
        return [key.chunk_hash.hex() for key in wanted], [obj.data_ptr for obj in objects], [obj.get_size() for obj in objects]

    def store(self, wanted, objects):
        assert not any(self.store_.batch_put_from(*self._columns(wanted, objects)))

    def load(self, wanted, objects):
        columns = self._columns(wanted, objects)
        assert self.store_.batch_get_into(*columns) == columns[2]

    def clear(self, wanted):
        self.store_.batch_remove([key.chunk_hash.hex() for key in wanted], True)

    def close(self):
        self.store_.close()


def turn(system, arena, size, number):
    """GiB/s of stores and of loads, tasks one after the other; the other half of the arena each time, so that nothing lies in
    a cache."""
    half = len(arena.objects) // 2
    begin = number % 2 * half
    wanted, objects = keys(half), arena.objects[begin : begin + half]
    memory = arena.memory[begin * size : (begin + half) * size]
    tasks = [slice(i, i + TASK_BYTES // size) for i in range(0, half, TASK_BYTES // size)]
    begun = time.perf_counter()
    for task in tasks:
        system.store(wanted[task], objects[task])
    stored = time.perf_counter() - begun
    kept = memory.clone()
    memory.zero_()
    begun = time.perf_counter()
    for task in tasks:
        system.load(wanted[task], objects[task])
    loaded = time.perf_counter() - begun
    assert bool((memory == kept).all()), "wrong bytes"
    system.clear(wanted)
    return memory.numel() / GIB / stored, memory.numel() / GIB / loaded


def bench_turn(server, transport, size):
    """The same ops by memkv-bench: one thread, a batch of 16 MiB under way, keys in order."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        whole = f"{ARENA_BYTES // MIB}MiB"
        argv = [BIN / "memkv-bench", "sweep", "--servers", server.address, "--transport", transport, "--sizes", f"{size // KIB}KiB"]
        argv += ["--threads", 1, "--depth", 1, "--batch", max(1, TASK_BYTES // size), "--bytes", whole, "--window", whole]
        argv += ["--order", "sequential", "--no-ceiling", "--json", report]
        subprocess.run(list(map(str, argv)), check=True, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        return _rates(json.loads(report.read_text()))


def _rates(report):
    """Of the report's only size, GiB/s."""
    found = {run["op"]: run["gib_per_s"] for run in report["runs"]}
    return found["write"], found["read"]


@contextlib.contextmanager
def redis(folder, port):
    argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder), "--io-threads", "1"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            _until_it_listens(port)
            yield port
        finally:
            process.terminate()


@contextlib.contextmanager
def mooncake(folder, port, site_packages):
    """Master and a segment of 1 GiB."""
    binary = pathlib.Path(site_packages).parents[2] / "bin/mooncake_master"
    segment = f"""
import sys, time
sys.path.append({site_packages!r})
from mooncake.store import MooncakeDistributedStore
store = MooncakeDistributedStore()
assert store.setup("127.0.0.1", "P2PHANDSHAKE", 1 << 30, 0, "tcp", "", "127.0.0.1:{port}") == 0
print("ready", flush=True)
sys.stdin.read()
"""
    log = open(folder / "mooncake.log", "wb")
    master = subprocess.Popen([str(binary), "-rpc_port", str(port), "-metrics_port", str(port + 1)], stdout=log, stderr=log)
    holder = None
    try:
        _until_it_listens(port)
        holder = subprocess.Popen([sys.executable, "-c", segment], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        while (line := holder.stdout.readline()) and line.strip() != "ready":
            pass
        assert line, "Mooncake's segment did not start"
        yield port
    finally:
        for process in filter(None, (holder, master)):
            process.kill()
            process.wait()
        log.close()


def _until_it_listens(port):
    until = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < until, f"nobody listens at {port}"
            time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Lookups


class PingPong:
    """A bare request and response of as many bytes as a lookup's, to a process of its own."""

    CODE = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0)); print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept(); peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
request, reply = bytearray(int(sys.argv[1])), bytes(int(sys.argv[2])); view = memoryview(request)
while True:
    got = 0
    while got < len(request):
        n = peer.recv_into(view[got:])
        if not n: sys.exit()
        got += n
    peer.sendall(reply)
"""

    def __init__(self, request_bytes, reply_bytes):
        argv = [sys.executable, "-c", self.CODE, str(request_bytes), str(reply_bytes)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.peer = socket.create_connection(("127.0.0.1", int(self.process.stdout.readline())))
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request, self.reply = bytes(request_bytes), memoryview(bytearray(reply_bytes))

    def __call__(self):
        self.peer.sendall(self.request)
        got = 0
        while got < len(self.reply):
            got += self.peer.recv_into(self.reply[got:])

    def close(self):
        self.peer.close()
        self.process.wait()


def percentiles(call, count):
    """p50 and p99 in microseconds."""
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        took.append((time.perf_counter() - begun) * 1e6)
        time.sleep(0.0005)  # requests do not come back to back
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.99)]


@contextlib.contextmanager
def beside(work):
    """`work` under way all the time, in a thread."""
    stop = threading.Event()

    def run():
        while not stop.is_set():
            work()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def compare_lookups(systems, turns):
    """Lookups of 512 keys that are there, beside nothing, and beside loads and stores of 16 blocks of 1 MiB."""
    arena = Objects(16, MIB)
    small = Objects(EXISTS, 512)
    per_key = len("lmcache/") + 33 + len("org/model@01000100@0@") + 64 + 16  # the key, and what a question costs beside it
    ping = PingPong(EXISTS * per_key, EXISTS * 16)
    print(f"\nLookups of {EXISTS} keys, microseconds; bare: TCP, {EXISTS * per_key} bytes there and {EXISTS * 16} back\n")
    print("| | beside | p50 | p99 | bare p50 | bare p99 | p99 / bare p99 |\n|---|---|---|---|---|---|---|")
    for name, system in systems.items():
        asked, loaded = keys(EXISTS), keys(16)
        system.store(asked, small.objects)
        system.store(loaded, arena.objects)

        def ask():
            assert len(look_up(system.adapter, asked)) == EXISTS

        works = {"loads": system.load, "stores": system.store}
        for what in ("nothing", *works):
            with beside(lambda: works[what](loaded, arena.objects)) if what in works else contextlib.nullcontext():
                measured = [(*percentiles(ask, 300), *percentiles(ping, 300)) for _ in range(turns)]
            ours50, ours99, bare50, bare99 = (statistics.median(column) for column in zip(*measured))
            ratio = statistics.median(m[1] / m[3] for m in measured)
            print(f"| {name} | {what} | {ours50:.0f} | {ours99:.0f} | {bare50:.0f} | {bare99:.0f} | {ratio:.2f} |", flush=True)
    ping.close()


def compare_rates(systems, server, turns):
    for size in SIZES:
        arena = Objects(ARENA_BYTES // size, size)
        arena.fill(size)
        runs = {name: make(arena) for name, make in systems.items()}
        rates = {name: [] for name in runs}
        for number in range(WARM + turns):
            for name in random.Random(number).sample(list(runs), len(runs)):
                rate = turn(runs[name], arena, size, number)
                if number >= WARM:
                    rates[name].append(rate)
            if server and number % 3 == 2:
                for transport in ("shm", "tcp"):
                    rates.setdefault(f"memkv-bench {transport}", []).append(bench_turn(server, transport, size))
        for system in runs.values():
            system.close()
        yield size, rates


def report_rates(size, rates):
    print(f"\n{size // KIB} KiB: GiB/s, median (first to third quartile)\n\n| | store | load |\n|---|---|---|")
    for name, measured in rates.items():
        quarters = [statistics.quantiles(column, n=4) for column in zip(*measured)]
        cells = [f"{median:.2f} ({low:.2f} to {high:.2f})" for low, median, high in quarters]
        print(f"| {name} | {' | '.join(cells)} |")
    medians = {name: [statistics.median(column) for column in zip(*measured)] for name, measured in rates.items()}
    print("\n| of the medians | store | load |\n|---|---|---|")
    for ours, theirs in [(f"memkv {t}", other) for t in ("shm", "tcp") for other in ("redis resp", "mooncake tcp", f"memkv-bench {t}")]:
        if theirs in medians:
            print(f"| {ours} / {theirs} | {' | '.join(f'{a / b:.2f}' for a, b in zip(medians[ours], medians[theirs]))} |", flush=True)
    return medians


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15, help="of each system; memkv-bench takes every third")
    parser.add_argument("--mooncake", help="site-packages with mooncake-transfer-engine-non-cuda 0.3.13.post1")
    parser.add_argument("--only", choices=["rates", "lookups"])
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server(folder, "--mode", "memory", "--memory", "2GiB")
        stack.callback(server.kill)
        port = stack.enter_context(redis(folder, free_port()))
        systems = {f"memkv {t}": lambda arena, t=t: Adapter(spec("plugin", server, transport=t), arena) for t in ("shm", "tcp")}
        systems["memkv native_plugin shm"] = lambda arena: Adapter(spec("native_plugin", server, transport="shm"), arena)
        systems["redis resp"] = lambda arena: Adapter({"type": "resp", "host": "127.0.0.1", "port": port}, arena)
        if arguments.mooncake:
            sys.path.append(arguments.mooncake)
            at = stack.enter_context(mooncake(folder, free_port(), arguments.mooncake))
            systems["mooncake tcp"] = lambda arena: Mooncake(at, arena)
        found = {}
        if arguments.only != "lookups":
            bench = server if os.access(BIN / "memkv-bench", os.X_OK) else None
            found = {size: report_rates(size, rates) for size, rates in compare_rates(systems, bench, arguments.turns)}
        if arguments.only != "rates":
            some = Objects(16, MIB)
            looked = {name: make(some) for name, make in systems.items() if name != "mooncake tcp"}
            compare_lookups(looked, 3)
            for system in looked.values():
                system.close()
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
