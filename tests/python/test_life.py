"""Forks, signals, threads, garbage collection and the end of the interpreter, with ops under way."""

import contextlib
import gc
import os
import pathlib
import signal
import threading
import time

import memkv
import pytest
from conftest import freeze, python

MIB = 1 << 20


def test_the_child_of_a_fork_is_told_and_the_parent_goes_on(kv, server):
    kv.put("k", b"v")
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            for call in (lambda: kv.get("k"), lambda: kv.put("k", b"child"), kv.describe):
                with pytest.raises(memkv.ForkedError, match="fork"):
                    call()
            kv.close()
            with memkv.connect(server.address) as own:
                status = 0 if own.get("k") == b"v" else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert kv.get("k") == b"v"


ASK_WHO_IS_AWAY = """
import memkv
with memkv.connect("127.0.0.1:1"{}) as kv:
    assert kv.get("k") is None
"""


def test_the_librarys_log_has_one_level_in_a_process():
    told = python(ASK_WHO_IS_AWAY.format(""))
    assert told.returncode == 0 and "WARN" in told.stderr and "is not used for now" in told.stderr, told
    for argument, level in ((', log_level="error"', ""), ("", "off"), (', log_level="error"', "debug")):
        told = python(ASK_WHO_IS_AWAY.format(argument), MEMKV_LOG_LEVEL=level)
        assert told.returncode == 0 and told.stderr == "", (argument, level, told)
    both = ASK_WHO_IS_AWAY.format(', log_level="off"') + ASK_WHO_IS_AWAY.format("")
    assert python(both).stderr == "", "who names none leaves it"
    told = python(ASK_WHO_IS_AWAY.format(""), MEMKV_LOG_LEVEL="loud")
    assert "InvalidError: MEMKV_LOG_LEVEL: unknown log level 'loud'; known are debug, info, warn, error and off" in told.stderr


def test_a_fork_while_another_thread_waits(kv, frozen):
    waiting = threading.Thread(target=_get_quietly, args=(kv, 0.5))
    waiting.start()
    while not kv._state.inside:
        time.sleep(0.001)
    child = os.fork()
    if child == 0:
        try:
            kv.get("there")
        except memkv.ForkedError:
            kv.close()
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    waiting.join()


def _get_quietly(kv, timeout):
    with contextlib.suppress(memkv.MemKVError):
        kv.get("there", timeout=timeout)


def test_an_interrupt_cancels_the_op_and_is_raised(kv, frozen):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        memory = bytearray(16)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            kv.get_into("there", memory, timeout=50)
        assert time.monotonic() - started < 20
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not kv._state.inside, "nothing is under way"
    memory.extend(b"free again")
    frozen.process.send_signal(signal.SIGCONT)
    assert kv.get("there") == b"before"


def test_interrupts_at_any_place_leave_no_op_behind(kv):
    """A signal every 300 us, wherever it hits: what is left inside is quiet or held."""

    def interrupt(*_):
        raise KeyboardInterrupt

    kv.put("k", bytes(100_000))
    before = signal.signal(signal.SIGALRM, interrupt)
    hits = 0
    try:
        for i in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + i % 30 * 0.00002)
                for _ in range(50):
                    kv.get_into("k", bytearray(100_000))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                hits += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hits > 100
    assert kv.get("k") == bytes(100_000)


def test_close_ends_the_calls_of_other_threads(server):
    kv = memkv.connect(server.address, io_contexts=1)
    kv.put("there", b"before")
    freeze(server.process.pid)
    told = []

    def get():
        try:
            told.append(kv.get("there", timeout=50))
        except memkv.MemKVError as e:
            told.append(type(e))

    threads = [threading.Thread(target=get) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(kv._state.inside) + len(told) < 3:
        time.sleep(0.001)
    kv.close()
    for thread in threads:
        thread.join()
    server.process.send_signal(signal.SIGCONT)
    # On a busy machine the client may find out first that the server does not answer: a miss.
    assert len(told) == 3 and set(told) <= {memkv.CanceledError, None}


def test_a_client_that_nobody_holds_closes_itself(server):
    descriptors = len(os.listdir("/proc/self/fd"))
    kv = memkv.connect(server.address)
    kv.put("k", b"v")
    assert _io_threads() > 0
    del kv
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors and _io_threads() == 0


def _io_threads():
    return sum(path.read_text().startswith("memkv-io") for path in pathlib.Path("/proc/self/task").glob("*/comm"))


def test_threads_share_a_client(kv):
    wrong = []

    def work(name):
        for i in range(100):
            data = bytes([name]) * (1000 + i)
            kv.put(f"{name}", data)
            if kv.get(f"{name}") != data:
                wrong.append((name, i))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


EXITS = {
    "in a daemon thread": """
import contextlib, threading, time, memkv
kv = memkv.connect()
memory = bytearray(8 << 20)
def put():
    with contextlib.suppress(memkv.MemKVError):
        while True: kv.put("k", memory)
threading.Thread(target=put, daemon=True).start()
while not kv.counters()["ops"]: time.sleep(0.001)
""",
    "of asyncio": """
import asyncio, memkv.aio
kv = memkv.aio.connect()
async def main():
    for i in range(8): asyncio.ensure_future(kv.put(f"k{i}", bytearray(4 << 20)))
    await asyncio.sleep(0.001)
asyncio.run(main())
""",
    "never closed": "import memkv\nkv = memkv.connect(); kv.put('k', b'v')\n",
    "by sys.exit": "import memkv, sys\nkv = memkv.connect(); kv.put('k', b'v'); sys.exit(0)\n",
}


@pytest.mark.parametrize("how", EXITS)
def test_the_interpreter_ends_with_ops_under_way(server, how):
    ran = python(EXITS[how], MEMKV_SERVERS=server.address)
    assert ran.returncode == 0, ran.stderr
    assert "Fatal" not in ran.stderr and "Traceback" not in ran.stderr, ran.stderr


def test_a_library_that_is_not_there_is_told_when_it_is_needed():
    ran = python("import memkv; print('imported'); memkv.connect()", MEMKV_LIBRARY="/none/libmemkv.so.1")
    assert ran.returncode != 0 and ran.stdout == "imported\n"
    assert "ImportError: memkv: /none/libmemkv.so.1 cannot be loaded" in ran.stderr and "MEMKV_LIBRARY" in ran.stderr


def test_the_package_has_the_names_that_it_tells_of():
    ran = python("import memkv; print(all(hasattr(memkv, name) for name in memkv.__all__), memkv.__version__, memkv.aio.connect.__name__, hasattr(memkv, 'x'))")
    assert ran.stdout.split() == ["True", memkv.__version__, "connect", "False"], ran.stderr
