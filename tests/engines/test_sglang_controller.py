"""SGLang's own cache controller, with its threads and process groups, over memkv.sglang: backup, restart, prefetch."""

import json
import signal
import threading
from array import array

import pytest
import safetensors.torch
import torch
from processes import freeze
from sglang_pools import LAYERS, NAMED, PAGE, PATIENT, device_pool, fill, host_pool, page_bytes, whole

from sglang.srt import runtime_context
from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator
from sglang.srt.mem_cache.base_prefix_cache import CacheRequestHandle
from sglang.srt.mem_cache.hicache_storage import PoolName
from sglang.srt.mem_cache.hybrid_cache.hybrid_cache_controller import HybridCacheController
from sglang.srt.mem_cache.hybrid_cache.hybrid_pool_assembler import build_pool_entry
from sglang.srt.mem_cache.pool_host.group import HostPoolGroup
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.mem_cache.utils import get_storage_hash_str
from sglang.srt.server_args import ServerArgs

PAGES = 150  # more than one call of 128
TOKENS = array("q", (n * 7 % 250 for n in range(PAGES * PAGE)))
WAIT_S = 20


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path_factory.mktemp('group')}/group", rank=0, world_size=1)
    yield torch.distributed.group.WORLD
    torch.distributed.destroy_process_group()


def publish_model(folder, weight=1.0, **arguments):
    """A model with weights on disk, and SGLang's arguments for it, as in its scheduler processes."""
    folder.mkdir(exist_ok=True)
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=2, vocab_size=256)
    (folder / "config.json").write_text(json.dumps(dict(architectures=["LlamaForCausalLM"], model_type="llama", **shape)))
    safetensors.torch.save_file({"model.layers.0.self_attn.k_proj.weight": torch.full((64, 64), weight)}, str(folder / "model.safetensors"))
    runtime_context.publish(ServerArgs(model_path=str(folder), device="cpu", kv_cache_dtype="bfloat16", **arguments), role="scheduler")


@pytest.fixture
def model(tmp_path):
    before = runtime_context._CONTEXT._server_args
    publish_model(tmp_path / "model")
    with runtime_context.get_parallel().override(tp_rank=0, pp_rank=0):
        yield tmp_path / "model"
    runtime_context._CONTEXT._server_args = before


@pytest.fixture
def server(servers):
    return servers("--mode", "memory", "--memory", "64MiB")


class Engine:
    """A controller as SGLang's scheduler makes it, on pools of its own."""

    def __init__(self, group, server, seed, layout, kind="mha", **extra):
        device = device_pool(kind, 2)
        self.pool = host_pool(kind, layout, pages=PAGES + 10, seed=seed, device=device)
        allocator = PagedTokenToKVPoolAllocator(device.size, PAGE, torch.bfloat16, "cpu", device, False)
        layers = {layer: layer for layer in range(LAYERS)}
        entry = build_pool_entry(
            name=PoolName.KV, host_pool=self.pool, device_pool=device, layer_mapping=layers, transfer_layer_id_max=LAYERS, is_anchor=True
        )  # fmt: skip
        config = {**NAMED, **PATIENT, "interface_v1": 1, "servers": server.address, "transport": "tcp"}
        self.controller = HybridCacheController(
            allocator, HostPoolGroup([entry]), PAGE, group, load_cache_event=threading.Event(), write_policy="write_through", io_backend="direct",
            storage_backend="dynamic", prefetch_threshold=PAGE, model_name="org/model", storage_backend_extra_config={**config, **extra},
            transfer_layer_id_max=LAYERS,
        )  # fmt: skip
        self.hashes = get_storage_hash_str(RadixKey(TOKENS), None, page_size=PAGE)

    def backup(self):
        """The pages of TOKENS, from the first pages of the pool. How many tokens were stored."""
        self.controller.write_storage(torch.arange(PAGES * PAGE), TOKENS, hash_value=self.hashes)
        return self.controller.ack_backup_queue.get(timeout=WAIT_S).completed_tokens

    def prefetch(self):
        """What the store has of TOKENS, to newly allocated pages. (tokens found, tokens loaded, host indices)"""
        self.controller.prefetch(CacheRequestHandle("request", 0), RadixKey(TOKENS))
        operation = self.controller.prefetch_hit_queue.get(timeout=WAIT_S)
        if not operation.storage_hit_count:
            return 0, 0, None
        self.pool.clear()  # of what a prefetch before this one loaded
        operation.host_indices = self.pool.alloc(operation.storage_hit_count)
        self.controller.prefetch_buffer.put(operation)
        loaded = 0
        while not (ack := self.controller.ack_prefetch_queue.get(timeout=WAIT_S)).completed_req:
            loaded = ack.completed_tokens or loaded
        return operation.storage_hit_count, loaded, operation.host_indices

    def end(self):
        self.controller.detach_storage_backend()


@pytest.mark.parametrize("kind, layout", [("mha", "layer_first"), ("mha", "page_first_direct"), ("mla", "page_first")])
def test_a_second_engine_prefetches_what_the_first_backed_up(process_group, model, server, kind, layout):
    first = Engine(process_group, server, 1, layout, kind)
    assert first.prefetch() == (0, 0, None)
    assert first.backup() == PAGES * PAGE
    want = [page_bytes(first.pool, page) for page in range(PAGES)]
    first.end()

    second = Engine(process_group, server, 2, layout, kind)
    found, loaded, indices = second.prefetch()
    assert found == loaded == PAGES * PAGE
    assert all(torch.equal(page_bytes(second.pool, int(indices[page * PAGE]) // PAGE), want[page]) for page in range(PAGES))
    second.controller.clear_storage_backend()
    assert second.prefetch()[0] == 0
    second.end()


def test_models_that_differ_in_weights_only_share_nothing(process_group, model, server):
    def found():
        engine = Engine(process_group, server, 2, "page_first")
        tokens = engine.prefetch()[0]
        engine.end()
        return tokens

    first = Engine(process_group, server, 1, "page_first")
    first.backup()
    first.end()
    assert found() == PAGES * PAGE
    publish_model(model.parent / "fine-tuned", weight=1.001)
    assert found() == 0
    publish_model(model.parent / "a copy elsewhere")
    assert found() == PAGES * PAGE
    publish_model(model, json_model_override_args='{"rope_theta": 1000000}')
    assert found() == 0


def test_the_engine_goes_on_when_the_server_stands_still_in_the_middle(process_group, model, server):
    engine = Engine(process_group, server, 1, "page_first", exists_timeout_s=0.2, get_timeout_s=0.4, put_timeout_s=0.5)
    engine.backup()
    real = engine.controller.storage_backend.batch_get_v1

    def freeze_first(*args):
        freeze(server.process.pid)
        return real(*args)

    engine.controller.storage_backend.batch_get_v1 = freeze_first
    found, loaded, indices = engine.prefetch()
    assert (found, loaded) == (PAGES * PAGE, 0)
    engine.controller.storage_backend.batch_get_v1 = real
    assert engine.prefetch()[0] == 0 and engine.backup() == 0
    fill(engine.pool, 9)
    sentinel = whole(engine.pool)
    server.process.send_signal(signal.SIGCONT)
    for _ in range(100):
        if engine.prefetch()[1] == PAGES * PAGE:
            break
        assert torch.equal(whole(engine.pool), sentinel), "a late reply landed in memory that was reused"
    else:
        raise AssertionError("the server is back, and is not used")
    engine.end()
