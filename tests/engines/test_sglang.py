"""memkv.sglang through SGLang's own factory and host pools, against a real server."""

import math
from array import array

import msgspec
import pytest
import torch
from sglang_pools import LAYOUTS, device_pool, fill, hashes, host_pool, indices_of, page_bytes, storage, whole

from sglang.srt.mem_cache.hicache_storage import PoolHitPolicy, PoolName, PoolTransfer
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.mem_cache.utils import get_storage_hash_str

KINDS = ["mha", "mla"]


@pytest.fixture
def open_storage(server):
    """storage(*pools, ...) on this server, empty and closed at the end."""
    opened = []

    def open_one(*pools, **settings):
        opened.append(storage(server, *pools, **settings))
        return opened[-1]

    yield open_one
    for one in opened:
        one._writes.client.flush()
        one.close()


def same(a, pages_a, b, pages_b):
    return all(torch.equal(page_bytes(a, one), page_bytes(b, other)) for one, other in zip(pages_a, pages_b))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pages_come_back_byte_for_byte_at_other_places(open_storage, kind, layout):
    written, read, keys = host_pool(kind, layout, seed=1), host_pool(kind, layout, seed=2), hashes(20)
    assert open_storage(written, kind=kind).batch_set_v1(keys, indices_of(range(20))) == [True] * 20
    other = open_storage(read, kind=kind)
    before = page_bytes(read, 29).clone()
    assert other.batch_exists(keys) == 20
    assert other.batch_get_v1(keys, indices_of(range(49, 29, -1))) == [True] * 20
    assert same(written, range(20), read, range(49, 29, -1))
    assert torch.equal(page_bytes(read, 29), before), "a page beside them was touched"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_misses_in_the_middle_are_told_page_by_page(open_storage, layout):
    pool, keys = host_pool("mha", layout, seed=1), hashes(8)
    there = [0, 1, 2, 4, 5, 7]
    one = open_storage(pool)
    one.batch_set_v1([keys[page] for page in there], indices_of(there))
    wanted = [page_bytes(pool, page) for page in there]
    fill(pool, 9)
    assert one.batch_exists(keys) == 3 and one.batch_exists(keys[3:]) == 0
    assert one.batch_get_v1(keys, indices_of(range(8))) == [page in there for page in range(8)]
    assert all(torch.equal(page_bytes(pool, page), bytes_) for page, bytes_ in zip(there, wanted))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_generic_calls_see_the_same_bytes(open_storage, kind, layout):
    pool, keys = host_pool(kind, layout, seed=3), hashes(6)
    one = open_storage(pool, kind=kind)
    pages = [pool.get_data_page(page * 16) for page in range(3)]
    assert one.batch_set(keys[:3], pages) and one.set(keys[3], pool.get_data_page(3 * 16)) and one.exists(keys[3])
    one.batch_set_v1(keys[4:5], indices_of([4]))
    targets = [pool.get_dummy_flat_data_page() for _ in range(6)]
    got = one.batch_get(keys, targets)
    assert got[5] is None and one.get(keys[5], targets[5]) is None and not one.exists(keys[5]) and one.batch_exists(keys) == 5
    assert all(torch.equal(got[page].view(torch.uint8), page_bytes(pool, page)) for page in range(5))
    assert torch.equal(one.get(keys[0]), page_bytes(pool, 0)), "without a target: a new tensor of bytes"


def test_128_pages_a_call_cost_little_python(open_storage):
    pool, keys = host_pool("mha", "layer_first", pages=130, layers=8), hashes(128)
    one = open_storage(pool)
    assert all(one.batch_set_v1(keys, indices_of(range(128)))) and one.batch_exists(keys) == 128
    want = whole(pool)
    fill(pool, 4)
    assert all(one.batch_get_v1(keys, indices_of(range(128))))
    assert torch.equal(whole(pool)[:, :, : 128 * 16], want[:, :, : 128 * 16])
    assert one._pools["kv"].pages._first is not None, "addresses come from arithmetic"


def test_what_is_there_is_not_written_again(open_storage):
    pool, keys = host_pool("mha", "page_first"), hashes(4)
    one = open_storage(pool)
    one.batch_set_v1(keys[:2], indices_of([0, 1]))
    before = one.counters()["writes_bytes_written"]
    assert one.batch_set_v1(keys, indices_of(range(4))) == [True] * 4
    page = page_bytes(pool, 0).numel()
    assert one.counters()["writes_bytes_written"] - before == 2 * page


def test_a_block_of_another_size_is_a_miss(open_storage):
    pool, keys = host_pool("mha", "page_first"), hashes(2)
    one = open_storage(pool)
    for key, size in zip(one._pools["kv"].keys(keys), (100, 10**6)):
        one._writes.client.put(key, bytes(size))
    assert one.batch_get_v1(keys, indices_of([0, 1])) == [False, False]
    assert one.batch_get(keys, [pool.get_dummy_flat_data_page() for _ in keys]) == [None, None]


def test_the_layout_of_the_device_is_in_the_key(open_storage):
    """Host pages are copies of the device's bytes, whose order an attention kernel chooses."""
    from sglang.srt.mem_cache.device_pool_info import KVBufferLayout

    nhd, hnd, keys = host_pool("mha", "page_first"), host_pool("mha", "page_first"), hashes(1)
    info = hnd._buffer_infos[0]
    hnd._buffer_infos = (msgspec.structs.replace(info, buffers=msgspec.structs.replace(info.buffers, layout=KVBufferLayout.HND)),)
    open_storage(nhd).batch_set_v1(keys, indices_of([0]))
    assert open_storage(hnd).batch_exists(keys) == 0 and open_storage(nhd).batch_exists(keys) == 1


def test_layouts_sizes_dtypes_and_interfaces_share_nothing(open_storage):
    keys = hashes(2)
    first = open_storage(host_pool("mha", "page_first"))
    first.batch_set_v1(keys, indices_of([0, 1]))
    others = [
        open_storage(host_pool("mha", "page_first_direct")),
        open_storage(host_pool("mha", "layer_first")),
        open_storage(host_pool("mha", "page_first", layers=4)),
        open_storage(host_pool("mha", "page_first"), kv_dtype="fp8_e5m2"),
        open_storage(host_pool("mha", "page_first"), interface_v1=0),
        open_storage(host_pool("mha", "page_first"), salt="tenant b"),
        open_storage(host_pool("mha", "page_first"), prefix="b/"),
        open_storage(host_pool("mha", "page_first"), weights="w2"),
        open_storage(host_pool("mha", "page_first"), pp=(1, 2)),
    ]
    assert [other.batch_exists(keys) for other in others] == [0] * len(others)
    assert open_storage(host_pool("mha", "page_first"), model="served under another name").batch_exists(keys) == 2


def test_ranks_share_what_is_the_same_on_all(open_storage):
    keys = hashes(2)
    mla = [open_storage(host_pool("mla", "page_first", seed=rank), kind="mla", tp=(rank, 2)) for rank in range(2)]
    mha = [open_storage(host_pool("mha", "page_first", seed=rank), tp=(rank, 2)) for rank in range(2)]
    assert mla[0].batch_set_v1(keys, indices_of([0, 1])) == [True, True]
    assert mla[1].batch_exists(keys) == 2 and all(mla[1].batch_get_v1(keys, indices_of([0, 1])))
    assert same(mla[0].mem_pool_host, [0, 1], mla[1].mem_pool_host, [0, 1])
    mha[0].batch_set_v1(keys, indices_of([0, 1]))
    assert mha[1].batch_exists(keys) == 0
    assert open_storage(host_pool("mha", "page_first"), tp=(0, 4)).batch_exists(keys) == 0, "the same rank of more ranks has other heads"
    assert open_storage(host_pool("mla", "page_first"), kind="mla", tp=(3, 4)).batch_exists(keys) == 2


def test_split_heads_are_shared_between_numbers_of_ranks(open_storage):
    """tp_lcm_size 2: of what one rank of one wrote, each of two ranks reads its own heads."""
    pool, keys = host_pool("mha", "page_head", seed=5), hashes(3)
    one = open_storage(pool, tp=(0, 1), lcm=2)
    assert one._pools["kv"].pages.parts == 2
    assert one.batch_set_v1(keys, indices_of(range(3))) == [True] * 3 and one.batch_exists(keys) == 3
    for rank in range(2):
        half = host_pool("mha", "page_head", seed=9, device=device_pool("mha", 2, heads=1))
        assert open_storage(half, tp=(rank, 2), lcm=2).batch_get_v1(keys, indices_of([4, 5, 6])) == [True] * 3
        assert torch.equal(whole(half)[:, 4:7, 0], whole(pool)[:, :3, rank])
    one._writes.client.remove(one._pools["kv"].keys(keys)[3])
    assert one.batch_exists(keys) == 1, "a page without all its heads is none"
    before = whole(pool)
    fill(pool, 6)
    assert one.batch_get_v1(keys, indices_of(range(3))) == [True, False, True]
    assert torch.equal(whole(pool)[:, [0, 2]], before[:, [0, 2]])


def test_real_page_hashes_tell_salts_loras_and_prefixes_apart(open_storage):
    tokens = array("q", range(64))

    def keys(**namespace):
        return get_storage_hash_str(RadixKey(tokens, **namespace), None, page_size=16)

    spaces = [keys(), keys(cache_salt="a"), keys(cache_salt="b"), keys(extra_key="lora-1"), keys(extra_key="lora-1", cache_salt="a")]
    assert len({page for pages in spaces for page in pages}) == 5 * 4
    one = open_storage(host_pool("mha", "page_first"))
    assert all(one.batch_set_v1(spaces[1], indices_of(range(4))))
    assert [one.batch_exists(pages) for pages in spaces] == [0, 4, 0, 0, 0]
    other = open_storage(host_pool("mha", "page_first"), weights="other weights")
    assert other.batch_exists(spaces[1]) == 0


def transfer(name, pages, keys, policy=PoolHitPolicy.ALL_PAGES, **more):
    return PoolTransfer(name=name, host_indices=None if pages is None else indices_of(pages), keys=keys, hit_policy=policy, **more)


def test_v2_moves_several_pools_in_one_call(open_storage):
    keys, pools = hashes(6), {PoolName.KV: host_pool("mha", "page_first", seed=1), PoolName.SWA: host_pool("mha", "layer_first", seed=2, layers=2)}
    one = open_storage(pools[PoolName.KV])
    for name, pool in pools.items():
        one.register_mem_host_pool_v2(pool, name)
    assert one.batch_set_v2([transfer(PoolName.KV, range(6), keys), transfer(PoolName.SWA, [9, 8], keys[4:])]) == {"kv": [True] * 6, "swa": [True] * 2}
    want = {name: [page_bytes(pool, page) for page in pages] for (name, pool), pages in zip(pools.items(), ([0, 5], [9, 8]))}
    for pool in pools.values():
        fill(pool, 7)
    got = one.batch_get_v2([transfer(PoolName.KV, [20, 21], [keys[0], keys[5]]), transfer(PoolName.SWA, [1, 2, 3], keys[3:])])
    assert got == {PoolName.KV: [True, True], PoolName.SWA: [False, True, True]}
    assert torch.equal(page_bytes(pools[PoolName.KV], 20), want[PoolName.KV][0]) and torch.equal(page_bytes(pools[PoolName.SWA], 2), want[PoolName.SWA][0])
    assert one.batch_get_v2([transfer(PoolName.KV, [1], keys[:2])]) == {PoolName.KV: [False, False]}, "too few places"
    assert one.batch_get_v2([transfer(PoolName.MAMBA, [1], keys[:1])]) == {PoolName.MAMBA: [False]}, "a pool that nobody registered"


def test_v2_exists_follows_each_hit_policy(open_storage):
    keys = hashes(8)
    one = open_storage(host_pool("mha", "page_first"))
    for name in (PoolName.INDEXER, PoolName.SWA, PoolName.DEEPSEEK_V4_C4):
        one.register_mem_host_pool_v2(host_pool("mha", "page_first", pages=8), name)
    groups = hashes(6, seed=1)
    one.batch_set_v2([transfer(PoolName.KV, range(7), keys[:7]), transfer(PoolName.INDEXER, range(6), keys[:6])])
    one.batch_set_v2([transfer(PoolName.SWA, range(4), [keys[page] for page in (1, 2, 4, 5)]), transfer(PoolName.DEEPSEEK_V4_C4, range(5), groups[:5])])
    indexer, window = transfer(PoolName.INDEXER, None, keys), transfer(PoolName.SWA, None, keys[-2:], PoolHitPolicy.TRAILING_PAGES)
    blocks = transfer(PoolName.DEEPSEEK_V4_C4, None, groups, PoolHitPolicy.BLOCK_GROUPS, block_pages=4, group_pages=2)
    plain = one.batch_exists_v2(keys)
    assert (plain.kv_hit_pages, plain.extra_pool_hit_pages, plain.restorable_prefix_pages) == (7, {PoolName.KV: 7}, [1, 2, 3, 4, 5, 6, 7])
    all_pages = one.batch_exists_v2(keys, [indexer])
    assert (all_pages.kv_hit_pages, all_pages.extra_pool_hit_pages) == (6, {PoolName.KV: 7, PoolName.INDEXER: 6})
    trailing = one.batch_exists_v2(keys, [indexer, window])
    assert (trailing.kv_hit_pages, trailing.restorable_prefix_pages, trailing.extra_pool_hit_pages[PoolName.SWA]) == (6, [3, 6], 6)
    grouped = one.batch_exists_v2(keys, [blocks])
    assert (grouped.kv_hit_pages, grouped.extra_pool_hit_pages[PoolName.DEEPSEEK_V4_C4]) == (7, 8), "two whole groups; it does not gate"
    assert one.batch_exists_v2(hashes(2, seed=9), [window]).restorable_prefix_pages == []


def test_an_anchor_without_pages_leaves_all_to_its_side_pools(open_storage):
    from sglang.srt.mem_cache.memory_pool_host import LogicalHostPool

    anchor, side, keys = LogicalHostPool(64 * 16, 16), host_pool("mla", "page_first"), hashes(4)
    one = open_storage(anchor, kind="mla")
    one.register_mem_host_pool_v2(side, PoolName.DEEPSEEK_V4_C4)
    assert one.batch_set_v1(keys, indices_of(range(4))) == [True] * 4 and one.batch_exists(keys) == 0
    assert one.batch_exists_v2(keys).kv_hit_pages == 0
    one.batch_set_v2([transfer(PoolName.DEEPSEEK_V4_C4, range(3), keys[:3])])
    assert one.batch_exists_v2(keys, [transfer(PoolName.DEEPSEEK_V4_C4, None, keys)]).kv_hit_pages == 3


def test_a_draft_models_weights_are_in_the_keys_of_its_layers_only():
    from memkv.sglang._names import Names
    from memkv.sglang._pages import pages_of
    from memkv.sglang._settings import EngineModel, Settings

    pool = host_pool("mha", "page_first")
    config = storage("127.0.0.1:1", pool).storage_config

    def begins(name, draft):
        settings = Settings(weights="w1", draft_weights=draft)
        return Names(settings, EngineModel(draft_path="some/draft"), config).of(name, pool, pages_of(pool, name))

    assert begins("kv", "d1") == begins("kv", "d2") and begins("draft", "d1") != begins("draft", "d2")
    pool.target_layer_num -= 1  # a draft layer is packed into these pages
    assert begins("kv", "d1") != begins("kv", "d2")


def test_a_pool_that_cannot_tell_addresses_is_copied(open_storage, monkeypatch):
    pool, keys = host_pool("mha", "page_first", seed=1), hashes(3)
    want = [page_bytes(pool, page) for page in range(3)]
    monkeypatch.setattr(pool, "get_page_buffer_meta", lambda indices: (_ for _ in ()).throw(NotImplementedError()))
    one = open_storage(pool)
    assert one.batch_set_v1(keys[:2], indices_of([0, 1])) == [True, True]
    fill(pool, 8)
    missed = page_bytes(pool, 7).clone()
    assert one.batch_get_v1(keys, indices_of([5, 6, 7])) == [True, True, False]
    assert torch.equal(page_bytes(pool, 5), want[0]) and torch.equal(page_bytes(pool, 6), want[1]) and torch.equal(page_bytes(pool, 7), missed)


def test_clear_takes_the_pages_of_this_model_only(open_storage):
    mine, other, keys = open_storage(host_pool("mha", "page_first")), open_storage(host_pool("mha", "page_first"), weights="w2"), hashes(3)
    for one in (mine, other):
        one.batch_set_v1(keys, indices_of(range(3)))
    assert mine.clear() and mine.batch_exists(keys) == 0 and other.batch_exists(keys) == 3


def test_stats_are_those_that_sglang_collects(open_storage):
    from sglang.srt.observability.metrics_collector import StorageMetrics

    one, keys = open_storage(host_pool("mha", "page_first"), metrics=True), hashes(3)
    one.batch_set_v1(keys, indices_of(range(3)))
    one.batch_get_v1(keys, indices_of(range(3)))
    stats = one.get_stats()
    assert isinstance(stats, StorageMetrics) and (stats.prefetch_pgs, stats.backup_pgs) == ([3], [3])
    assert stats.prefetch_bandwidth[0] > 0 and one.get_stats().prefetch_pgs == []
    assert open_storage(host_pool("mha", "page_first")).get_stats().backup_pgs == []
    counters = one.counters()
    assert (counters["prefetch_blocks"], counters["backup_blocks"], counters["reads_hits"]) == (3, 3, 3)


@pytest.mark.parametrize(
    "extra, says",
    [
        ({"servrs": "127.0.0.1"}, "unknown parameter servrs.*known are .*servers"),
        ({"get_timeout_s": "2s"}, "get_timeout_s is '2s': it must be a number of seconds above 0"),
        ({"exists_timeout_s": 0}, "exists_timeout_s is 0"),
        ({"put_timeout_s": math.nan}, "put_timeout_s is nan: it must be a number of seconds above 0"),
        ({"prefix": "p" * 1000}, "prefix is .*: it must be at most 768 bytes, not 1000"),
        ({"servers": 7}, "servers is 7: it must be a list such as"),
        ({"register_memory": "yes"}, "register_memory is 'yes': it must be true or false"),
        ({"rdma_devices": 1}, "rdma_devices is 1: it must be a list"),
        ({"io_contexts": -1}, "io_contexts is -1"),
        ({"weights": 7}, "weights is 7: it must be text"),
        ({"servers": "127.0.0.1:port"}, "127.0.0.1:port"),
        ({"transport": "ib"}, "transport 'ib': known are"),
        ({"auth_key": "@/no/such/file"}, "/no/such/file"),
        ({"weights": None}, 'cannot tell which weights.*add "weights"'),
    ],
)
def test_a_wrong_parameter_is_named(extra, says):
    with pytest.raises(ValueError, match=says):
        storage("127.0.0.1:1", **extra)


def test_a_layout_without_pages_is_named(open_storage, monkeypatch):
    pool = host_pool("mha", "page_first")
    monkeypatch.setattr(pool, "layout", "page_unified")
    with pytest.raises(ValueError, match="host pool kv .MHATokenToKVPoolHost, layout page_unified. gives no pages.*another --hicache-mem-layout"):
        open_storage(pool)
