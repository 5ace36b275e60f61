"""A NIXL agent with one storage backend, as scenarios use it."""

import contextlib
import gc
import itertools
import pathlib
import time
from unittest import mock

import numpy
from nixl_cu12 import _api as nixl

SYNC_MODES = ["NONE", "STRICT", "RW"]


class Memory:
    """`size` bytes of registered host memory, page aligned: .bytes is a numpy array."""

    def __init__(self, agent, size, fill=0):
        raw = numpy.full(size + 4096, fill, dtype=numpy.uint8)
        start = -raw.ctypes.data % 4096
        self.bytes = raw[start : start + size]
        self.address = self.bytes.ctypes.data
        self.descs = agent.nixl.register_memory([(self.address, size, 0, "")], "DRAM", [agent.backend])


class Failed(Exception):
    """A transfer ended with an error; `kind` is the name of NIXL's exception, or ERR."""

    def __init__(self, kind):
        super().__init__(kind)
        self.kind = kind


@contextlib.contextmanager
def nixl_errors():
    try:
        yield
    except Exception as error:
        if not type(error).__name__.startswith("nixl"):
            raise
        raise Failed(type(error).__name__) from None


def check(state):
    if state == "ERR":
        raise Failed(state)
    return state


def outcome(call, *args, **kwargs):
    """DONE, or what the transfer failed with."""
    try:
        call(*args, **kwargs)
    except Failed as failure:
        return failure.kind
    return "DONE"


def pattern(size, seed):
    return numpy.random.default_rng(seed).integers(0, 256, size, dtype=numpy.uint8)


def make_agent(name, sync, progress):
    """NIXL's agent without a backend. Wheels before 1.2.0 cannot be told a sync mode: there NONE is made to mean it."""
    config = nixl.nixl_agent_config(backends=[], enable_prog_thread=progress)
    if hasattr(nixl, "nixl_thread_sync_t"):
        config.sync_mode = getattr(nixl.nixl_thread_sync_t, f"NIXL_THREAD_SYNC_{sync}")
        return nixl.nixl_agent(name, config)
    mode = type(nixl.nixlBind.NIXL_THREAD_SYNC_NONE)(SYNC_MODES.index(sync))
    with mock.patch.object(nixl.nixlBind, "NIXL_THREAD_SYNC_NONE", mode):
        return nixl.nixl_agent(name, config)


class Agent:
    """Objects are (key, offset) or keys; local memory is (Memory, offset) or a Memory."""

    devices = itertools.count(1)  # NIXL tells live registrations apart by their device number

    def __init__(self, name, backend, parameters, sync=None, progress=True):
        self.name = name
        self.backend = backend
        self.metrics = parameters.get("metrics_file")
        self.nixl = make_agent(name, sync or "NONE", progress)
        self.nixl.create_backend(backend, parameters)
        self.objects = {}  # key -> (device number, registered descriptors)

    def memory(self, size, fill=0):
        return Memory(self, size, fill)

    def register(self, key, size, device=None):
        """Registers an object; returns its device number. An empty key means the device number is the key."""
        device = next(self.devices) if device is None else device
        self.objects[key or str(device)] = device, self.nixl.register_memory([(0, size, device, key)], "OBJ", [self.backend])
        return device

    def deregister(self, key):
        self.nixl.deregister_memory(self.objects.pop(key)[1], [self.backend])

    def request(self, operation, rows, local="DRAM"):
        """rows: (memory, memory offset, key, object offset, length); the keys are registered, or are now."""
        for _, _, key, offset, length in rows:
            if key not in self.objects:
                self.register(key, max(o + n for _, _, k, o, n in rows if k == key))
        here = [(memory.address + at, length, getattr(memory, "device", 0)) for memory, at, _, _, length in rows]
        there = [(offset, length, self.objects[key][0]) for _, _, key, offset, length in rows]
        descs = self.nixl.get_xfer_descs(here, local), self.nixl.get_xfer_descs(there, "OBJ")
        with nixl_errors():
            return self.nixl.initialize_xfer(operation, *descs, self.name, b"", [self.backend])

    def post(self, handle):
        with nixl_errors():
            state = self.nixl.transfer(handle)
        return check(state)

    def state(self, handle):
        """DONE or PROC; an error is Failed."""
        with nixl_errors():
            state = self.nixl.check_xfer_state(handle)
        return check(state)

    def wait(self, handle, timeout=30):
        """Polls until the end."""
        deadline = time.monotonic() + timeout
        while self.state(handle) == "PROC":
            assert time.monotonic() < deadline, "a transfer hangs"
            time.sleep(0.0001)

    def finish(self, handle, timeout=30):
        """Posts and polls until the end."""
        if self.post(handle) == "PROC":
            self.wait(handle, timeout)

    def run(self, operation, rows, timeout=30, **options):
        handle = self.request(operation, rows, **options)
        try:
            self.finish(handle, timeout)
        finally:
            handle.release()

    def write(self, memory, key, length=None, offset=0, at=0):
        self.run("WRITE", [(memory, at, key, offset, length or len(memory.bytes) - at)])

    def read(self, memory, key, length=None, offset=0, at=0):
        self.run("READ", [(memory, at, key, offset, length or len(memory.bytes) - at)])

    def query(self, keys):
        """For each key: is it there?"""
        return [found is not None for found in self.nixl.query_memory([(0, 1, 0, key) for key in keys], self.backend, "OBJ")]

    def close(self):
        """Destroys the agent; returns the counters of its backend, which writes them with its last breath.

        A request that is still referred to keeps all of it alive: the file is then not there.
        """
        for key in list(self.objects):
            self.deregister(key)
        pathlib.Path(self.metrics).unlink()
        self.nixl = None
        gc.collect()
        return counters(self.metrics)


def counters(path):
    """The samples of a metrics file, by name without prefix and suffix."""
    found = {}
    for line in pathlib.Path(path).read_text().splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name.split("{")[0].removeprefix("memkv_nixl_").removesuffix("_total")] = int(value)
    return found
