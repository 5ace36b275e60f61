#!/bin/bash
# SGLang's file storage hands pages of one host layout to another: after a restart with another --hicache-mem-layout, wrong KV.
#
# Seen with: sglang 0.5.23, torch 2.13.0 (PyPI), Python 3.11, on CPU.
# What one would expect: a page that was stored under one --hicache-mem-layout is a miss under another, or is put in order.
#   (The file says so itself: "TODO: Include KV dtype and stored layout in keys".)
# What happens: HiCacheFile names files by page hash, model name and rank. Pages have the same size in all layouts, so a
#   page that layer_first wrote is "found" by page_first, and its bytes land in the wrong layers and tokens. No error.
# Output seen:
#   layer_first reads its own page: found True, K and V as written True
#   page_first reads it: found True, K and V as written False
#
# SGLANG_PYTHON: a Python that has these packages already (.venv-engines/bin/python after `./dev setup-engines`); else they are
# installed into a temporary folder (4 GB).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${SGLANG_PYTHON:-}
if [ -z "$python" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$root/tests/engines/requirements.txt"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
  python=$work/venv/bin/python
fi
cat > "$work/try.py" <<'PY'
import sys

sys.path.insert(0, sys.argv[1] + "/tests/engines")
import torchvision_stub  # torchvision of PyPI needs CUDA's torch; storage needs none of it

torchvision_stub.install()
import torch
from sglang.srt.mem_cache.hicache_storage import HiCacheFile, HiCacheStorageConfig
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool
from sglang.srt.mem_cache.pool_host.mha import MHATokenToKVPoolHost

PAGE, LAYERS = 16, 4
device = MHATokenToKVPool(size=64, page_size=PAGE, dtype=torch.bfloat16, head_num=2, head_dim=32, layer_num=LAYERS, device="cpu", enable_memory_saver=False)


def pool(layout):
    return MHATokenToKVPoolHost(
        device._mha_buffer_info(), host_to_device_ratio=1.0, host_size=0, page_size=PAGE, layout=layout, pin_memory=False,
        device_capacity_tokens=64, start_layer=0, end_layer=LAYERS, host_token_capacity=8 * PAGE,
    )  # fmt: skip


def key_of(host, layer, token):
    """K of a token in a layer, whatever the layout."""
    return host.kv_buffer[0, layer, token] if host.layout == "layer_first" else host.kv_buffer[0, token, layer]


config = HiCacheStorageConfig(
    tp_rank=0, tp_size=1, pp_rank=0, pp_size=1, attn_cp_rank=0, attn_cp_size=1, is_mla_model=False, enable_storage_metrics=False,
    is_page_first_layout=False, model_name="org/model",
)  # fmt: skip
storage = HiCacheFile(config, file_path=sys.argv[2])
written = pool("layer_first")
for layer in range(LAYERS):
    for token in range(PAGE):
        key_of(written, layer, token).fill_(layer * PAGE + token)
storage.set("ab" * 32, written.get_data_page(0))
for layout, what in (("layer_first", "layer_first reads its own page"), ("page_first", "page_first reads it")):
    read = pool(layout)
    page = storage.get("ab" * 32, read.get_dummy_flat_data_page())
    read.set_from_flat_data_page(0, page)
    same = all(torch.equal(key_of(read, layer, token), key_of(written, layer, token)) for layer in range(LAYERS) for token in range(PAGE))
    print(f"{what}: found {page is not None}, K and V as written {same}")
PY
seen=$("$python" -W ignore "$work/try.py" "$root" "$work/hicache" 2>/dev/null)
echo "$seen"
grep -qx 'layer_first reads its own page: found True, K and V as written True' <<<"$seen"
grep -qx 'page_first reads it: found True, K and V as written False' <<<"$seen"
