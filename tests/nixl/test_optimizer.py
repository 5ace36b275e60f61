"""The request batch optimizer as its counters show it: what a caller asked for, and what crossed the wire."""

import pytest


def one_block(stage, size, coalesce):
    """Sixteen reads of one block in one request."""
    from agent import pattern

    agent = stage.agent(coalesce=coalesce)
    source, back = agent.memory(size), agent.memory(16 * size)
    source.bytes[:] = pattern(size, 1)
    agent.write(source, "shared")
    agent.run("READ", [(back, i * size, "shared", 0, size) for i in range(16)])
    assert (back.bytes.reshape(16, size) == pattern(size, 1)).all()
    return agent.close()


@pytest.mark.parametrize("size", [4096, 65536, 1 << 20, 3 << 20])
def test_sixteen_reads_of_a_block_are_one_fetch_and_fifteen_copies(play, place, size):
    counts = play(one_block, place, size=size, coalesce="on").value
    assert counts["read_descriptors"] == 16 and counts["read_wire_operations"] == 1 and counts["copies"] == 15, counts
    assert counts["read_bytes"] == 16 * size and counts["read_wire_bytes"] == size and counts["copied_bytes"] == 15 * size


def test_all_wheels_count_the_same(play, place, wheel):
    counts = play(one_block, place, wheel, size=65536, coalesce="on").value
    assert (counts["read_wire_operations"], counts["copies"]) == (1, 15), counts


def test_without_coalescing_each_is_fetched(play, place):
    counts = play(one_block, place, size=65536, coalesce="off").value
    assert counts["read_wire_operations"] == 16 and counts["copies"] == 0 and counts["read_wire_bytes"] == 16 * 65536
    assert counts["refetched_bytes"] == 16 * 65536


def distinct(stage):
    from agent import pattern

    size, agent = 65536, stage.agent()
    source, back = agent.memory(16 * size), agent.memory(16 * size)
    source.bytes[:] = pattern(16 * size, 2)
    rows = [(source, i * size, f"key-{i}", 0, size) for i in range(16)]
    agent.run("WRITE", rows)
    agent.run("READ", [(back, at, key, offset, length) for _, at, key, offset, length in rows])
    assert (back.bytes == source.bytes).all()
    return agent.close()


def test_distinct_keys_are_not_coalesced(play, place):
    counts = play(distinct, place).value
    assert counts["read_wire_operations"] == counts["write_wire_operations"] == 16 and counts["copies"] == 0, counts
    assert counts["read_bytes"] == counts["read_wire_bytes"] == 16 * 65536


def layout(stage, ranges):
    """Reads of these ranges of one object, in one request, into memory without overlap."""
    from agent import pattern

    size, agent = 1 << 20, stage.agent()
    source = agent.memory(size)
    source.bytes[:] = pattern(size, 3)
    agent.write(source, "object")
    back = agent.memory(sum(length for _, length in ranges) + 64, fill=0xEE)
    rows, at = [], 0
    for offset, length in ranges:
        rows.append((back, at, "object", offset, length))
        at += length
    agent.run("READ", rows)
    for _, place, _, offset, length in rows:
        assert (back.bytes[place : place + length] == source.bytes[offset : offset + length]).all(), (offset, length)
    assert (back.bytes[at:] == 0xEE).all()
    return agent.close()


@pytest.mark.parametrize(
    "ranges,operations,wire,copied",
    [
        ([(0, 65536), (65536, 65536)], 1, 131072, 0),
        ([(0, 65536), (32768, 65536)], 1, 98304, 32768),
        ([(100, 1000), (5000, 1000)], 2, 2000, 0),
        ([(4096, 4096), (0, 65536), (60000, 5536)], 1, 65536, 4096 + 5536),
        ([(65536 * i, 65536) for i in (3, 1, 2, 0)], 1, 262144, 0),
    ],
    ids=["touching", "overlapping", "apart", "cover", "shuffled"],
)
def test_layouts(play, place, ranges, operations, wire, copied):
    counts = play(layout, place, ranges=ranges).value
    assert (counts["read_wire_operations"], counts["read_wire_bytes"], counts["copied_bytes"]) == (operations, wire, copied), counts


def random_layouts(stage, seed):
    """Random ranges of three objects, memory that may alias within one request is avoided; bytes must be right."""
    import random

    from agent import pattern

    rng, size, agent = random.Random(seed), 300_000, stage.agent()
    sources = [agent.memory(size) for _ in range(3)]
    for i, source in enumerate(sources):
        source.bytes[:] = pattern(size, i)
        agent.write(source, f"object-{i}")
    back = agent.memory(4 << 20)
    for _ in range(60):
        rows, at = [], 0
        while len(rows) < rng.choice([1, 2, 7, 32]) and at < 3 << 20:
            offset = rng.choice([0, 4096, 65536, rng.randrange(size - 1)])
            length = min(size - offset, rng.choice([1, 4096, 65536, rng.randrange(1, size)]))
            rows.append((back, at, rng.randrange(3), offset, length))
            at += length + rng.choice([0, 0, 13])
        back.bytes[:] = 0xEE
        agent.run("READ", [(m, to, f"object-{k}", o, n) for m, to, k, o, n in rows])
        for _, to, k, o, n in rows:
            assert (back.bytes[to : to + n] == sources[k].bytes[o : o + n]).all(), (seed, rows)
    counts = agent.close()
    assert counts["read_wire_operations"] <= counts["read_descriptors"] and counts["refetched_bytes"] == 0, (seed, counts)


def test_random_layouts(play, place):
    import os

    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    play(random_layouts, place, seed=seed)


def big_list(stage):
    """Four thousand descriptors of as many keys in one request, both ways."""
    from agent import pattern

    count, size, agent = 4096, 512, stage.agent()
    source, back = agent.memory(count * size), agent.memory(count * size)
    source.bytes[:] = pattern(count * size, 4)
    rows = [(source, i * size, f"many-{i}", 0, size) for i in range(count)]
    for _, _, key, _, _ in rows:
        agent.register(key, size)
    agent.run("WRITE", rows, timeout=60)
    agent.run("READ", [(back, at, key, o, n) for _, at, key, o, n in rows], timeout=60)
    assert (back.bytes == source.bytes).all()


def test_a_list_longer_than_a_frame(play, place):
    play(big_list, place, timeout=120)


def gathered(stage):
    """Writes that touch fold into one, which replaces the whole object; reads of it are right."""
    from agent import pattern

    size, agent = 65536, stage.agent()
    source, back = agent.memory(4 * size), agent.memory(4 * size)
    source.bytes[:] = pattern(4 * size, 5)
    agent.run("WRITE", [(source, i * size, "gathered", i * size, size) for i in (2, 0, 3, 1)])
    agent.read(back, "gathered")
    assert (back.bytes == source.bytes).all()
    return agent.close()


def test_touching_writes_are_one(play, place):
    counts = play(gathered, place).value
    assert counts["write_wire_operations"] == 1 and counts["range_writes"] == 0, counts
