"""Real host pools of SGLang on the CPU, and storages over its own factory."""

import torch
import torchvision_stub

torchvision_stub.install()

from sglang.srt.mem_cache.hicache_storage import HiCacheStorageConfig  # noqa: E402
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, MLATokenToKVPool  # noqa: E402
from sglang.srt.mem_cache.pool_host.mha import MHATokenToKVPoolHost  # noqa: E402
from sglang.srt.mem_cache.pool_host.mla import MLATokenToKVPoolHost  # noqa: E402
from sglang.srt.mem_cache.storage import StorageBackendFactory  # noqa: E402

PAGE = 16  # tokens
LAYERS = 3
NAMED = {"backend_name": "memkv", "module_path": "memkv.sglang", "class_name": "MemKVHiCacheStorage"}
PATIENT = {"exists_timeout_s": 10, "get_timeout_s": 10, "put_timeout_s": 10}  # where a test is not about deadlines
LAYOUTS = ["layer_first", "page_first", "page_first_direct"]


def device_pool(kind, pages, layers=LAYERS, heads=2):
    shape = dict(head_num=heads, head_dim=32) if kind == "mha" else dict(kv_lora_rank=48, qk_rope_head_dim=16)
    pool = {"mha": MHATokenToKVPool, "mla": MLATokenToKVPool}[kind]
    return pool(size=pages * PAGE, page_size=PAGE, dtype=torch.bfloat16, layer_num=layers, device="cpu", enable_memory_saver=False, **shape)


def host_pool(kind, layout, pages=64, seed=0, layers=LAYERS, device=None):
    """A host pool of `pages` pages filled with random bytes."""
    device = device or device_pool(kind, 2, layers)
    common = dict(
        host_to_device_ratio=1.0, host_size=0, page_size=PAGE, layout=layout, pin_memory=False, device_capacity_tokens=device.size,
        start_layer=0, end_layer=layers, host_token_capacity=pages * PAGE,
    )  # fmt: skip
    if kind == "mha":
        pool = MHATokenToKVPoolHost(device._mha_buffer_info(), **common)
    else:
        pool = MLATokenToKVPoolHost(device._mla_buffer_info(), target_layer_num=layers, **common)
    fill(pool, seed)
    return pool


def fill(pool, seed):
    bytes_ = pool.kv_buffer.view(torch.uint8)
    bytes_.copy_(torch.randint(0, 256, bytes_.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)))


def indices_of(pages):
    """Host indices, one a token, of these pages of a pool."""
    return torch.cat([torch.arange(page * PAGE, (page + 1) * PAGE) for page in pages])


def whole(pool):
    """All bytes of a pool, as they are now."""
    return pool.kv_buffer.view(torch.uint8).clone()


def page_bytes(pool, page):
    return pool.get_data_page(page * PAGE, flat=True).view(torch.uint8)


def storage(server, *pools, kind="mha", tp=(0, 1), model="org/model", pp=(0, 1), lcm=None, metrics=False, **extra):
    """A storage as HiCacheController makes it: by the factory's `dynamic`, with its pools registered."""
    config = HiCacheStorageConfig(
        tp_rank=tp[0], tp_size=tp[1], pp_rank=pp[0], pp_size=pp[1], attn_cp_rank=0, attn_cp_size=1, is_mla_model=kind == "mla",
        enable_storage_metrics=metrics, is_page_first_layout=bool(pools) and pools[0].layout == "page_first", model_name=model,
        tp_lcm_size=lcm, should_split_heads=bool(lcm and lcm > tp[1]),
        extra_config={
            **NAMED, "interface_v1": 1, "servers": getattr(server, "address", server), "transport": "tcp", "weights": "w1",
            **PATIENT, **extra,
        },
    )  # fmt: skip
    made = StorageBackendFactory.create_backend("dynamic", config, pools[0] if pools else None)
    if pools:
        made.register_mem_pool_host(pools[0])
    made.on_host_pools_registered()
    return made


def hashes(count, seed=0):
    """Page keys as the engine's: 64 hex digits."""
    generator = torch.Generator().manual_seed(seed + 1)
    return [bytes(row.tolist()).hex() for row in torch.randint(0, 256, (count, 32), dtype=torch.uint8, generator=generator)]
