"""Case C18: vLLM's own obj tier, unmodified, with MemKV's NIXL plugin in the place of NIXL's OBJ: its server is down at
start, killed and frozen, and the engine goes on."""

import os
import pathlib
import time

import pytest
from processes import ROOT
from vllm_processes import EngineProcess, Store, until_it_works

NIXL = pathlib.Path(os.environ.get("NIXL_FOLDER", ROOT / ".venv-nixl/1.5.1"))  # ./dev setup
PLUGIN = pathlib.Path(os.environ["MEMKV_LIBRARY"]).parent / "libplugin_MEMKV.so"
TIMEOUT_S, SLACK_S = 0.7, 0.2


def nixl_beside_vllm(folder):
    """The wheel under the name by which vLLM imports it, without the wheel's own numpy."""
    for name in ("nixl_cu12", ".nixl_cu12.mesonpy.libs", "nixl_cu12.libs"):
        (folder / name).symlink_to(NIXL / name)
    (folder / "nixl").mkdir()
    (folder / "nixl/__init__.py").touch()
    (folder / "nixl/_api.py").write_text("from nixl_cu12._api import nixl_agent, nixl_agent_config\n")
    (folder / "nixl/_bindings.py").write_text("from nixl_cu12._bindings import *\n")
    (folder / "plugins").mkdir()
    (folder / "plugins/libplugin_OBJ.so").symlink_to(PLUGIN)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = Store(tmp_path_factory.mktemp("store"))
    yield made
    if made.server:
        made.server.kill()


@pytest.fixture(scope="module")
def engine(tmp_path_factory, store):
    if not (NIXL.is_dir() and PLUGIN.exists()):
        pytest.skip("needs NIXL's wheel (./dev setup) and the plugin (./dev build)")
    folder = tmp_path_factory.mktemp("obj")
    paths = [nixl_beside_vllm(folder)]
    key = pathlib.Path(store.key.removeprefix("@")).read_text().strip()
    tier = {"type": "obj", "store_config": {"bucket": "b", "endpoint_override": store.address, "secret_key": key}}
    more = {"NIXL_PLUGIN_DIR": folder / "plugins", "NIXL_TELEMETRY_ENABLE": "y", "MEMKV_TIMEOUT_MS": int(TIMEOUT_S * 1000)}
    started = EngineProcess(folder, folder / "model", tier, paths=paths, **more)
    yield started
    started.kill()


def test_the_engine_outlives_a_server_that_is_down_killed_and_frozen(engine, store):
    fresh = engine.generate(seed=1)  # the server is down
    assert fresh["cached"] == [0]
    store.up()
    until_it_works(engine)

    def stored_and_forgotten():
        engine.forget()
        engine.generate(seed=1)
        engine.forget()
        engine.measured()

    stored_and_forgotten()
    again = engine.generate(seed=1)
    assert again["tokens"] == fresh["tokens"] and again["cached"] == [896]

    stored_and_forgotten()
    engine.before_next_load(frozen=store.pid)
    frozen = engine.generate(seed=1)
    assert frozen["tokens"] == fresh["tokens"] and frozen["cached"] == [0]
    assert engine.measured()["load"] <= TIMEOUT_S + SLACK_S
    engine.forget()
    engine.fill_primary(byte=0x5A)
    store.up()
    time.sleep(1)
    assert engine.primary_holds_only(byte=0x5A)
    until_it_works(engine)

    stored_and_forgotten()
    engine.before_next_load(killed=store.pid)
    killed = engine.generate(seed=1)
    store.server.process.wait()
    assert killed["tokens"] == fresh["tokens"]
    store.up()
    until_it_works(engine)
