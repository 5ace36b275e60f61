"""query_memory: which keys are there."""


def lists(stage):
    agent = stage.agent()
    agent.write(agent.memory(4096, fill=1), "here")
    assert agent.query(["here", "absent", "here", ""]) == [True, False, True, False]
    assert agent.query(["absent"]) == [False]
    raw = agent.nixl.query_memory([(0, 1, 0, "here"), (0, 1, 0, "absent")], agent.backend, "OBJ")
    assert isinstance(raw[0], dict) and raw[1] is None
    counts = agent.close()
    assert (counts["queries"], counts["queried_keys"], counts["found_keys"]) == (3, 7, 3), counts


def test_present_and_absent(play, place, wheel):
    play(lists, place, wheel)


def big(stage):
    import time

    agent, count = stage.agent(), 10_000
    memory = agent.memory(512 * 500, fill=1)
    there = sorted({(i * 7919) % count for i in range(500)})
    agent.run("WRITE", [(memory, i * 512, f"k-{number}", 0, 512) for i, number in enumerate(there)])
    since = time.monotonic()
    found = agent.query([f"k-{i}" for i in range(count)])
    seconds = time.monotonic() - since
    assert [i for i, one in enumerate(found) if one] == there
    assert seconds < 2, seconds


def test_ten_thousand_keys_in_one_list(play, place, wheel):
    play(big, place, wheel)


def without_a_server(stage):
    """A server that is away has no keys: None for all, soon, and no error."""
    import time

    agent = stage.agent(timeout_ms=500)
    agent.write(agent.memory(4096, fill=1), "here")
    assert agent.query(["here"]) == [True]
    stage.ask("kill")
    for _ in range(3):
        since = time.monotonic()
        assert agent.query(["here"] * 100) == [False] * 100
        assert time.monotonic() - since < 1.5


def test_a_server_that_is_away_has_no_keys(play, own_place):
    play(without_a_server, own_place, on={"kill": own_place.server.kill})


def beside_transfers(stage):
    """A thread asks all the time while another one transfers: no lock of NIXL keeps them apart."""
    import threading

    agent = stage.agent()
    memory = agent.memory(1 << 20, fill=1)
    agent.write(memory, "here")
    wrong, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            if agent.query(["here", "absent"]) != [True, False]:
                wrong.append("answer")

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        agent.read(memory, "here")
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_questions_beside_transfers(play, place):
    play(beside_transfers, place)
