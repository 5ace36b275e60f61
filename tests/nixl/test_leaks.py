"""Nothing is left over: descriptors, threads and memory over many agents, requests and registrations."""


def many_rounds(stage, rounds):
    import gc
    import os

    def state():
        gc.collect()
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        return {"fds": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task")), "rss": pages * 4096}

    def one_round():
        from agent import outcome

        agent = stage.agent()
        memory, back = agent.memory(1 << 20, fill=1), agent.memory(4 << 20)
        for i in range(8):
            agent.write(memory, f"leak-{i}")
            agent.run("READ", [(back, j << 20, f"leak-{i}", 0, 1 << 20) for j in range(4)])
            outcome(agent.read, memory, f"absent-{i}")
            agent.query([f"leak-{i}", "absent"] * 50)
        handle = agent.request("READ", [(back, 0, "leak-0", 0, 1 << 20)])
        agent.nixl.transfer(handle)
        agent.nixl.deregister_memory(back.descs, [agent.backend])
        del handle
        agent.close()

    for _ in range(rounds // 4):
        one_round()
    first = state()
    for _ in range(rounds):
        one_round()
    return first, state()


def test_many_agents_leave_nothing(play, own_place):
    first, last = play(many_rounds, own_place, rounds=60, timeout=120).value
    assert last["fds"] == first["fds"] and last["threads"] == first["threads"], (first, last)
    assert last["rss"] - first["rss"] < 16 << 20, (first, last)


def one_agent(stage, rounds):
    """Requests and registrations of one agent that lives long."""
    import gc

    def rss():
        gc.collect()
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    agent = stage.agent()
    memory = agent.memory(65536, fill=1)

    def some(n):
        for i in range(n):
            agent.write(memory, f"key-{i % 16}")
            agent.read(memory, f"key-{i % 16}")
            agent.deregister(f"key-{i % 16}")

    some(rounds // 2)
    first = rss()
    some(rounds)
    return rss() - first


def test_many_requests_leave_nothing(play, own_place):
    assert play(one_agent, own_place, rounds=2000, timeout=120).value < 8 << 20
