"""What NIXL sees of the plugin before a byte moves."""

import pytest
from conftest import DRAWN_KEY

NAMES = {"servers", "auth_key", "prefix", "transport", "rdma_devices", "congestion", "timeout_ms", "io_threads", "coalesce", "write_mode", "staging_mb", "log_level", "metrics_file", "summary"}


def said(played):
    return [line for line in played.err.splitlines() if line.startswith("memkv nixl: ")]


def shown(stage):
    from nixl_cu12 import _api as nixl

    agent = nixl.nixl_agent("lister", nixl.nixl_agent_config(backends=[]))
    first = agent.get_plugin_params("MEMKV")
    memories = agent.get_plugin_mem_types("MEMKV")
    made = stage.agent(timeout_ms=1234, coalesce="off")
    return {
        "listed": agent.get_plugin_list(),
        "parameters": first,
        "memories": memories,
        "effective": made.nixl.get_backend_params("MEMKV"),
        "backend_memories": made.nixl.get_backend_mem_types("MEMKV"),
    }


def test_listed_shown_and_created(play, place, wheel):
    value = play(shown, place, wheel).value
    assert "MEMKV" in value["listed"] and "OBJ" in value["listed"]
    assert set(value["parameters"]) == NAMES and not any(value["parameters"].values()), "callers hand defaults back as if a user had set them"
    assert {"DRAM", "OBJ"} <= {str(m).split(".")[-1].removesuffix("_SEG") for m in value["memories"]}, value
    assert {"DRAM", "VRAM", "OBJ"} <= {str(m).split(".")[-1].removesuffix("_SEG") for m in value["backend_memories"]}, value
    effective = value["effective"]
    assert effective["timeout_ms"] == "1234" and effective["coalesce"] == "off" and effective["write_mode"] == "auto"
    assert effective["auth_key"] in ("(set)", ""), "a credential is shown"


def comes_and_goes(stage):
    """init -> fini -> init, and backends that follow each other in one process."""
    from nixl_cu12 import _api as nixl

    for round in range(5):
        lister = nixl.nixl_agent(f"lister{round}", nixl.nixl_agent_config(backends=[]))
        assert lister.get_plugin_params("MEMKV")
        del lister
        agent = stage.agent()
        agent.write(agent.memory(4096, fill=round), "here")
        back = agent.memory(4096)
        agent.read(back, "here")
        assert (back.bytes == round).all()
        agent.close()


def test_init_fini_init(play, place, wheel):
    play(comes_and_goes, place, wheel)


def refused(stage, parameters, backend="MEMKV"):
    try:
        stage.agent(backend=backend, **parameters)
    except Exception as error:
        return type(error).__name__
    return "created"


@pytest.mark.parametrize(
    "parameters,words",
    [
        ({"serverz": "127.0.0.1:1"}, "unknown parameter 'serverz'; did you mean 'servers'?"),
        ({"coalesce": "maybe"}, "coalesce=maybe: expected on or off"),
        ({"timeout_ms": "0"}, "timeout_ms=0: expected a whole number from 1"),
        ({"timeout_ms": "1s"}, "timeout_ms=1s: expected a whole number"),
        ({"io_threads": "1000"}, "io_threads=1000: expected"),
        ({"staging_mb": "-1"}, "staging_mb=-1: expected"),
        ({"write_mode": "append"}, "write_mode=append: expected auto, replace or if_absent"),
        ({"transport": "carrier-pigeon"}, "transport=carrier-pigeon: expected"),
        ({"auth_key": "secret-that-is-no-key"}, "64"),
        ({"auth_key": "@/no/such/file"}, "/no/such/file"),
        ({"servers": "host:99999"}, "host:99999"),
        ({"servers": None}, "MEMKV_SERVERS"),
        ({"metrics_file": "/no/such/folder/m.prom"}, "/no/such/folder/m.prom"),
    ],
    ids=lambda v: next(iter(v.items())).__str__() if isinstance(v, dict) else "",
)
def test_bad_parameters_are_said_clearly(play, place, parameters, words):
    played = play(refused, place, parameters=parameters)
    assert played.value == "nixlBackendError", played.err
    assert len(said(played)) == 1 and words in said(played)[0], played.err
    assert "secret-that-is-no-key" not in played.err


def at_the_first_transfer(stage, parameters):
    from agent import outcome

    agent = stage.agent(**parameters)
    return outcome(agent.write, agent.memory(4096), "key")


@pytest.mark.parametrize("key", [DRAWN_KEY, None], ids=["wrong", "none"])
def test_case_c17_a_wrong_credential_is_said_clearly(play, keyed, key):
    played = play(refused, keyed, parameters={"auth_key": key})
    assert played.value == "nixlBackendError", played.err
    assert len(said(played)) == 1 and "credential" in said(played)[0] and "auth_key" in said(played)[0], played.err
    assert DRAWN_KEY not in played.err


def test_a_server_that_is_not_there_is_said_clearly(play, place):
    played = play(at_the_first_transfer, place, parameters={"servers": "127.0.0.1:1", "timeout_ms": 500})
    assert played.value == "nixlBackendError", played.err
    assert "test_a_server_that_is_not_there" in said(played)[0], "the key that was asked for is not named"


def empty_is_unset(stage):
    """Parameters as nixlbench gives them back: all names, empty; the environment then counts."""
    from nixl_cu12 import _api as nixl

    parameters = nixl.nixl_agent("lister", nixl.nixl_agent_config(backends=[])).get_plugin_params("MEMKV")
    stage.parameters = {}
    agent = stage.agent(**{**parameters, "prefix": stage.prefix})
    agent.write(agent.memory(4096, fill=3), "from-the-environment")
    return agent.nixl.get_backend_params("MEMKV")


def from_environment(place, **more):
    names = {"servers": "MEMKV_SERVERS", "auth_key": "MEMKV_AUTH_KEY", "timeout_ms": "MEMKV_TIMEOUT_MS"}
    return {**{names[k]: v for k, v in place.parameters().items()}, **more}


def test_empty_parameters_do_not_shadow_the_environment(play, place):
    env = from_environment(place, MEMKV_WRITE_MODE="if_absent", MEMKV_TIMEOUT_MS=4321)
    value = play(empty_is_unset, env=env).value
    assert value["write_mode"] == "if_absent" and value["timeout_ms"] == "4321"


def test_configuration_file(play, place, tmp_path):
    file = tmp_path / "client.yaml"
    key = f"auth_key: '{place.key}'\n" if place.key else ""
    file.write_text(f"servers: [{place.server.address}]\n{key}nixl:\n  coalesce: off\n  timeout_ms: 777\n")
    value = play(empty_is_unset, env={"MEMKV_CONFIG": file, "MEMKV_TIMEOUT_MS": 888}).value
    assert value["coalesce"] == "off" and value["timeout_ms"] == "888"


def forked(stage):
    """The child is told to make an agent of its own; the parent goes on, and the child of a child that does so works."""
    import os

    from agent import outcome

    agent = stage.agent()
    memory = agent.memory(4096, fill=5)
    agent.write(memory, "forked")
    request = agent.request("READ", [(memory, 0, "forked", 0, 4096)])
    child = os.fork()
    if child == 0:
        codes = [outcome(agent.read, memory, "forked"), outcome(agent.post, request)]
        own = stage.agent()
        back = own.memory(4096)
        own.read(back, "forked")
        os._exit(0 if codes == ["nixlBackendError"] * 2 and (back.bytes == 5).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    agent.finish(request)
    request.release()
    del request
    agent.close()


def test_fork_is_refused_clearly(play, place):
    played = play(forked, place)
    assert played.err.count("was made before fork()") == 1, played.err


def maps(stage):
    agent = stage.agent()
    agent.write(agent.memory(1 << 20, fill=1), "mapped")
    agent.read(agent.memory(1 << 20), "mapped")
    with open("/proc/self/maps") as file:
        return sorted({line.split()[-1] for line in file if ".so" in line})


def test_no_cuda_library_is_loaded_without_vram(play, place, wheel):
    libraries = play(maps, place, wheel).value
    ours = [path for path in libraries if "cudart" in path or "libcuda." in path]
    assert not ours and any("libplugin_MEMKV" in path for path in libraries), libraries
