"""A read of very many small blocks: it ends in the time that its bytes need, and holds up nobody."""

import json

import pytest
from conftest import clean_environment, run


def service(place):
    status = run("memkv", "status", "--json", env=clean_environment(MEMKV_SERVERS=place.server.address, MEMKV_TRANSPORT="tcp"))
    assert status.code == 0, status
    return json.loads(status.text)["servers"][0]["status"]["service"]


def many_blocks(stage, transport, count):
    """While a read of all of them is under way, a second thread reads one, again and again."""
    import threading

    import numpy

    size = 4096
    agent = stage.agent(sync="RW", transport=transport, timeout_ms=120_000)
    memory, one = agent.memory(count * size), agent.memory(size)
    numbers = numpy.arange(count, dtype="uint32").view("uint8").reshape(count, 4).repeat(size // 4, axis=1)
    memory.bytes.reshape(count, size)[:] = numbers
    rows = [(memory, i * size, f"b-{i}", 0, size) for i in range(count)]
    for first in range(0, count, 1000):
        agent.run("WRITE", rows[first : first + 1000], timeout=120)
    memory.bytes[:] = 0
    stage.ask("before")
    reading = agent.request("READ", rows)
    small, stop = [0], threading.Event()

    def read_one():
        request = agent.request("READ", [(one, 0, "b-7", 0, size)])
        while not stop.is_set():
            agent.finish(request, timeout=120)
            small[0] += 1
        request.release()

    beside = threading.Thread(target=read_one)
    assert agent.post(reading) == "PROC"
    beside.start()
    agent.wait(reading, timeout=120)
    stop.set()
    beside.join()
    assert (memory.bytes.reshape(count, size) == numbers).all()
    reading.release()
    return small[0]


@pytest.mark.parametrize("transport", ["tcp", "shm"])
def test_case_c11_a_read_of_40000_blocks(play, own_place, transport):
    seen = {}
    small = play(many_blocks, own_place, transport=transport, count=40_000, on={"before": lambda: seen.update(service(own_place))}, timeout=240).value
    after = service(own_place)
    assert after["busy"] - seen["busy"] <= (after["ops"] - seen["ops"]) / 1000, (seen, after)
    assert after["ops"] - seen["ops"] >= 40_000
    assert small >= 5, f"a read of one block was held up: {small} ended beside the large one"
