"""Drives LMCache's L2 adapters as its controllers do: keys, objects in an arena, and waiting on the event descriptors."""

import json
import os
import time

import torch
from lmcache.cli.commands.bench.l2_adapter_bench.data import wait_eventfd
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.internal_api import L1MemoryDesc
from lmcache.v1.distributed.l2_adapters import config as l2_config
from lmcache.v1.distributed.l2_adapters import create_l2_adapter, native_plugin_l2_adapter, plugin_l2_adapter  # noqa: F401
from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj

PARAMS = {"weights": "of the tests", "lookup_timeout_s": 5}  # a machine that is busy takes its time
CLASSES = {"plugin": "MemKVL2Adapter", "native_plugin": "MemKVNativeClient"}


def spec(kind, server, **params):
    """The JSON of `--l2-adapter`."""
    return {
        "type": kind,
        "module_path": "memkv.lmcache",
        "class_name": CLASSES[kind],
        "adapter_params": {"servers": getattr(server, "address", server), **PARAMS, **params},
    }


def build(described, arena=None):
    """An adapter as `lmcache server` builds it; the two types are imported above, for LMCache would look through all it has."""
    l2_config._ensure_config_loaded(described["type"])
    config = l2_config._L2_ADAPTER_CONFIG_REGISTRY[described["type"]].from_dict(described)
    return create_l2_adapter(config, arena.describe() if arena else None)


def keys(count, model="org/model", **fields):
    return [ObjectKey(**{"chunk_hash": os.urandom(32), "model_name": model, "kv_rank": 0x01000100, **fields}) for _ in range(count)]


class Arena:
    """LMCache's own memory: `count` objects of `size` bytes with `gap` bytes between them, which nobody may touch."""

    GAP = 64

    def __init__(self, count, size):
        self.size, self.stride = size, size + self.GAP
        self.memory = torch.full((count * self.stride,), 0xA5, dtype=torch.uint8)
        self.objects = [self.object(i, size) for i in range(count)]

    def object(self, i, size):
        raw = self.memory[i * self.stride : i * self.stride + size]
        metadata = MemoryObjMetadata(
            shape=torch.Size([size]), dtype=torch.uint8, address=i * self.stride, phy_size=size, fmt=MemoryFormat.KV_2LTD, ref_count=1
        )
        return TensorMemoryObj(raw_data=raw, metadata=metadata, parent_allocator=None)

    def describe(self):
        return L1MemoryDesc(ptr=self.memory.data_ptr(), size=self.memory.numel(), align_bytes=1)

    def fill(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for i, obj in enumerate(self.objects):
            obj.raw_data.copy_(torch.randint(0, 256, (self.size,), dtype=torch.uint8, generator=generator))

    def bytes_of(self, i):
        return bytes(self.objects[i].raw_data.numpy())

    def gaps_are_whole(self):
        return bool((self.memory.view(-1, self.stride)[:, self.size :] == 0xA5).all())


def _wait(fd, ask, timeout):
    until = time.monotonic() + timeout
    while (answer := ask()) is None:
        assert wait_eventfd(fd, max(0.0, until - time.monotonic())), "no event came"
    return answer


def look_up(adapter, wanted, timeout=10):
    task = adapter.submit_lookup_and_lock_task(wanted, {})
    return _wait(adapter.get_lookup_and_lock_event_fd(), lambda: adapter.query_lookup_and_lock_result(task), timeout).get_indices_list()


def load(adapter, wanted, objects, timeout=20):
    task = adapter.submit_load_task(wanted, objects)
    found = _wait(adapter.get_load_event_fd(), lambda: adapter.query_load_result(task), timeout).get_indices_list()
    adapter.submit_unlock(wanted)
    return found


def store(adapter, wanted, objects, timeout=30):
    task = adapter.submit_store_task(wanted, objects)
    done = {}

    def ask():
        done.update(adapter.pop_completed_store_tasks())
        return done.get(task)

    return _wait(adapter.get_store_event_fd(), ask, timeout)


def as_json(described):
    return json.dumps(described)
