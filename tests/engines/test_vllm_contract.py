"""memkv.vllm.MemKVTier against upstream's manager: that of the vLLM in .venv-engines, and the sources of the newest one."""

import os
import pathlib
import subprocess
import sys

import memkv
import pytest
from processes import clean_environment

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = pathlib.Path(os.environ.get("VLLM_SOURCES", pathlib.Path(sys.prefix) / "vllm-0.33.0"))  # ./dev setup-engines


def python(*arguments, sources=None, timeout=300, **more):
    paths = [sources, HERE, HERE.parent / "support", pathlib.Path(memkv.__file__).parents[1]]
    more.update({name: os.environ[name] for name in ("MEMKV_LIBRARY", "MEMKV_BIN") if name in os.environ})
    env = clean_environment(PYTHONPATH=os.pathsep.join(str(path) for path in paths if path), MEMKV_TRANSPORT="tcp", VLLM_NO_USAGE_STATS=1, **more)
    return subprocess.run([sys.executable, *arguments], env=env, cwd=HERE, capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize("sources", [None, SOURCES], ids=["installed", SOURCES.name])
def test_the_contract(sources):
    if sources and not sources.is_dir():
        pytest.skip(f"{sources} is not there: ./dev setup-engines fetches it")
    version = sources.name.rpartition("-")[2] if sources else "0.32"
    played = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", "vllm_contract.py", sources=sources, VLLM_EXPECTED=version)
    assert played.returncode == 0, played.stdout[-8000:] + played.stderr[-2000:]


def test_the_entry_point_is_silent_and_light_without_vllm(tmp_path):
    """Also where what it imports ends the interpreter's patience."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/__init__.py").write_text("raise SystemExit('no such machine')")
    script = "import sys, memkv._vllm_plugin as plugin; plugin.register(); print('memkv._library' in sys.modules, 'torch' in sys.modules)"
    done = python("-c", script, sources=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False False\n", "")
