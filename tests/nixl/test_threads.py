"""Sync modes, many threads, releases in flight."""

import pytest


def modes(stage, sync, progress):
    agent = stage.agent(sync=sync, progress=progress)
    memory, back = agent.memory(1 << 20, fill=3), agent.memory(1 << 20)
    for i in range(20):
        agent.write(memory, f"mode-{i % 4}")
        back.bytes[:] = 0
        agent.read(back, f"mode-{i % 4}")
        assert (back.bytes == 3).all()


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("sync", ["NONE", "STRICT", "RW"])
def test_sync_modes(play, place, sync, progress):
    play(modes, place, sync=sync, progress=progress)


def many_threads(stage, sync, threads, rounds, io_threads):
    """Each thread writes, reads, asks and compares its own blocks through one agent, some of them shared."""
    import threading

    from agent import pattern

    size, agent, wrong = 65536, stage.agent(sync=sync, io_threads=io_threads), []
    memory = agent.memory(threads * 4 * size)
    keys = {f"{t}-{i}": agent.register(f"{t}-{i}", size) for t in range(threads) for i in range(4)}
    assert len(keys) == threads * 4

    def work(t):
        try:
            base = t * 4 * size
            for n in range(rounds):
                block = pattern(size, t * 1000 + n)
                memory.bytes[base : base + size] = block
                key = f"{t}-{n % 4}"
                agent.run("WRITE", [(memory, base, key, 0, size)])
                agent.run("READ", [(memory, base + (i + 1) * size, key, 0, size) for i in range(3)])
                for i in range(3):
                    got = memory.bytes[base + (i + 1) * size :][:size]
                    assert (got == block).all(), (t, n, i)
                assert agent.query([key, "absent"]) == [True, False]
        except BaseException as error:
            wrong.append(repr(error))

    workers = [threading.Thread(target=work, args=(t,)) for t in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, wrong[:3]
    counts = agent.close()
    assert counts["write_requests"] == threads * rounds and counts["copies"] == 2 * threads * rounds, counts


def test_sixty_four_threads_in_rw_mode(play, place, wheel):
    play(many_threads, place, wheel, sync="RW", threads=64, rounds=12, io_threads=1, timeout=120)


def test_sixty_four_threads_over_four_sessions(play, place):
    play(many_threads, place, sync="RW", threads=64, rounds=12, io_threads=4, timeout=120)


def test_threads_in_strict_mode(play, place):
    play(many_threads, place, sync="STRICT", threads=8, rounds=20, io_threads=1)


def release_in_flight(stage, rounds, size):
    """Reads that are released under way: from then on not a byte of their memory changes."""
    import time

    agent = stage.agent()
    memory = agent.memory(size, fill=0x11)
    agent.write(memory, "victim")
    slots = 8
    back = agent.memory(slots * size)
    blocks = back.bytes.reshape(slots, size)
    flight = refused = changed = 0
    for round in range(rounds):
        slot = round % slots
        # What was filled a few rounds ago, right after its release, has had time to be overwritten.
        if round >= slots and not (blocks[slot] == 0xA5).all():
            changed += 1
        blocks[slot] = 0x22
        handle = agent.request("READ", [(back, slot * size, "victim", 0, size)])
        state = agent.nixl.transfer(handle)
        for _ in range(round % 3):
            under_way(agent, handle)
        flight += state == "PROC" and under_way(agent, handle)
        refused += release(handle)
        blocks[slot] = 0xA5
    del handle
    time.sleep(0.3)
    changed += int((blocks != 0xA5).any(axis=1).sum())
    agent.read(back, "victim", size)
    assert (back.bytes[:size] == 0x11).all()
    counts = agent.close()
    return {"flight": flight, "refused": refused, "changed": changed, "canceled": counts["canceled_requests"]}


def under_way(agent, handle):
    """A miss is not: where a drive lags behind the others, a read of it is a miss, and not late."""
    try:
        return agent.nixl.check_xfer_state(handle) == "PROC"
    except Exception as error:
        assert type(error).__name__ == "nixlNotFoundError", error
        return False


def release(handle):
    """Releases at last; returns whether NIXL had to be asked again."""
    import time

    deadline = time.monotonic() + 5
    again = 0
    while True:
        try:
            handle.release()
            return again
        except Exception as error:
            assert type(error).__name__.startswith("nixl") and time.monotonic() < deadline, error
            again = 1


@pytest.mark.parametrize("size", [65536, 4 << 20])
def test_release_in_flight_a_thousand_times(play, place, wheel, size):
    value = play(release_in_flight, place, wheel, rounds=1000 if size == 65536 else 200, size=size, timeout=120).value
    assert value["changed"] == 0, value
    assert value["flight"] > 100, "hardly any was released under way"
    assert value["canceled"] > 0


def write_release_in_flight(stage, rounds, size):
    """Writes released under way: what is then done to their memory never reaches the store."""
    from agent import outcome

    agent = stage.agent()
    sources, back = agent.memory(4 * size), agent.memory(size)
    blocks = sources.bytes.reshape(4, size)
    agent.register("torn", size)
    mixed = 0
    for round in range(rounds):
        slot, value = round % 4, 1 + round % 200
        blocks[slot] = value
        handle = agent.request("WRITE", [(sources, slot * size, "torn", 0, size)])
        agent.nixl.transfer(handle)
        release(handle)
        blocks[slot] = 0xFF
        if outcome(agent.read, back, "torn") == "DONE":
            mixed += (back.bytes == 0xFF).any() or len(set(back.bytes[:: size // 64].tolist())) != 1
    return {"mixed": int(mixed)}


def test_writes_released_in_flight_store_nothing_else(play, place):
    assert play(write_release_in_flight, place, rounds=300, size=1 << 20, timeout=120).value == {"mixed": 0}
