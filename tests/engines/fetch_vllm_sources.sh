#!/bin/bash
# The Python sources of a vLLM release for tests/engines/test_vllm_contract.py: fetch_vllm_sources.sh FOLDER VERSION [PYTHON]
#
# vLLM's wheels need CUDA and weigh 400 MB and more; its sdist has 47 MB, of which vllm/**/*.py stay. pip asks an sdist for its
# metadata before it keeps it, which needs what vLLM's setup.py imports (here: setuptools-rust, and PYTHON's torch), and a
# version that is the one asked for.
set -euo pipefail
folder=$1 version=$2 python=${3:-python3}
[ -d "$folder/vllm" ] && exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m pip install --quiet --disable-pip-version-check --target "$work/needs" --no-deps setuptools-rust==1.13.0 semantic-version==2.10.0
PYTHONPATH=$work/needs VLLM_TARGET_DEVICE=empty VLLM_VERSION_OVERRIDE=$version "$python" -m pip download --quiet --disable-pip-version-check \
  --no-deps --no-binary vllm --no-build-isolation --dest "$work" "vllm==$version"
mkdir -p "$work/unpacked"
tar xzf "$work/vllm-$version.tar.gz" -C "$work/unpacked" --strip-components=1 --wildcards '*/vllm/*.py'
mkdir -p "$(dirname "$folder")"
mv "$work/unpacked" "$folder"
