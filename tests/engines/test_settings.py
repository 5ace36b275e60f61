"""What `memkv settings` prints names what is there, by the names that the engines ask for."""

import importlib
import json
import shlex

import pytest
from processes import run


def adapters(engine):
    """(module, class, parameters) of each adapter in the printed command lines."""
    told = run("memkv", "settings", engine, "--servers", "kv1=127.0.0.1:1")
    words = [word for line in told.text.replace("\\\n", " ").splitlines() if not line.startswith("#") for word in shlex.split(line)]
    for parsed in (json.loads(word) for word in words if word.startswith("{")):
        for found in parsed.get("kv_connector_extra_config", {}).get("secondary_tiers", [parsed]):
            if "module_path" in found:
                yield found["module_path"], found.get("class_name", found.get("type")), found


@pytest.mark.parametrize("engine", ["vllm", "lmcache", "sglang"])
def test_the_printed_adapter_exists_and_knows_its_parameters(engine):
    ((module, name, parameters),) = adapters(engine)
    assert getattr(importlib.import_module(module), name)
    if engine == "vllm":
        from memkv.vllm._settings import Settings

        assert Settings.of({name: value for name, value in parameters.items() if name not in ("type", "module_path")}).servers
    if engine == "lmcache":
        from memkv.lmcache.settings import Settings

        assert Settings.of(parameters["adapter_params"]).servers == ("kv1=127.0.0.1:1",)
