"""A server that dies, stands still or comes back: nothing hangs, deadlines hold, and it works again."""

import signal

import pytest
from conftest import RAILS, Place, Server, start_place


def killed_in_the_middle(stage, operation, timeout_ms):
    """Requests under way when the server dies end soon with an error; later ones too."""
    import time

    from agent import outcome

    agent = stage.agent(timeout_ms=timeout_ms)
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
    seconds = 5 if RAILS else 1  # emulated, it is slower
    value = play(killed_in_the_middle, own_place, wheel, operation=operation, timeout_ms=1000 * seconds, on={"kill": own_place.server.kill}).value
    assert value["seconds"] < 5 + seconds and value["closed"] < 7 + seconds, value
    assert set(value["later"]) == {"nixlBackendError"} and set(value["ends"]) <= {"nixlBackendError", "DONE"}, value


def frozen(stage, pid):
    """A server that stands still: every request ends by its deadline, and when it goes on they work again."""
    import os
    import signal
    import time

    from agent import outcome

    reader, writer, asker = (stage.agent(timeout_ms=300) for _ in range(3))
    memories = {agent: agent.memory(1 << 20, fill=4) for agent in (reader, writer, asker)}
    for agent, memory in memories.items():
        agent.write(memory, "frozen")

    def timed(call, *args):
        since = time.monotonic()
        return call(*args), time.monotonic() - since

    os.kill(pid, signal.SIGSTOP)
    ended = [timed(outcome, agent.run, op, [(memories[agent], 0, "frozen", 0, 1 << 20)]) for agent, op in ((reader, "READ"), (writer, "WRITE"))]
    asked = timed(asker.query, ["frozen"])
    os.kill(pid, signal.SIGCONT)
    works = False
    deadline = time.monotonic() + 15
    while not works and time.monotonic() < deadline:
        works = outcome(reader.read, memories[reader], "frozen") == "DONE"
    assert (memories[reader].bytes == 4).all()
    return {"ended": ended, "asked": asked, "works": works}


def test_frozen_and_thawed(play, own_place):
    value = play(frozen, own_place, pid=own_place.server.process.pid).value
    assert value["works"] and value["asked"][0] == [False], value
    assert [end for end, _ in value["ended"]] == ["nixlBackendError"] * 2, value
    assert all(0.25 < seconds < 0.3 + 0.7 for _, seconds in [*value["ended"], value["asked"]]), value


def deregistered_while_frozen(stage, pid):
    """Memory that is deregistered with requests under way is quiet, also when the server goes on and answers them."""
    import os
    import signal
    import time

    agent = stage.agent(timeout_ms=2000)
    memory = agent.memory(4 << 20, fill=4)
    agent.write(memory, "frozen")
    os.kill(pid, signal.SIGSTOP)
    handles = [agent.request("READ", [(memory, 0, "frozen", 0, 4 << 20)]) for _ in range(4)]
    for handle in handles:
        assert agent.post(handle) == "PROC"
    since = time.monotonic()
    agent.nixl.deregister_memory(memory.descs, [agent.backend])
    deregistered = time.monotonic() - since
    memory.bytes[:] = 0x5A
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.7)
    assert (memory.bytes == 0x5A).all(), "memory changed after it was deregistered"
    return deregistered


def test_deregistered_while_the_server_is_frozen(play, own_place):
    assert play(deregistered_while_frozen, own_place, pid=own_place.server.process.pid).value < 2 + 1.5


def destroyed_while_frozen(stage, pid):
    """The end of an agent with requests under way to a server that stands still is bounded."""
    import os
    import signal
    import time

    agent = stage.agent(timeout_ms=500)
    memory = agent.memory(4 << 20, fill=4)
    agent.write(memory, "frozen")
    os.kill(pid, signal.SIGSTOP)
    handles = [agent.request(op, [(memory, 0, "frozen", 0, 4 << 20)]) for op in ("READ", "WRITE") * 4]
    for handle in handles:
        agent.post(handle)
    since = time.monotonic()
    del handle
    handles.clear()
    agent.objects.clear()
    agent.close()
    seconds = time.monotonic() - since
    os.kill(pid, signal.SIGCONT)
    return seconds


def test_destroyed_while_the_server_is_frozen(play, own_place):
    assert play(destroyed_while_frozen, own_place, pid=own_place.server.process.pid).value < 0.5 + 1.5


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
    assert set(value["ends"]) == {"nixlBackendError"}, value
    assert value["there"] == value["delivered"] and 10 < sum(value["there"]) < 54, value
