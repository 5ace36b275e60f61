"""Bytes in and out: keys, offsets, misses, ways to write, several registrations, several agents."""

import pytest
from conftest import Server, start_place

SIZES = [4096, 65536, 1 << 20, (2 << 20) + 4096, 16 << 20, 64 << 20]


def patterned(stage, sizes):
    """Each size is written, changed in memory, read back and compared; both directions with an offset in memory."""
    from agent import pattern

    agent = stage.agent()
    for size in sizes:
        out, back = agent.memory(size), agent.memory(size + 64, fill=0xEE)
        out.bytes[:] = pattern(size, size)
        agent.write(out, f"block-{size}")
        agent.read(back, f"block-{size}", size, at=32)
        assert (back.bytes[32:-32] == pattern(size, size)).all(), size
        assert (back.bytes[:32] == 0xEE).all() and (back.bytes[-32:] == 0xEE).all(), "bytes beside the target changed"
    counts = agent.close()
    assert counts["write_bytes"] == counts["read_bytes"] == sum(sizes), counts


def test_patterned_data_of_all_sizes(play, place, wheel):
    play(patterned, place, wheel, sizes=SIZES)


def sentinel(stage, sizes):
    """Write 0xaa, poison with 0x00, read back, compare; before the read the server starts anew, so it reads its drives."""
    agent = stage.agent()
    memories = {size: agent.memory(size, fill=0xAA) for size in sizes}
    for size, memory in memories.items():
        agent.write(memory, f"sentinel-{size}")
        memory.bytes[:] = 0
    stage.ask("restart")
    for size, memory in memories.items():
        agent.read(memory, f"sentinel-{size}")
        assert (memory.bytes == 0xAA).all(), size
    agent.close()


def test_sentinel_from_the_drives(play, tmp_path):
    place = start_place(tmp_path)
    address = place.server.address

    def restart():
        place.server.stop()
        place.server = Server(tmp_path, "--config", tmp_path / "store.yaml", address=address)

    try:
        play(sentinel, place, sizes=[4096 << shift for shift in range(15)], on={"restart": restart})
    finally:
        place.server.kill()


def keys(stage):
    """The key is the meta text, or the decimal device number where that is empty; the prefix stands before both."""
    agent = stage.agent()
    memory = agent.memory(4096, fill=1)
    device = agent.register("", 4096, device=123456789)
    agent.write(memory, str(device))
    memory.bytes[:] = 2
    agent.write(memory, "named/with/slashes.bin")
    bare = stage.agent(prefix="")
    assert bare.query([f"{stage.prefix}123456789", f"{stage.prefix}named/with/slashes.bin", "123456789"]) == [True, True, False]
    back = bare.memory(4096)
    bare.read(back, f"{stage.prefix}123456789")
    assert (back.bytes == 1).all()


def test_keys(play, place):
    play(keys, place)


def key_too_long(stage):
    agent = stage.agent(prefix="")
    agent.register("k" * 1024, 4096)
    try:
        agent.register("k" * 1025, 4096)
    except Exception as error:
        assert type(error).__name__.startswith("nixl"), error
        return
    raise AssertionError("a key of 1,025 bytes was taken")


def test_a_key_that_is_too_long(play, place):
    play(key_too_long, place)


def ranges(stage):
    """addr is the offset in the object, for reads and for writes."""
    from agent import pattern

    size, agent = 5 << 20, stage.agent()
    whole, part = agent.memory(size), agent.memory(1 << 20)
    expected = pattern(size, 1)
    whole.bytes[:] = expected
    agent.register("ranged", size)
    agent.write(whole, "ranged")
    for offset, length in ((0, 4096), (1, 1), (4095, 4098), (65536, 65536), ((2 << 20) - 5, 10), (size - 1, 1), (3 << 20, 1 << 20)):
        part.bytes[:] = 0
        agent.read(part, "ranged", length, offset=offset)
        assert (part.bytes[:length] == expected[offset : offset + length]).all(), (offset, length)
    for offset, length in ((0, 100), (70000, 70000), ((2 << 20) - 5, 10), (size - 4096, 4096)):
        part.bytes[:] = pattern(1 << 20, offset)
        agent.write(part, "ranged", length, offset=offset)
        expected[offset : offset + length] = part.bytes[:length]
    whole.bytes[:] = 0
    agent.read(whole, "ranged")
    assert (whole.bytes == expected).all()
    assert agent.close()["range_writes"] == 4


def test_ranges(play, place, wheel):
    play(ranges, place, wheel)


def misses(stage):
    """A miss fails the request and says so; all other descriptors are delivered; nothing is filled with zeros."""
    from agent import outcome

    agent = stage.agent()
    memory, back = agent.memory(4 * 65536, fill=7), agent.memory(4 * 65536, fill=0xEE)
    rows = [(memory, i * 65536, f"there-{i}", 0, 65536) for i in range(4)]
    agent.run("WRITE", rows)
    rows = [(back, i * 65536, f"there-{i}" if i != 2 else "absent", 0, 65536) for i in range(4)]
    agent.register("absent", 65536)
    assert outcome(agent.run, "READ", rows) == "nixlNotFoundError"
    quarters = back.bytes.reshape(4, 65536)
    assert (quarters[[0, 1, 3]] == 7).all() and (quarters[2] == 0xEE).all()
    counts = agent.close()
    assert counts["misses"] == 1 and counts["failed_requests"] == 1 and counts["read_bytes"] == 3 * 65536, counts


def test_a_miss_fails_the_request_and_delivers_the_rest(play, place, wheel):
    played = play(misses, place, wheel)
    named = [line for line in played.err.splitlines() if "absent" in line]
    assert len(named) == 1 and "miss" in named[0], played.err


def short_objects(stage):
    """Past the end and in a hole there are no zeros, but an error."""
    from agent import outcome

    agent = stage.agent()
    memory, back = agent.memory(3 << 20, fill=7), agent.memory(3 << 20, fill=0xEE)
    agent.register("short", 65536)
    agent.write(memory, "short", 65536)
    agent.deregister("short")
    agent.register("short", 3 << 20)
    assert outcome(agent.read, back, "short", 65537) == "nixlNotFoundError"
    assert outcome(agent.read, back, "short", 4096, offset=65536) == "nixlNotFoundError"
    assert outcome(agent.read, back, "short", 8192, offset=61440) == "nixlNotFoundError"
    assert not (back.bytes[65536:] == 0).any(), "zeros beyond the end"
    assert outcome(agent.read, back, "short", 4096, offset=61440) == "DONE"


def test_a_short_object_is_an_error_and_no_zeros(play, place, wheel):
    play(short_objects, place, wheel)


def holes(stage):
    from agent import outcome

    agent = stage.agent()
    memory, back = agent.memory(65536, fill=7), agent.memory(12 << 20, fill=0xEE)
    agent.register("holed", 12 << 20)
    agent.write(memory, "holed", 65536, offset=8 << 20)
    assert outcome(agent.read, back, "holed", 65536, offset=8 << 20) == "DONE"
    assert outcome(agent.read, back, "holed", 65536, offset=1 << 20) == "nixlNotFoundError"
    assert outcome(agent.read, back, "holed", (8 << 20) + 65536) == "nixlNotFoundError"
    assert not (back.bytes[: 8 << 20] == 0).any(), "zeros from a hole"


def test_a_hole_is_an_error_and_no_zeros(play, place):
    play(holes, place)


def cluster_with_a_bad_end(stage, present, ranges):
    """Reads that overlap travel as one; that one of them goes where nothing is does not cost the others their bytes."""
    from agent import outcome

    agent = stage.agent()
    memory, back = agent.memory(65536, fill=7), agent.memory(len(ranges) << 20, fill=0xEE)
    agent.register("end", 16 << 20)
    agent.write(memory, "end", offset=present)
    rows = [(back, i << 20, "end", start, end - start) for i, (start, end) in enumerate(ranges)]
    assert outcome(agent.run, "READ", rows) == "nixlNotFoundError"
    for i, (start, end) in enumerate(ranges):
        got = back.bytes[i << 20 :][: end - start]
        whole = present <= start and end <= present + 65536
        assert (got == 7).all() if whole else not (got == 0).any(), (i, start, end)


@pytest.mark.parametrize(
    "present,ranges",
    [
        (0, [(0, 65536), (32768, 98304)]),
        (0, [(0, 98304), (0, 65536), (4096, 8192)]),
        (0, [(0, 32768), (32768, 65536), (65536, 98304)]),
        ((8 << 20) - 65536, [((8 << 20) - 131072, 8 << 20), ((8 << 20) - 65536, 8 << 20)]),
    ],
    ids=["tail", "cover", "touching", "hole"],
)
def test_a_descriptor_that_fails_does_not_fail_its_cluster(play, place, present, ranges):
    play(cluster_with_a_bad_end, place, present=present, ranges=ranges)


def write_modes(stage, mode, sizes):
    """Writes 200 KiB, then 100 KiB at 0, then 50 KiB at 50 KiB, each filled with its number; returns what is there."""
    from agent import outcome

    agent = stage.agent(write_mode=mode)
    key = f"mode-{mode}"
    for number, (offset, length, registered) in enumerate(sizes, 1):
        agent.register(key, registered)
        memory = agent.memory(length, fill=number)
        agent.write(memory, key, offset=offset)
        agent.deregister(key)
    back = agent.memory(1 << 20)
    agent.register(key, 1 << 20)
    have = next(n for n in range(1 << 18, 0, -1024) if outcome(agent.read, back, key, n) == "DONE") if mode != "auto" else 204800
    agent.read(back, key, have)
    runs = [[have and int(back.bytes[at]), at] for at in range(have) if at == 0 or back.bytes[at] != back.bytes[at - 1]]
    return {"bytes": have, "runs": runs, "counts": agent.close()}


KIB = 1024


@pytest.mark.parametrize(
    "mode,sizes,expected",
    [
        ("auto", [(0, 200 * KIB, 200 * KIB), (0, 100 * KIB, 300 * KIB), (50 * KIB, 50 * KIB, 300 * KIB)], (200 * KIB, [[2, 0], [3, 50 * KIB], [1, 100 * KIB]])),
        ("auto", [(0, 100 * KIB, 100 * KIB), (0, 200 * KIB, 200 * KIB)], (200 * KIB, [[2, 0]])),
        ("auto", [(0, 100 * KIB, 300 * KIB), (0, 200 * KIB, 300 * KIB)], (200 * KIB, [[2, 0]])),
        ("replace", [(0, 200 * KIB, 200 * KIB), (0, 100 * KIB, 300 * KIB)], (100 * KIB, [[2, 0]])),
        ("if_absent", [(0, 100 * KIB, 100 * KIB), (0, 200 * KIB, 200 * KIB)], (100 * KIB, [[1, 0]])),
    ],
)
def test_write_modes(play, place, mode, sizes, expected):
    value = play(write_modes, place, mode=mode, sizes=sizes).value
    assert (value["bytes"], value["runs"]) == expected
    if mode == "if_absent":
        counts = value["counts"]
        assert counts["already_present"] == 1 and counts["write_wire_bytes"] == 100 * KIB, "a payload was sent for a key that is there"


def overlapping_writes(stage, mode):
    """Sixteen writes of one key in one batch: it ends as one of them, whole; shifted ones end as a mix of whole writes."""
    agent = stage.agent(write_mode=mode)
    size = 3 << 20
    sources, back = agent.memory(16 * size), agent.memory(size)
    blocks = sources.bytes.reshape(16, size)
    for i in range(16):
        blocks[i] = i + 1
    for _ in range(5):
        agent.run("WRITE", [(sources, i * size, "contended", 0, size) for i in range(16)])
        back.bytes[:] = 0
        agent.read(back, "contended", size)
        values = set(back.bytes.tolist())
        assert len(values) == 1 and values <= set(range(1, 17)), values


@pytest.mark.parametrize("mode", ["auto", "replace"])
def test_overlapping_writes_of_one_batch_end_as_one_of_them(play, place, mode):
    play(overlapping_writes, place, mode=mode)


def repost(stage):
    """A request that has ended may be posted again, with what the memory then holds; also after a failure."""
    from agent import outcome

    agent = stage.agent()
    memory, back = agent.memory(65536), agent.memory(65536)
    agent.register("again", 65536)
    get, put = (agent.request(op, [(m, 0, "again", 0, 65536)]) for op, m in (("READ", back), ("WRITE", memory)))
    assert outcome(agent.finish, get) == "nixlNotFoundError"
    for value in range(1, 50):
        memory.bytes[:] = value
        agent.finish(put)
        agent.finish(get)
        assert (back.bytes == value).all()


def test_requests_are_posted_again(play, place, wheel):
    play(repost, place, wheel)


def registered_twice(stage):
    """One key under two registrations: that one of them goes leaves the other one usable."""
    agent = stage.agent()
    memory, back = agent.memory(65536, fill=9), agent.memory(65536)
    agent.register("twice", 65536)
    first = agent.objects.pop("twice")
    agent.register("twice", 65536)
    agent.write(memory, "twice")
    agent.nixl.deregister_memory(first[1], [agent.backend])
    agent.read(back, "twice")
    assert (back.bytes == 9).all()


def test_several_registrations_of_a_key(play, place, wheel):
    play(registered_twice, place, wheel)


def several_agents(stage):
    """Each has a backend of its own; one that goes does not disturb the others; what one writes the others read."""
    agents = [stage.agent() for _ in range(4)]
    for i, agent in enumerate(agents):
        agent.write(agent.memory(65536, fill=i + 1), f"agent-{i}")
    assert agents.pop(0).close()["write_requests"] == 1
    for agent in agents:
        back = agent.memory(65536)
        for i in range(4):
            agent.read(back, f"agent-{i}")
            assert (back.bytes == i + 1).all()
    for agent in agents:
        assert agent.close()["read_requests"] == 4


def test_several_agents_in_one_process(play, place, wheel):
    play(several_agents, place, wheel)


def prepped(stage, backend):
    """Lists prepared once and transfers made of their indices, as vLLM and LMCache do, no backend named: NIXL merges neighbours."""
    from agent import pattern

    count, size, agent = 16, 65536, stage.agent(backend=backend)
    memory = agent.memory(count * size)
    memory.bytes[:] = expected = pattern(count * size, 1)
    blocks = [(memory.address + i * size, size, 0) for i in range(count)]
    nixl = agent.nixl
    here = nixl.prep_xfer_dlist("NIXL_INIT_AGENT", blocks, "DRAM")
    objects = nixl.register_memory([(0, size, 100 + i, f"page-{i}") for i in range(count)] + [(0, count * size, 99, "all")], "OBJ")
    rows = [(0, size, 100 + i) for i in range(count)] + [(i * size, size, 99) for i in range(count)]
    there = nixl.prep_xfer_dlist(agent.name, rows, "OBJ")

    def run(operation, local, remote):
        handle = nixl.make_prepped_xfer(operation, here, local, there, remote)
        agent.finish(handle)
        handle.release()

    every = list(range(count))
    run("WRITE", every, every)
    run("WRITE", every, [count + i for i in every])
    memory.bytes[:] = 0
    run("READ", every, every[::-1])
    assert (memory.bytes.reshape(count, size)[::-1] == expected.reshape(count, size)).all()
    memory.bytes[:] = 0
    run("READ", every, [count + i for i in every])
    assert (memory.bytes == expected).all()
    for handle in (here, there):
        nixl.release_dlist_handle(handle)
    nixl.deregister_memory(objects)


@pytest.mark.parametrize("backend", ["MEMKV", "OBJ"])
def test_prepared_lists(play, place, wheel, backend):
    play(prepped, place, wheel, backend=backend)
