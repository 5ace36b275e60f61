"""Both of LMCache's adapter types alone: memkv.lmcache under LMCache's own factory, against real servers."""

import threading
import time

import pytest
from conftest import DRAWN_KEY, Server, freeze, setup_store  # noqa: F401
from lmcache_tasks import Arena, build, keys, load, look_up, spec, store

MIB = 1 << 20


@pytest.fixture
def adapters():
    """Builds adapters that are closed at the end."""
    built = []

    def make(kind, server, arena=None, **params):
        built.append(build(spec(kind, server, **params), arena))
        return built[-1]

    yield make
    for adapter in built:
        adapter.close()


@pytest.fixture(params=["plugin", "native_plugin"])
def kind(request):
    return request.param


@pytest.fixture(params=["tcp", "shm"])
def adapter(request, kind, server, adapters):
    return adapters(kind, server, transport=request.param)


@pytest.fixture
def plugin(server, adapters):
    return adapters("plugin", server)


class Listener:
    """What LMCache's quotas and eviction hear."""

    def __init__(self):
        self.stored, self.accessed, self.deleted = [], [], []

    def on_l2_keys_stored(self, keys, sizes):
        self.stored += zip(keys, sizes)

    def on_l2_keys_accessed(self, keys):
        self.accessed += keys

    def on_l2_keys_deleted(self, keys):
        self.deleted += keys


@pytest.mark.parametrize("size", [1000, 65536, 3 * MIB + 17])
def test_what_is_stored_is_found_loaded_and_deleted(adapter, size):
    heard = Listener()
    adapter.register_listener(heard)
    arena, wanted = Arena(6, size), keys(6)
    arena.fill(size)
    before = [arena.bytes_of(i) for i in range(6)]
    assert look_up(adapter, wanted) == []
    result = store(adapter, wanted[:5], arena.objects[:5])
    assert result.is_successful() and result.bytes_transferred() == 5 * size
    assert look_up(adapter, wanted) == [0, 1, 2, 3, 4], "the sixth is a miss"
    arena.memory.view(-1, arena.stride)[:, :size] = 0
    assert load(adapter, wanted[::-1], arena.objects[::-1]) == [1, 2, 3, 4, 5]
    assert [arena.bytes_of(i) for i in range(5)] == before[:5] and arena.gaps_are_whole()
    assert adapter.get_usage().total_bytes_used == 5 * size
    adapter.delete(wanted[1:3] + wanted[5:])
    assert look_up(adapter, wanted) == [0, 3, 4]
    assert adapter.get_usage().total_bytes_used == 3 * size
    assert [key for key, _ in heard.stored] == wanted[:5] and heard.accessed == wanted[:5][::-1] and heard.deleted == wanted[1:3]


def test_both_types_find_what_the_other_stored(server, adapters):
    one, other = adapters("plugin", server), adapters("native_plugin", server)
    arena = Arena(4, 4096)
    arena.fill(1)
    wanted = keys(2) + keys(2, cache_salt="tenant", kv_rank=0x02010201, object_group_id=3)
    assert store(one, wanted, arena.objects).is_successful()
    assert look_up(other, wanted) == [0, 1, 2, 3]
    other.delete(wanted[:1])
    assert look_up(one, wanted) == [1, 2, 3]


def test_tasks_that_run_at_once_are_told_apart(plugin):
    """LMCache asks for one task's result and is given another's end with it: each still comes, with a signal."""
    arena, wanted = Arena(16, 65536), keys(16)
    arena.fill(2)
    assert store(plugin, wanted, arena.objects).is_successful()
    for _ in range(20):
        loads = [plugin.submit_load_task(wanted[i : i + 2], arena.objects[i : i + 2]) for i in range(0, 16, 2)]
        left = set(loads)
        while left:
            assert _signaled(plugin.get_load_event_fd()), "a result is here and nothing tells"
            for task in sorted(left):
                if (answer := plugin.query_load_result(task)) is not None:
                    assert answer.get_indices_list() == [0, 1]
                    left.discard(task)


def test_a_result_that_came_with_another_ones_is_signaled_again(plugin):
    fd = plugin.get_lookup_and_lock_event_fd()
    first, second = (plugin.submit_lookup_and_lock_task(keys(2), {}) for _ in range(2))
    until = time.monotonic() + 10
    time.sleep(0.3)  # both are done
    assert _signaled(fd)
    while plugin.query_lookup_and_lock_result(first) is None:
        assert time.monotonic() < until
    assert _signaled(fd), "of the second, which the first one's query has fetched"
    assert plugin.query_lookup_and_lock_result(second) is not None


def _signaled(fd):
    from lmcache.cli.commands.bench.l2_adapter_bench.data import wait_eventfd

    return wait_eventfd(fd, 5)


def test_a_result_is_given_once(plugin):
    task = plugin.submit_lookup_and_lock_task(keys(1), {})
    while plugin.query_lookup_and_lock_result(task) is None:
        time.sleep(0.001)
    assert plugin.query_lookup_and_lock_result(task) is None
    assert plugin.query_load_result(12345) is None


def test_the_three_descriptors_differ(plugin):
    assert len({plugin.get_store_event_fd(), plugin.get_lookup_and_lock_event_fd(), plugin.get_load_event_fd()}) == 3


def test_a_block_of_another_size_is_not_loaded(adapter):
    """Another layout under the same key: never wrong KV."""
    arena, wanted = Arena(3, 8192), keys(3)
    arena.fill(3)
    assert store(adapter, wanted, arena.objects).is_successful()
    smaller, larger = Arena(3, 8000), Arena(3, 9000)
    assert load(adapter, wanted, smaller.objects) == [] and load(adapter, wanted, larger.objects) == []
    assert load(adapter, wanted, [smaller.objects[0], arena.objects[1], larger.objects[2]]) == [1]
    assert smaller.gaps_are_whole() and larger.gaps_are_whole()


def test_one_key_that_cannot_be_stored_fails_the_task_and_the_rest_is_there(server, adapters):
    """256 MiB of memory take no block of 300 MiB."""
    adapter = adapters("plugin", server)
    big = Arena(1, 300 * MIB)
    arena, wanted = Arena(2, 4096), keys(3)
    arena.fill(4)
    result = store(adapter, wanted, [arena.objects[0], big.objects[0], arena.objects[1]])
    assert not result.is_successful() and result.bytes_transferred() == 0
    assert look_up(adapter, wanted) == [0, 2]
    assert adapter.get_usage().total_bytes_used == 8192


def test_long_names_work_and_are_not_listed(adapter):
    wanted = keys(2, model="m/" + "ä" * 600) + keys(1)
    arena = Arena(3, 512)
    arena.fill(5)
    expected = [arena.bytes_of(i) for i in range(3)]
    assert store(adapter, wanted, arena.objects).is_successful()
    arena.memory.view(-1, arena.stride)[:, :512] = 0
    assert look_up(adapter, wanted) == [0, 1, 2] and load(adapter, wanted, arena.objects) == [0, 1, 2]
    assert [arena.bytes_of(i) for i in range(3)] == expected
    assert look_up(adapter, keys(2, model=wanted[0].model_name)) == []


def test_salts_ranks_groups_models_and_names_share_nothing(server, adapters):
    arena = Arena(1, 100)
    (key,) = keys(1)
    changed = [{"cache_salt": "a"}, {"kv_rank": 0x02000100}, {"object_group_id": 1}, {"model_name": "org/other"}, {"chunk_hash": b"h" * 32}]
    others = [type(key)(**{**vars(key), **change}) for change in changed]
    one = adapters("plugin", server)
    assert store(one, [key], arena.objects).is_successful()
    assert look_up(one, [key, *others]) == [0]
    for differing in ({"weights": "others"}, {"kv_dtype": "fp8"}, {"dtype": "float16"}, {"layout": "other"}, {"salt": "s"}, {"prefix": "p/"}):
        assert look_up(adapters("plugin", server, **differing), [key]) == [], differing
    assert look_up(adapters("plugin", server), [key]) == [0]


def test_a_model_whose_weights_cannot_be_told_is_not_cached(server, adapters, caplog):
    adapter = adapters("plugin", server, weights=None)
    arena, wanted = Arena(1, 100), keys(1, model="nobody/has-this")
    assert not store(adapter, wanted, arena.objects).is_successful()
    assert look_up(adapter, wanted) == [] and load(adapter, wanted, arena.objects) == []
    assert "a name of your own for the weights" in caplog.text
    adapter.delete(wanted)
    assert adapter.report_status()["not_made"] == 3


def test_other_weights_in_the_same_folder_are_a_miss(server, adapters, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"hidden_size": 64}')
    (model / "pytorch_model.bin").write_bytes(b"one" * 1000)
    arena, (wanted,) = Arena(1, 100), keys(1, model=str(model))
    assert store(adapters("plugin", server, weights=None), [wanted], arena.objects).is_successful()
    assert look_up(adapters("plugin", server, weights=None), [wanted]) == [0]
    (model / "pytorch_model.bin").write_bytes(b"two" * 1000)
    assert look_up(adapters("plugin", server, weights=None), [wanted]) == []


def test_keys_are_listed_in_pages(server, adapters):
    adapter = adapters("plugin", server, salt="listing")
    arena = Arena(25, 300)
    wanted = keys(20) + keys(4, model="org/other", cache_salt="t", object_group_id=12) + keys(1, model="m/" + "x" * 1100)
    assert store(adapter, wanted, arena.objects).is_successful()
    listed, cursor = [], None
    while True:
        page = adapter.list_l2_keys(page_size=7, cursor=cursor)
        assert len(page.entries) <= 7 and all(entry.size_bytes == 300 for entry in page.entries)
        listed += [entry.key.to_object_key() for entry in page.entries]
        if (cursor := page.next_page_token) is None:
            break
    assert len(listed) == 24 and set(listed) == set(wanted[:24])
    only = adapter.list_l2_keys(model_name="org/other")
    assert {entry.key.to_object_key() for entry in only.entries} == set(wanted[20:24]) and only.next_page_token is None
    with pytest.raises(ValueError):
        adapter.list_l2_keys(page_size=0)
    with pytest.raises(ValueError):
        adapter.list_l2_keys(cursor="no cursor!")


def test_stores_beyond_the_backlog_are_refused(tmp_path, adapters):
    started = Server(tmp_path, "--mode", "memory", "--memory", "64MiB")
    try:
        adapter = adapters("plugin", started, max_store_backlog_mb=2, transport="tcp", store_timeout_s=5)
        arena, wanted = Arena(4, MIB), keys(4)
        assert look_up(adapter, wanted) == []
        freeze(started.process.pid)
        tasks = [adapter.submit_store_task([key], [obj]) for key, obj in zip(wanted, arena.objects)]
        assert adapter.report_status()["store_backlog_bytes"] == 2 * MIB
        refused = adapter.pop_completed_store_tasks()
        assert set(refused) == set(tasks[2:]) and not any(result.is_successful() for result in refused.values())
        assert adapter.report_status()["refused_bytes"] == 2 * MIB
        started.process.send_signal(18)
        done = {}
        until = time.monotonic() + 10
        while len(done) < 2 and time.monotonic() < until:
            done.update(adapter.pop_completed_store_tasks())
            time.sleep(0.005)
        assert set(done) == set(tasks[:2])
    finally:
        started.kill()


def test_a_server_that_is_down_is_all_misses_at_once(kind, adapters):
    adapter = adapters(kind, "127.0.0.1:9", lookup_timeout_s=0.1, store_timeout_s=2)
    arena, wanted = Arena(2, 4096), keys(2)
    for attempt in range(3):
        began = time.monotonic()
        assert look_up(adapter, wanted) == [] and time.monotonic() - began < 0.1 + 0.2
        assert load(adapter, wanted, arena.objects) == [] and time.monotonic() - began < 0.1 + 2.0 + 0.2
    began = time.monotonic()
    assert not store(adapter, wanted, arena.objects).is_successful() and time.monotonic() - began < 2.2
    adapter.delete(wanted)
    if kind == "plugin":
        status = adapter.report_status()
        assert status["is_healthy"] and not status["reachable"]


def test_a_credential_that_is_refused_is_not_reachable(servers, adapters):
    adapter = adapters("plugin", servers("--mode", "memory", "--memory", "64MiB"), auth_key=DRAWN_KEY)
    assert adapter.report_status()["reachable"] is None, "nothing was asked yet"
    assert look_up(adapter, keys(2)) == []
    assert adapter.report_status()["reachable"] is False


def test_a_server_that_answers_is_reachable(plugin):
    assert plugin.report_status()["reachable"] is None
    assert look_up(plugin, keys(1)) == [] and plugin.report_status()["reachable"] is True


def test_the_status_tells_what_keys_begin_with(server, adapters):
    plain, fp8 = adapters("plugin", server), adapters("plugin", server, kv_dtype="fp8")
    assert plain.report_status()["keys"] == {}
    told = []
    for adapter in (plain, fp8):
        look_up(adapter, keys(1))
        ((_, names),) = adapter.report_status()["keys"].items()
        told.append((names["kv_dtype"], names["prefix"]))
    assert [kv_dtype for kv_dtype, _ in told] == ["not given", "fp8"] and told[0][1] != told[1][1]


def test_a_frozen_server_costs_a_deadline_and_touches_nothing_later(tmp_path, kind, adapters):
    started = Server(tmp_path, "--mode", "memory", "--memory", "128MiB")
    try:
        adapter = adapters(kind, started, transport="tcp", lookup_timeout_s=0.2, load_timeout_s=0.5, store_timeout_s=1.0)
        arena, wanted = Arena(16, MIB), keys(16)
        arena.fill(6)
        assert store(adapter, wanted, arena.objects).is_successful() and look_up(adapter, wanted) == list(range(16))
        timer = threading.Timer(0.005, freeze, [started.process.pid])
        timer.start()
        began = time.monotonic()
        got = load(adapter, wanted, arena.objects)
        assert time.monotonic() - began < 0.5 + 16 / 1024 + 0.2
        timer.join()
        arena.memory.fill_(0xA5)  # LMCache has given the memory to somebody else
        began = time.monotonic()
        assert look_up(adapter, wanted) == [] and time.monotonic() - began < 0.2 + 0.2
        began = time.monotonic()
        assert load(adapter, wanted, arena.objects) == [] and time.monotonic() - began < 0.5 + 0.1 + 0.2
        arena.memory.fill_(0xA5)
        assert not store(adapter, keys(16), arena.objects).is_successful()
        started.process.send_signal(18)
        until = time.monotonic() + 10
        while look_up(adapter, wanted) != list(range(16)) and time.monotonic() < until:
            time.sleep(0.05)
        assert look_up(adapter, wanted) == list(range(16)), f"it came back ({len(got)} were loaded before)"
        assert bool((arena.memory == 0xA5).all()), "something landed in memory that was used again"
    finally:
        started.kill()


def test_close_with_ops_under_way_leaves_memory_alone(tmp_path, kind):
    started = Server(tmp_path, "--mode", "memory", "--memory", "128MiB")
    try:
        adapter = build(spec(kind, started, transport="tcp", load_timeout_s=30, store_timeout_s=30))
        arena, wanted = Arena(16, MIB), keys(16)
        arena.fill(7)
        assert store(adapter, wanted, arena.objects).is_successful()
        freeze(started.process.pid)
        adapter.submit_load_task(wanted, arena.objects)
        adapter.submit_store_task(wanted, arena.objects)
        adapter.submit_lookup_and_lock_task(wanted, {})
        began = time.monotonic()
        adapter.close()
        assert time.monotonic() - began < 5
        arena.memory.fill_(0xA5)
        started.process.send_signal(18)
        time.sleep(0.3)
        assert bool((arena.memory == 0xA5).all())
        adapter.close()
    finally:
        started.kill()


def test_after_close_tasks_fail_and_nothing_raises(server):
    adapter = build(spec("plugin", server))
    arena, wanted = Arena(2, 100), keys(2)
    adapter.close()
    assert adapter.query_lookup_and_lock_result(adapter.submit_lookup_and_lock_task(wanted, {})).get_indices_list() == []
    assert adapter.query_load_result(adapter.submit_load_task(wanted, arena.objects)).get_indices_list() == []
    task = adapter.submit_store_task(wanted, arena.objects)
    assert not adapter.pop_completed_store_tasks()[task].is_successful()
    adapter.delete(wanted)
    assert adapter.report_status()["servers"]


def test_the_arena_is_registered_once(server, adapters, monkeypatch):
    from memkv._client import ClientBase

    registered = []
    original = ClientBase.register
    monkeypatch.setattr(ClientBase, "register", lambda self, data, device=0: registered.append(len(data)) or original(self, data, device))
    arena = Arena(4, 65536)
    adapter = adapters("plugin", server, arena)
    wanted = keys(4)
    assert store(adapter, wanted, arena.objects).is_successful() and load(adapter, wanted, arena.objects) == [0, 1, 2, 3]
    assert registered == [arena.memory.numel()] * 2, "for the client that loads and the one that stores"


@pytest.mark.parametrize(
    "name, value",
    [("lookup_timeout", 1), ("load_timeout_s", 0), ("transport", "x"), ("max_store_backlog_mb", "many"), ("prefix", "p" * 1000), ("salt", 7)],
)
def test_wrong_settings_are_told(kind, name, value):
    with pytest.raises(ValueError, match=name):
        build(spec(kind, "127.0.0.1:9", **{name: value}))
