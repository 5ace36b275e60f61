"""Why a transfer failed: the true reason, and the same one whatever carries the bytes; and what a backend refuses to be made with."""

import pytest
from conftest import DRAWN_KEY, Place, Server, freeze, start_place
from test_plugin import refused, said

TRANSPORTS = ["tcp", "shm"]


def down_and_frozen(stage, pid, transport):
    """A read under way when the server stands still, others while it does, and others when it is dead."""
    import os
    import signal

    from agent import outcome

    writer, agent = stage.agent(timeout_ms=60_000, transport=transport), stage.agent(timeout_ms=3000, transport=transport)
    size = 64 << 20
    source, memory = writer.memory(size, fill=1), agent.memory(size)
    writer.write(source, "large")
    writer.write(source, "small", 4096)
    ends = {"absent": [outcome(agent.read, memory, "absent", 4096)]}
    reading = agent.request("READ", [(memory, 0, "large", 0, size)])
    agent.post(reading)
    freeze(pid)
    ends["frozen"] = [outcome(agent.wait, reading), outcome(agent.read, memory, "small", 4096), outcome(agent.write, memory, "small", 4096)]
    there = [agent.query(["small", "absent"])]
    os.kill(pid, signal.SIGKILL)
    ends["dead"] = [outcome(agent.read, memory, "small", 4096), outcome(agent.write, memory, "small", 4096)]
    there.append(agent.query(["small"]))
    reading.release()
    del reading
    return ends, there, agent.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_case_c16_a_server_that_is_down_or_frozen_is_no_miss(play, own_place, transport):
    played = play(down_and_frozen, own_place, pid=own_place.server.process.pid, transport=transport)
    ends, there, counts = played.value
    assert ends["absent"] == ["nixlNotFoundError"], ends
    assert set(ends["frozen"]) | set(ends["dead"]) == {"nixlBackendError"}, ends
    assert there == [[False, False], [False]]
    assert counts["misses"] == 1 and counts["timeouts"] == 0 and counts["refusals"] == 0, counts
    assert counts["unreachable"] == 5 and counts["unasked_keys"] == 3, counts
    lines = [line for line in said(played) if " of '" in line]
    assert len([line for line in lines if line.endswith(": miss")]) == 1, lines
    assert any("its server is down, or does not answer" in line for line in lines), lines
    assert any("could not be asked for and count as absent" in line for line in said(played)), played.err


def one_of_two(stage, transport):
    """Reads of keys of both servers, one of which is dead: alone, and beside keys that are not there."""
    from agent import outcome

    agent = stage.agent(timeout_ms=5000, transport=transport)
    memory = agent.memory(64 * 4096, fill=8)
    rows = [(memory, i * 4096, f"spread-{i}", 0, 4096) for i in range(64)]
    agent.run("WRITE", rows)
    stage.ask("kill")
    there = agent.query([f"spread-{i}" for i in range(64)])
    live = [row for row, found in zip(rows, there) if found]
    dead = [row for row, found in zip(rows, there) if not found]
    short = (memory, live[0][1], live[0][2], 4000, 96 + 4096)  # more than there is
    agent.deregister(live[0][2])
    agent.register(live[0][2], 8192)
    ends = {
        "live": outcome(agent.run, "READ", live),
        "dead": outcome(agent.run, "READ", dead),
        "live and dead": outcome(agent.run, "READ", rows),
        "live and a miss": outcome(agent.run, "READ", [*live[1:], short]),
        "dead and a miss": outcome(agent.run, "READ", [short, *dead]),
    }
    return ends, len(live), len(dead), agent.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_case_c16_one_of_two_servers_down(play, own_place, tmp_path, transport):
    second = Server(tmp_path, "--mode", "memory", "--memory", "128MiB")

    class Both(Place):
        def parameters(self):
            return {"servers": f"a={own_place.server.address},b={second.address}"}

    try:
        ends, live, dead, counts = play(one_of_two, Both(None), on={"kill": second.kill}, transport=transport).value
    finally:
        second.kill()
    assert ends == {
        "live": "DONE",
        "dead": "nixlBackendError",
        "live and dead": "nixlBackendError",
        "live and a miss": "nixlNotFoundError",
        "dead and a miss": "nixlBackendError",
    }
    assert live > 10 and dead > 10
    assert counts["misses"] == 2 and counts["unreachable"] == 3 * dead, counts


@pytest.mark.parametrize(
    "parameters,words",
    [
        ({"secret_key": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"}, ["secret_key", "64 hex digits", "auth_key or MEMKV_AUTH_KEY"]),
        ({"secret_key": DRAWN_KEY}, ["does not accept the credential", "secret_key"]),
        ({"secrete_key": DRAWN_KEY}, ["unknown parameter 'secrete_key'", "did you mean 'secret_key'?"]),
        ({"endpoint_override": ""}, ["endpoint_override", "MEMKV_SERVERS"]),
        ({"auth_key": "12"}, ["64 hex characters", "memkv setup"]),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_case_c17_what_obj_is_not_made_with(play, keyed, parameters, words):
    base = {"servers": None, "auth_key": None, "bucket": "b", "endpoint_override": keyed.server.address}
    played = play(refused, keyed, parameters={**base, **parameters}, backend="OBJ")
    assert played.value == "nixlBackendError", played.err
    line = said(played)[-1]
    assert all(word in line for word in words) and "::" not in line, line
    secret = parameters.get("secret_key", "-" * 64)
    assert secret not in played.err


def never_answers(stage, servers):
    """A backend of servers that say nothing is made soon all the same."""
    import time

    since = time.monotonic()
    agent = stage.agent(servers=servers, auth_key=DRAWN_KEY)
    seconds = time.monotonic() - since
    assert agent.query(["key"]) == [False]
    return seconds


def test_case_c17_a_credential_that_nobody_can_prove_is_taken(play, tmp_path):
    place = start_place(tmp_path)
    place.server.kill()
    assert play(never_answers, place, servers=place.server.address).value < 10
