"""A server that dies, stands still or comes back: nothing hangs, deadlines hold, and it works again."""

import signal

import pytest
from conftest import Place, Server, start_place


def killed_in_the_middle(stage, operation):
    """Requests under way when the server dies end soon with an error; later ones too."""
    import time

    from agent import outcome

    agent = stage.agent(timeout_ms=1000)
    size = 8 << 20
    memory = agent.memory(4 * size, fill=1)
    rows = [(memory, i * size, f"block-{i}", 0, size) for i in range(4)]
    agent.run("WRITE", rows)
    handles = [agent.request(operation, rows) for _ in range(8)]
    states = [agent.post(handle) for handle in handles]
    stage.ask("kill")
    since = time.monotonic()
    ends = [outcome(agent.wait, handle) for handle, state in zip(handles, states) if state == "PROC"]
    later = [outcome(agent.run, operation, rows) for _ in range(3)]
    seconds = time.monotonic() - since
    for handle in handles:
        handle.release()
    handles.clear()
    del handle
    agent.close()
    return {"ends": ends, "later": later, "seconds": seconds, "closed": time.monotonic() - since}


@pytest.mark.parametrize("operation", ["READ", "WRITE"])
def test_killed_in_the_middle(play, own_place, wheel, operation):
    value = play(killed_in_the_middle, own_place, wheel, operation=operation, on={"kill": own_place.server.kill}).value
    assert value["seconds"] < 6 and value["closed"] < 8, value
    allowed = {"nixlNotFoundError", "nixlBackendError"}
    assert set(value["later"]) <= allowed and set(value["ends"]) <= allowed | {"DONE"}, value


def frozen(stage, pid):
    """A server that stands still: every request ends by its deadline, and when it goes on they work again."""
    import os
    import signal
    import time

    from agent import outcome

    agent = stage.agent(timeout_ms=1000)
    memory, back = agent.memory(1 << 20, fill=4), agent.memory(1 << 20)
    agent.write(memory, "frozen")
    os.kill(pid, signal.SIGSTOP)
    since = time.monotonic()
    ends = [outcome(agent.read, back, "frozen"), outcome(agent.write, memory, "frozen")]
    took = time.monotonic() - since
    found = agent.query(["frozen"])
    asked = time.monotonic() - since - took
    os.kill(pid, signal.SIGCONT)
    works = 0
    deadline = time.monotonic() + 15
    while works == 0 and time.monotonic() < deadline:
        works = outcome(agent.read, back, "frozen") == "DONE"
    assert (back.bytes == 4).all()
    return {"ends": ends, "took": took, "found": found, "asked": asked, "works": bool(works)}


def test_frozen_and_thawed(play, own_place):
    value = play(frozen, own_place, pid=own_place.server.process.pid).value
    assert value["took"] < 4 and value["asked"] < 2 and value["works"] and value["found"] == [False], value
    assert set(value["ends"]) <= {"nixlBackendError", "nixlNotFoundError"}, value


def destroyed_while_frozen(stage, pid):
    """Deregistration and the end of an agent, with requests under way to a server that stands still, are bounded."""
    import os
    import signal
    import time

    agent = stage.agent(timeout_ms=500)
    memory = agent.memory(4 << 20, fill=4)
    agent.write(memory, "frozen")
    os.kill(pid, signal.SIGSTOP)
    handles = [agent.request(op, [(memory, 0, "frozen", 0, 4 << 20)]) for op in ("READ", "WRITE") * 4]
    for handle in handles:
        agent.nixl.transfer(handle)
    since = time.monotonic()
    agent.nixl.deregister_memory(memory.descs, [agent.backend])
    deregistered = time.monotonic() - since
    memory.bytes[:] = 0x5A
    agent.objects.clear()
    handles.clear()
    del handle
    agent.close()
    closed = time.monotonic() - since
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.3)
    assert (memory.bytes == 0x5A).all(), "memory changed after it was deregistered"
    return {"deregistered": deregistered, "closed": closed}


def test_destroyed_while_the_server_is_frozen(play, own_place):
    value = play(destroyed_while_frozen, own_place, pid=own_place.server.process.pid).value
    assert value["deregistered"] < 1.5 + 0.3 and value["closed"] < 3.5, value


def restarted(stage):
    """After a restart at the same address everything works again without a new agent, and nothing is lost."""
    import time

    from agent import outcome, pattern

    agent = stage.agent(timeout_ms=2000)
    memory, back = agent.memory(8 << 20), agent.memory(8 << 20)
    memory.bytes[:] = pattern(8 << 20, 6)
    agent.write(memory, "kept")
    stage.ask("restart")
    deadline = time.monotonic() + 15
    while (last := outcome(agent.read, back, "kept")) != "DONE":
        assert time.monotonic() < deadline, last
        time.sleep(0.05)
    assert (back.bytes == memory.bytes).all()
    assert agent.query(["kept"]) == [True]
    agent.write(memory, "new")
    return agent.close()["failed_requests"]


def test_killed_and_restarted(play, tmp_path):
    place = start_place(tmp_path)
    address = place.server.address

    def restart():
        place.server.process.send_signal(signal.SIGKILL)
        place.server.process.wait()
        place.server = Server(tmp_path, "--config", tmp_path / "store.yaml", address=address)

    try:
        assert play(restarted, place, on={"restart": restart}).value < 200
    finally:
        place.server.kill()


def one_of_two(stage):
    """With one of two servers gone the keys of the other one are still served, in the same request."""
    from agent import outcome

    agent = stage.agent(timeout_ms=1000, io_threads=2)
    memory, back = agent.memory(64 * 4096, fill=8), agent.memory(64 * 4096, fill=0xEE)
    rows = [(memory, i * 4096, f"spread-{i}", 0, 4096) for i in range(64)]
    agent.run("WRITE", rows)
    stage.ask("kill")
    ends = {outcome(agent.run, "READ", [(back, *row[1:]) for row in rows]) for _ in range(3)}
    there = agent.query([f"spread-{i}" for i in range(64)])
    delivered = [bool((back.bytes[i * 4096 :][:4096] == 8).all()) for i in range(64)]
    return {"ends": list(ends), "there": there, "delivered": delivered}


def test_one_of_two_servers_gone(play, own_place, tmp_path):
    second = Server(tmp_path, "--mode", "memory", "--memory", "128MiB")

    class Both(Place):
        def parameters(self):
            return {"servers": f"a={own_place.server.address},b={second.address}"}

    try:
        value = play(one_of_two, Both(None), on={"kill": second.kill}).value
    finally:
        second.kill()
    assert set(value["ends"]) <= {"nixlNotFoundError", "nixlBackendError"}, value
    assert value["there"] == value["delivered"] and 10 < sum(value["there"]) < 54, value
