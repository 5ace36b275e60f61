"""Blocking calls: what goes in, what comes out, and what is told when it does not."""

import array
import doctest
import json
import math
import mmap
import os
import secrets
import sys
import time

import memkv
import numpy
import pytest
from memkv import _client, _dlpack

MIB = 1 << 20


class Tensor:
    """What torch.Tensor shows of itself, over numpy memory."""

    def __init__(self, data, device="cpu"):
        self.array, self.device = data, type("Device", (), {"type": device})()

    def data_ptr(self):
        return self.array.ctypes.data

    def is_contiguous(self):
        return self.array.flags.c_contiguous

    def numel(self):
        return self.array.size

    def element_size(self):
        return self.array.itemsize


@pytest.mark.parametrize("data", [
    b"bytes", bytearray(b"bytearray"), memoryview(b"..view")[2:], array.array("i", range(100)), numpy.arange(1000, dtype=numpy.float32).reshape(10, 100),
    Tensor(numpy.arange(64, dtype=numpy.int16)), b"", [b"a", bytearray(b"bc"), numpy.zeros(3, numpy.uint8)],
], ids=lambda data: type(data).__name__)  # fmt: skip
def test_whatever_has_bytes_is_stored_and_read_back(kv, data):
    parts = data if isinstance(data, list) else [data]
    expected = b"".join(bytes(part.array) if isinstance(part, Tensor) else bytes(part) for part in parts)
    assert kv.put("k", data) is True
    assert kv.get("k") == expected
    memory = bytearray(len(expected) + 5)
    assert kv.get_into(b"k", [memoryview(memory)[:1], memoryview(memory)[1:]]) == len(expected)
    assert bytes(memory) == expected + bytes(5)


def test_arrays_and_tensors_and_mapped_memory_are_filled_in_place(kv):
    source = numpy.random.default_rng(1).integers(0, 255, 3 * MIB, numpy.uint8)
    kv.put("large", source)
    for target in (numpy.zeros_like(source), Tensor(numpy.zeros_like(source)), mmap.mmap(-1, len(source))):
        assert kv.get_into("large", target) == len(source)
        assert bytes(getattr(target, "array", target)) == bytes(source)
    assert kv.get("large") == bytes(source), "larger than the guess of a size"
    assert kv.get("large", offset=2 * MIB + 1, size=5) == bytes(source[2 * MIB + 1 : 2 * MIB + 6])


class OnlyDlpack:
    """An array of a library that has no buffer protocol: numpy's own DLPack, with or without versions."""

    def __init__(self, array, versions=True):
        self.array, self.versions = array, versions

    def __dlpack__(self, **asked):
        if not self.versions and asked:
            raise TypeError("unexpected keyword argument 'max_version'")
        return self.array.__dlpack__(**asked)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("versions", [True, False])
def test_arrays_that_speak_dlpack_alone(kv, versions):
    source = numpy.arange(5000, dtype=numpy.int16).reshape(50, 100)
    assert kv.put("k", OnlyDlpack(source, versions)) and kv.get("k") == source.tobytes()
    assert kv.put("part", OnlyDlpack(source[10:20], versions)) and kv.get("part") == source[10:20].tobytes()
    target = numpy.zeros_like(source)
    assert kv.get_into("k", OnlyDlpack(target, versions)) == source.nbytes and (target == source).all()
    assert kv.put("empty", OnlyDlpack(source[:0], versions)) and kv.get("empty") == b""
    held = sys.getrefcount(source)
    for _ in range(10):
        kv.put("k", OnlyDlpack(source, versions))
    assert sys.getrefcount(source) == held
    with pytest.raises(memkv.InvalidError, match="not contiguous"):
        kv.put("k", OnlyDlpack(source[:, 1:], versions))
    source.flags.writeable = False
    with pytest.raises(memkv.InvalidError, match="read-only|readonly"):
        kv.get_into("k", OnlyDlpack(source, versions))


def test_a_capsule_from_a_later_dlpack_is_refused(kv):
    class Later(OnlyDlpack):
        def __dlpack__(self, **asked):
            capsule = super().__dlpack__(**asked)
            _dlpack._Versioned.from_address(_dlpack._pointer_of(capsule, b"dltensor_versioned")).major = 2
            return capsule

    with pytest.raises(memkv.InvalidError, match="as numpy array"):
        kv.put("k", Later(numpy.zeros(4)))


def test_outcomes_are_values(kv):
    assert kv.get("none") is None and kv.get_into("none", bytearray(1)) is None and kv.stat("none") is None
    assert not kv.exists("none") and not kv.remove("none") and not kv.touch("none")
    assert kv.put("k", b"one", if_absent=True) and not kv.put("k", b"two", if_absent=True)
    assert kv.put("k", b"X", offset=1) and kv.get("k") == b"oXe"
    assert kv.exists_many(["k", "none", b"k"]) == [True, False, True] and kv.exists_many([]) == []
    assert kv.touch("k") and kv.stat("k").block_bytes == 3 and kv.stat("k").generation > 0


def test_a_prefetch_answers_what_is_there_and_brings_no_byte(kv):
    kv.put("k", b"one")
    assert kv.prefetch(["k", "none", b"k"]) == [True, False, True] and kv.prefetch([]) == []
    with kv.batch() as b:
        b.prefetch("k")
        b.prefetch("none")
        b.prefetch("")
    assert [outcome.name for outcome in b.outcomes] == ["ok", "miss", "invalid"]
    assert b.outcomes[0].exists and b.outcomes[0].bytes == 0 and b.outcomes[0].block_bytes == 3 and not b.outcomes[1].exists
    with pytest.raises(TypeError, match="a list of keys"):
        kv.prefetch("k")


def test_a_batch_has_an_outcome_an_op(kv):
    memory = bytearray(4)
    with kv.batch() as b:
        b.put("a", b"first")
        b.chained().get_into("a", memory, offset=1)
        b.exists("none")
        long = b.put("k" * 1025, b"")
    assert [outcome.name for outcome in b.outcomes] == ["ok", "ok", "miss", "invalid"]
    assert bytes(memory) == b"irst" and b.outcomes[1].bytes == 4 and b.outcomes[1].block_bytes == 5 and b.outcomes[long].failed
    with kv.batch() as empty:
        pass
    assert empty.outcomes == []


def test_pages_of_one_memory_in_one_call(kv):
    pool = numpy.arange(64 * 1000, dtype=numpy.uint32).view(numpy.uint8)
    keys = [f"page/{i}" for i in range(64)]
    assert kv.put_pages(keys, pool, range(0, len(pool), 4000), 4000) == [True] * 64
    copy = numpy.zeros(len(pool) + 4000, numpy.uint8)
    assert kv.get_pages([b"none", *keys], copy, range(0, len(copy), 4000), 4000) == [None] + [4000] * 64
    assert (copy[4000:] == pool).all() and kv.get_pages([], copy, [], 1) == []
    for offsets, size in (([-1], 4), ([len(pool) - 3], 4), ([0], -1)):
        with pytest.raises(memkv.InvalidError, match="outside"):
            kv.get_pages(["k"], pool, offsets, size)
    with pytest.raises(memkv.InvalidError, match="1 keys and 2 offsets"):
        kv.put_pages(["k"], pool, [0, 1], 1)


def test_what_a_caller_gets_wrong_is_told(kv):
    matrix = numpy.zeros((8, 8))
    with pytest.raises(memkv.InvalidError, match="cannot write into a read-only bytes.*bytearray"):
        kv.get_into("k", b"read-only")
    matrix.flags.writeable = False
    with pytest.raises(memkv.InvalidError, match="ndarray"):
        kv.get_into("k", matrix)
    for wrong in (matrix.T, matrix[:, :3], Tensor(matrix[:, 0])):
        with pytest.raises(memkv.InvalidError, match="not contiguous"):
            kv.put("k", wrong)
    with pytest.raises(memkv.UnsupportedError, match=r"register\(\) it, or pass tensor.cpu\(\)"):
        kv.put("k", Tensor(matrix, "cuda"))
    with pytest.raises(TypeError, match="encode"):
        kv.put("k", "text")
    with pytest.raises(TypeError, match="int"):
        kv.put("k", 5)
    with pytest.raises(TypeError, match="key"):
        kv.exists(5)
    with pytest.raises(memkv.InvalidError, match="1 to 1,024 bytes"):
        kv.put("", b"x")
    with pytest.raises(memkv.InvalidError, match="timeout"):
        kv.get("k", timeout=0)
    with pytest.raises(memkv.InvalidError, match="negative"):
        kv.get("k", offset=-1)
    with pytest.raises(memkv.InvalidError, match="known are auto"):
        memkv.connect("h:1", transport="pigeon")
    with pytest.raises(memkv.InvalidError, match="io_contexts"):
        memkv.connect("127.0.0.1:1", io_contexts=1000)
    with pytest.raises(memkv.InvalidError, match="64 hex characters"):
        memkv.connect(auth_key="abc")
    assert kv.exists_many(["k"]) == [False], "nothing of it was done"


def test_a_closed_client_says_so(server):
    with memkv.connect(server.address) as kv:
        kv.put("k", b"v")
    for call in (lambda: kv.get("k"), kv.counters, kv.describe, lambda: kv.servers):
        with pytest.raises(memkv.ClosedError, match="closed"):
            call()
    kv.close()


def test_servers_listings_and_counters(kv, server):
    kv.put("one", b"1")
    kv.put(b"\xff\x00", b"22")
    assert kv.servers == [server.address] and kv.server_of("one") == 0
    assert sorted((block.key, block.block_bytes) for block in kv.list()) == [(b"one", 1), (b"\xff\x00", 2)]
    assert len(kv.list(limit=1)) == 1
    assert kv.counters()["bytes_written"] >= 3 and isinstance(kv.rails(), list)
    with memkv.connect(server.address, io_contexts=3) as several:
        several.put("k", b"v")
        assert ": connected, tcp" in several.describe(), "one of its three I/O threads is"
    assert server.address in kv.describe() and kv.server_status().startswith("{")
    kv.flush()
    assert kv.list() == []
    with pytest.raises(memkv.InvalidError):
        kv.list(7)


def test_memory_is_registered_for_as_long_as_asked(kv):
    memory = numpy.zeros(65536, numpy.uint8)
    with kv.register(memory):
        assert kv.put("k", memory)
    with pytest.raises(memkv.InvalidError):
        kv.register(b"read-only")


def test_a_server_that_is_down_is_a_miss(tmp_path):
    with memkv.connect("127.0.0.1:1") as kv:
        assert kv.get("k") is None and kv.put("k", b"v") is False and not kv.exists("k")
        with kv.batch() as b:
            b.exists("k")
        assert b.outcomes[0].unreachable


def test_deadlines_are_exceptions(kv, frozen):
    with pytest.raises(memkv.DeadlineError, match=r"get 'there': the deadline passed") as told:
        kv.get("there", timeout=0.05)
    assert isinstance(told.value, TimeoutError) and told.value.status == 22 and told.value.name == "deadline"
    with pytest.raises(memkv.UnknownError):
        kv.put("k", b"v", timeout=0.05)


def test_the_status_names_the_clients_of_ones_own_namespace(servers, tmp_path):
    credentials = [secrets.token_hex(32) for _ in "ab"]
    config = tmp_path / "server.yaml"
    spaces = ", ".join(f"{{name: {name}, auth_key: {key}}}" for name, key in zip("ab", credentials))
    config.write_text(f"storage: {{mode: memory}}\nmemory: {{max_size: 128MiB}}\nworkers: 2\nnamespaces: [{spaces}]\n")
    address = servers("--config", config).address

    def shown(kv):
        status = json.loads(kv.server_status())
        assert status["clients_total"] == len(status["clients"])
        return {client.pop("name"): client for client in status["clients"]}

    def until(kv, names):
        deadline = time.monotonic() + 10
        while set(shown(kv)) != names:
            assert time.monotonic() < deadline, shown(kv)
            time.sleep(0.01)

    with memkv.connect(address, auth_key=credentials[0], client_name="engine-0") as a, memkv.connect(address, auth_key=credentials[1], client_name="b\x1b[2J" + 70 * "x") as b:
        for n in range(20):  # so that both workers have met them
            assert a.put(f"k{n}", b"a") and b.put(f"k{n}", b"b")
        assert set(shown(a)) == {"engine-0"} and set(shown(b)) == {"b?[2J" + 58 * "x"}
        told = shown(a)["engine-0"]
        assert told["connections"] == told["tcp"] >= 2 and "shm" not in told, told
        with memkv.connect(address, auth_key=credentials[0], client_name="engine-1") as other:
            other.put("k", b"a")
            assert set(shown(a)) == {"engine-0", "engine-1"} and len(shown(b)) == 1
        until(a, {"engine-0"})


WRONG_TIMEOUTS = [math.nan, math.inf, -1, 0, "2", "2s", True, [1], 10**400]


@pytest.mark.parametrize("timeout", WRONG_TIMEOUTS)
def test_a_timeout_that_is_none_is_told_by_every_call(kv, timeout):
    pool = bytearray(8)
    calls = {
        "put": ("k", b"v"), "get": ("k",), "get_into": ("k", pool), "exists": ("k",), "exists_many": ([],), "prefetch": ([],), "get_pages": (["k"], pool, [0], 8),
        "put_pages": ([], pool, [], 8), "remove": ("k",), "touch": ("k",), "stat": ("k",), "batch": (), "flush": (), "list": (), "server_status": (),
    }  # fmt: skip
    for name, arguments in calls.items():
        with pytest.raises(memkv.InvalidError) as told:
            getattr(kv, name)(*arguments, timeout=timeout)
        assert str(told.value).startswith(f"timeout is {repr(timeout)[:50]}")
        assert str(told.value).endswith(": it must be a number of seconds above 0, at most 1000000000, or None for the default")
    assert not kv._state.inside and kv.list() == []


def test_a_timeout_is_any_number(kv):
    assert all(kv.put("k", b"v", timeout=right) for right in (None, 1, 2.5, numpy.float32(3), numpy.int64(4), 1e9))


def test_wrong_credentials_are_told_apart_from_misses(servers):
    key = "4f1d0c6a9b7e2358d1406fb2ae93c857601bfd8e24a7c93510e6b84f7d2a5c39"
    with memkv.connect(servers("--mode", "memory", "--memory", "64MiB").address, auth_key=key) as kv:
        with pytest.raises(memkv.UnauthorizedError, match="MEMKV_AUTH_KEY"):
            kv.put("k", b"v")
        with pytest.raises(memkv.UnauthorizedError):
            kv.get("k")


def test_the_examples_of_the_docstrings(kv):
    failed, run = 0, 0
    runner = doctest.DocTestRunner()
    tests = doctest.DocTestFinder().find(_client.Client, "Client", globs={"kv": kv})
    for test in sorted(tests, key=lambda test: test.lineno or 0):
        result = runner.run(test)
        failed, run = failed + result.failed, run + result.attempted
    assert failed == 0 and run >= 8


def test_many_ops_leave_nothing_behind(kv):
    def rounds(count):
        memory = bytearray(1000)
        for _ in range(count):
            with kv.batch() as b:
                for key in ("a", "b", "c", "d"):
                    b.put(key, memory)
                    b.get_into(key, memory)
            kv.get("none")

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE

    import gc

    rounds(1000)
    gc.collect()
    objects, descriptors, before = len(gc.get_objects()), len(os.listdir("/proc/self/fd")), resident()
    rounds(11_200)  # more than 100,000 ops
    gc.collect()
    assert len(gc.get_objects()) - objects < 20 and len(os.listdir("/proc/self/fd")) == descriptors
    assert resident() - before < MIB
    assert not kv._state.inside
