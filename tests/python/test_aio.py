"""asyncio: one thread, no polling."""

import asyncio
import gc
import signal
import threading

import memkv
import memkv.aio
import pytest
from conftest import freeze
from test_client import WRONG_TIMEOUTS


@pytest.fixture
def run(server):
    """run(main): `await main(kv)` in a loop of its own."""

    def call(main, **settings):
        async def connected():
            async with memkv.aio.connect(server.address, io_contexts=1, **settings) as kv:
                return await main(kv)

        return asyncio.run(connected())

    return call


def test_calls_are_awaited(run):
    async def main(kv):
        assert await kv.put("k", [b"12", b"345"]) is True
        assert await kv.get("k") == b"12345" and await kv.get("k", offset=1, size=2) == b"23" and await kv.get("none") is None
        memory = bytearray(3)
        assert await kv.get_into("k", memory) == 3 and memory == b"123"
        assert await kv.exists("k") and await kv.exists_many(["k", "none"]) == [True, False]
        assert await kv.prefetch(["k", "none"]) == [True, False] and await kv.prefetch([]) == []
        async with kv.batch() as b:
            b.put("l", b"x")
            b.exists("none")
            b.prefetch("k")
        assert [outcome.name for outcome in b.outcomes] == ["ok", "miss", "ok"]
        assert await kv.remove("k") and not await kv.remove("k")
        with pytest.raises(memkv.InvalidError):
            await kv.put("", b"x")
        assert not kv._waiting and not kv._state.inside

    run(main)


@pytest.mark.parametrize("timeout", WRONG_TIMEOUTS)
def test_a_timeout_that_is_none_is_told_by_every_call(run, timeout):
    async def main(kv):
        calls = {"put": ("k", b"v"), "get": ("k",), "get_into": ("k", bytearray(1)), "exists": ("k",), "exists_many": ([],), "remove": ("k",)}
        for name, arguments in calls.items():
            with pytest.raises(memkv.InvalidError, match="^timeout is .*: it must be a number of seconds above 0, at most 1000000000, or None"):
                await getattr(kv, name)(*arguments, timeout=timeout)
        with pytest.raises(memkv.InvalidError, match="^timeout is "):
            kv.batch(timeout)
        assert not kv._waiting and not kv._state.inside

    run(main)


def test_hundreds_run_at_once_in_one_thread(run):
    async def main(kv):
        await asyncio.gather(*(kv.put(f"k{i}", bytes([i % 256]) * 5000) for i in range(300)))
        blocks = await asyncio.gather(*(kv.get(f"k{i}") for i in range(300)))
        assert all(block == bytes([i % 256]) * 5000 for i, block in enumerate(blocks))
        assert threading.active_count() == 1, "of Python's; the library's own are two"

    run(main)


def test_a_canceled_task_ends_with_its_memory_quiet(run, server):
    async def main(kv):
        await kv.put("k", b"v" * 100)
        freeze(server.process.pid)
        memory = bytearray(100)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(kv.get_into("k", memory, timeout=50), 0.05)
        assert not kv._waiting and not kv._state.inside
        memory.extend(b"free again")
        server.process.send_signal(signal.SIGCONT)
        assert await kv.get("k") == b"v" * 100

    run(main)


def test_memory_that_only_the_op_holds_is_not_collected(run, server):
    async def main(kv):
        await kv.put("k", b"")
        freeze(server.process.pid)
        tasks = [asyncio.ensure_future(kv.put(f"k{i}", bytearray(bytes([i]) * 300_000))) for i in range(8)]
        await asyncio.sleep(0)
        gc.collect()
        others = [bytearray(300_000) for _ in range(50)]  # would take the place of what is freed
        server.process.send_signal(signal.SIGCONT)
        await asyncio.gather(*tasks)
        del others
        for i in range(8):
            assert await kv.get(f"k{i}") == bytes([i]) * 300_000

    run(main)


def test_close_ends_what_is_under_way(server):
    async def main():
        kv = memkv.aio.connect(server.address, io_contexts=1)
        await kv.put("k", b"v")
        freeze(server.process.pid)
        task = asyncio.ensure_future(kv.get("k", timeout=50))
        await asyncio.sleep(0.01)
        await kv.close()
        server.process.send_signal(signal.SIGCONT)
        with pytest.raises(memkv.CanceledError):
            await task
        with pytest.raises(memkv.ClosedError):
            await kv.get("k")

    asyncio.run(main())


def test_another_loop_is_refused(server):
    kv = memkv.aio.connect(server.address)

    async def put():
        await kv.put("k", b"v")

    asyncio.run(put())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(put())
