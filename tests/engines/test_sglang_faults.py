"""memkv.sglang with a server that is not there, dies, stands still and comes back: nothing raises, nothing waits long."""

import os
import signal
import threading
import time

import pytest
import torch
from processes import Server, freeze
from sglang_pools import fill, hashes, host_pool, indices_of, page_bytes, storage, whole

from sglang.srt.mem_cache.hicache_storage import PoolName, PoolTransfer

LIMITS = dict(exists_timeout_s=0.2, get_timeout_s=0.4, put_timeout_s=0.5)
SLACK_S = 0.2
KEYS = hashes(32)


@pytest.fixture
def server(servers):
    return servers("--mode", "memory", "--memory", "128MiB")


def each_call(one):
    """Every call of the engine with its deadline in seconds and what it answers without a server."""
    pages = indices_of(range(32))
    transfers = [PoolTransfer(name=PoolName.KV, host_indices=pages, keys=KEYS)]
    flat = [one.mem_pool_host.get_dummy_flat_data_page() for _ in KEYS]
    return [
        (lambda: one.batch_exists(KEYS), 0.2, 0),
        (lambda: one.exists(KEYS[0]), 0.2, False),
        (lambda: one.batch_exists_v2(KEYS, transfers).kv_hit_pages, 0.2, 0),
        (lambda: one.batch_get_v1(KEYS, pages), 0.4, [False] * 32),
        (lambda: one.batch_get_v2(transfers), 0.4, {PoolName.KV: [False] * 32}),
        (lambda: one.batch_get(KEYS, flat), 0.4, [None] * 32),
        (lambda: one.get(KEYS[0], flat[0]), 0.4, None),
        (lambda: one.get(KEYS[0]), 0.4, None),
        (lambda: one.batch_set_v1(KEYS, pages), 0.5, [False] * 32),
        (lambda: one.batch_set_v2(transfers), 0.5, {PoolName.KV: [False] * 32}),
        (lambda: one.batch_set(KEYS, flat), 0.5, False),
    ]


class Watch:
    """How long the `with` block took, less what a busy machine made a thread beside it wait that only sleeps."""

    def __enter__(self):
        self.over, self.late_s = threading.Event(), 0.0
        self.sleeper = threading.Thread(target=self.sleep)
        self.sleeper.start()
        self.begin = time.monotonic()
        return self

    def sleep(self):
        while not self.over.is_set():
            begin = time.monotonic()
            time.sleep(0.01)
            self.late_s += max(0, time.monotonic() - begin - 0.02)

    def __exit__(self, *_):
        self.took_s = time.monotonic() - self.begin
        self.over.set()
        self.sleeper.join()
        self.took_s -= self.late_s


def assert_all_calls_end(one):
    for place, (call, limit_s, answer) in enumerate(each_call(one)):
        with Watch() as watch:
            got = call()
        assert got == answer, f"call {place}"
        assert watch.took_s < limit_s + SLACK_S, f"call {place} took {watch.took_s:.3f} s"


def store(server, pool):
    """KEYS are in the server, from the first pages of the pool."""
    one = storage(server, pool)
    assert all(one.batch_set_v1(KEYS, indices_of(range(32))))
    one.close()


def retried(call):
    """Tried for a while: a client looks again for a server after a pause, and a busy machine may miss these short deadlines."""
    deadline = time.monotonic() + 20
    while not call():
        assert time.monotonic() < deadline, "the server is there, and does not answer"


def answers(one):
    """A page goes there and back."""
    key = hashes(1, seed=time.monotonic_ns() % 10**9)
    retried(lambda: one.batch_set_v1(key, indices_of([0])) == [True] and one.batch_get_v1(key, indices_of([40])) == [True])
    return torch.equal(page_bytes(one.mem_pool_host, 0), page_bytes(one.mem_pool_host, 40))


def test_a_server_that_is_not_there_at_the_start(tmp_path):
    gone = Server(tmp_path, "--mode", "memory", "--memory", "64MiB")
    gone.kill()
    one = storage(gone, host_pool("mha", "page_first"), **LIMITS)
    assert_all_calls_end(one)
    assert not one.clear()
    back = Server(tmp_path, "--mode", "memory", "--memory", "64MiB", address=gone.address)
    assert answers(one)
    back.kill()
    one.close()


def test_a_server_that_is_killed_and_comes_back(server, tmp_path):
    one = storage(server, host_pool("mha", "page_first", seed=1), **LIMITS)
    store(server, one.mem_pool_host)
    retried(lambda: one.batch_exists(KEYS) == 32)
    server.kill()
    assert_all_calls_end(one)
    back = Server(tmp_path, "--mode", "memory", "--memory", "64MiB", address=server.address)
    assert answers(one)
    retried(lambda: one.batch_get_v1(KEYS, indices_of(range(32))) == [False] * 32)
    back.kill()
    one.close()


@pytest.mark.parametrize("layout", ["layer_first", "page_first_direct"])
def test_a_server_that_stands_still_and_goes_on(server, layout):
    pool = host_pool("mha", layout, seed=1)
    store(server, pool)
    one = storage(server, pool, **LIMITS)
    want = page_bytes(pool, 3).clone()
    retried(lambda: all(one.batch_get_v1(KEYS, indices_of(range(32)))) and one.batch_exists(KEYS) == 32)
    freeze(server.process.pid)
    assert_all_calls_end(one)
    fill(pool, 77)  # the engine uses the memory of the failed calls for something else
    sentinel = whole(pool)
    server.process.send_signal(signal.SIGCONT)
    for _ in range(30):
        time.sleep(0.01)
        assert torch.equal(whole(pool), sentinel), "bytes of a late reply landed in memory that was reused"
    assert answers(one)
    retried(lambda: one.batch_get_v1(KEYS[3:4], indices_of([50])) == [True])
    assert torch.equal(page_bytes(pool, 50), want)
    one.close()


@pytest.mark.parametrize("transport", ["tcp", "shm"])
def test_a_server_that_stands_still_in_the_middle_of_a_reply(server, transport):
    pool = host_pool("mha", "layer_first", pages=48, layers=64, seed=1)  # 8 MiB a call, in 4,096 pieces
    store(server, pool)
    one = storage(server, pool, **LIMITS, transport=transport)
    for delay_s in (0.0002, 0.001, 0.002, 0.004):
        stop = threading.Timer(delay_s, lambda: os.kill(server.process.pid, signal.SIGSTOP))
        stop.start()
        with Watch() as watch:
            got = one.batch_get_v1(KEYS, indices_of(range(32)))
        assert watch.took_s < LIMITS["get_timeout_s"] + SLACK_S
        stop.join()
        freeze(server.process.pid)
        fill(pool, 78)
        sentinel = whole(pool)
        server.process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        assert torch.equal(whole(pool), sentinel), f"a late reply landed ({sum(got)} of 32 pages had come)"
        assert answers(one)
    one.close()


def test_questions_reads_and_backups_at_once(server):
    """As the engine's three threads do."""
    one = storage(server, host_pool("mha", "page_first"))
    one.batch_set_v1(KEYS[:4], indices_of(range(4)))
    wrong = []

    def repeat(call, answer):
        wrong.extend(got for _ in range(30) if (got := call()) != answer)

    calls = [
        (lambda: one.batch_set_v1(hashes(24, seed=time.monotonic_ns()), indices_of(range(24))), [True] * 24),
        (lambda: one.batch_get_v1(KEYS[:4], indices_of(range(40, 44))), [True] * 4),
        (lambda: one.batch_exists(KEYS), 4),
    ]
    threads = [threading.Thread(target=repeat, args=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    one.close()


def test_a_closed_storage_has_only_misses(server):
    one = storage(server, host_pool("mha", "page_first"), **LIMITS)
    one.close()
    one.close()
    assert_all_calls_end(one)
