"""`memkv settings ENGINE`: stdout is what can be run, stderr what will not work. That engines take it is in tests/engines."""

import json
import shlex

import pytest
from processes import BIN, DRAWN_KEY, clean_environment, run

ENGINES = ["vllm", "lmcache", "sglang", "nixl"]


def settings(engine, *args, **env):
    return run("memkv", "settings", engine, *args, env=clean_environment(**env))


def commands(text):
    """The lines that are no comments, as a shell splits them."""
    joined = text.replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in joined.splitlines() if line and not line.startswith("#")]


def json_of(words):
    return [json.loads(word) for word in words if word.startswith("{")]


@pytest.fixture
def store(servers, tmp_path):
    (tmp_path / "it's.key").write_text(DRAWN_KEY)
    (tmp_path / "it's.key").chmod(0o600)
    config = tmp_path / "server.yaml"
    config.write_text(f"network:\n  auth_key: {DRAWN_KEY}\n")
    server = servers("--config", config, "--mode", "memory", "--memory", "128MiB")
    return ["--servers", f"kv1={server.address}", "--auth-key", f"@{tmp_path}/it's.key", "--transport", "tcp"], server


@pytest.mark.parametrize("engine", ENGINES)
def test_names_the_store_and_keeps_quiet_where_all_is_well(store, engine, tmp_path):
    args, server = store
    told = settings(engine, *args, "--model", "/models/it's mine")
    assert told.code == 0 and told.err == "", told
    assert f"kv1={server.address}" in told.text and DRAWN_KEY not in told.text
    words = [word for command in commands(told.text) for word in command]
    if engine == "nixl":
        exported = dict(word.split("=", 1) for word in words if "=" in word)
        assert exported["MEMKV_AUTH_KEY"] == f"@{tmp_path}/it's.key"
        assert (BIN.parent / "lib").samefile(exported["NIXL_PLUGIN_DIR"]), exported
    else:
        assert "/models/it's mine" in words, words
        assert f"@{tmp_path}/it's.key" in json.dumps(json_of(words))


def test_the_server_of_this_host_needs_no_words(tmp_path):
    told = settings("vllm", MEMKV_SHM_DIR=tmp_path)
    ((*_, config),) = commands(told.text)
    assert json.loads(config)["kv_connector_extra_config"]["secondary_tiers"] == [{"type": "MemKVTier", "module_path": "memkv.vllm"}]


def test_what_will_not_work_is_said_on_stderr():
    told = settings("sglang", "--servers", "127.0.0.1:1", "--auth-key", DRAWN_KEY)
    assert told.code == 0 and "127.0.0.1:1" in told.err and "@FILE" in told.err, told
    assert DRAWN_KEY not in told.text + told.err and '"auth_key":"@FILE"' in told.text


def test_the_variables_count_as_everywhere(store, tmp_path):
    args, server = store
    told = settings("lmcache", MEMKV_SERVERS=f"kv1={server.address}", MEMKV_AUTH_KEY=f"@{tmp_path}/it's.key")
    adapter = json_of(commands(told.text)[0])[0]
    assert adapter["adapter_params"] == {"servers": f"kv1={server.address}", "auth_key": f"@{tmp_path}/it's.key"}


@pytest.mark.parametrize(
    "option, value, said",
    [("--transport", "bogus", "bogus"), ("--servers", "127.0.0.1:99000", "99000"), ("--auth-key", "abc", "credential"), ("--config", "/none.yaml", "/none.yaml")],
)
def test_what_is_wrong_is_refused_and_nothing_printed(option, value, said):
    told = settings("vllm", option, value)
    assert told.code == 2 and told.out == b"" and said in told.err, told


def test_a_file_of_settings_is_handed_on(tmp_path):
    (tmp_path / "client.yaml").write_text("servers: kv1=127.0.0.1:1\n")
    told = run("memkv", "settings", "lmcache", "--config", "client.yaml", cwd=tmp_path)
    assert json_of(commands(told.text)[0])[0]["adapter_params"] == {"config_file": f"{tmp_path}/client.yaml"}
    exported = settings("nixl", MEMKV_CONFIG=tmp_path / "client.yaml").text
    assert f"export MEMKV_CONFIG='{tmp_path}/client.yaml'" in exported and "MEMKV_SERVERS" not in exported, "which would win"


def test_a_credential_in_the_environment_stays_there():
    assert "export MEMKV_AUTH_KEY" not in settings("nixl", MEMKV_SERVERS="127.0.0.1:1", MEMKV_AUTH_KEY=DRAWN_KEY).text


def test_an_engine_that_is_not_known_is_refused():
    told = settings("tgi")
    assert told.code == 2 and "vllm" in told.err and "--help" in told.err, told
