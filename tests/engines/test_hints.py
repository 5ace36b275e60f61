"""What an engine has found is announced to servers with a RAM tier: the load that follows reads no drive. vLLM's tier:
vllm_contract.py."""

import pytest


@pytest.mark.parametrize("kind", ["plugin", "native_plugin"])
def test_what_lmcache_looks_up_is_in_memory_when_it_is_loaded(tier_server, kind):
    from lmcache_tasks import Arena, build, keys, load, look_up, spec, store

    arena, wanted = Arena(8, 500_000), keys(8)
    arena.fill(1)
    before = [arena.bytes_of(i) for i in range(8)]
    adapter = build(spec(kind, tier_server, auth_key=tier_server.key, prefetch=True), arena)
    try:
        assert store(adapter, wanted[:7], arena.objects[:7]).is_successful()
        assert look_up(adapter, wanted) == list(range(7))
        tier_server.wait_for(prefetches=7)
        assert load(adapter, wanted[:7], arena.objects[:7]) == list(range(7))
        assert [arena.bytes_of(i) for i in range(8)] == before
        tier_server.wait_for(hits=7, misses=0, prefetches_used=7)
    finally:
        adapter.close()


def test_without_the_setting_lmcache_announces_nothing(tier_server):
    from lmcache_tasks import Arena, build, keys, load, look_up, spec, store

    arena, wanted = Arena(4, 500_000), keys(4)
    adapter = build(spec("plugin", tier_server, auth_key=tier_server.key), arena)
    try:
        assert store(adapter, wanted, arena.objects).is_successful() and look_up(adapter, wanted) == list(range(4))
        assert load(adapter, wanted, arena.objects) == list(range(4))
        tier_server.wait_for(misses=4, prefetches=0)
    finally:
        adapter.close()


def test_pages_that_sglang_asks_for_are_in_memory_when_they_are_read(tier_server):
    from sglang_pools import hashes, host_pool, indices_of, storage

    pool, keys = host_pool("mha", "page_first", seed=1), hashes(10)
    one = storage(tier_server, pool, auth_key=tier_server.key, prefetch=True)
    try:
        there = [0, 1, 2, 3, 5]
        assert all(one.batch_set_v1([keys[page] for page in there], indices_of(there)))
        assert one.batch_exists(keys) == 4
        tier_server.wait_for(prefetches=4)  # what is behind a gap is of no use to SGLang
        assert all(one.batch_get_v1(keys[:4], indices_of(range(4))))
        tier_server.wait_for(hits=4, misses=0, prefetches_used=4)
    finally:
        one.close()
