"""`memkv start` and then any command, without a word of configuration: the server on this host, for its user alone."""

import json
import os
import signal
import socket
import subprocess

import pytest
from conftest import BIN, DRAWN_KEY, clean_environment, run


@pytest.fixture
def space():
    """A network namespace with a loopback of its own, so that the default port is free; the prefix that enters it."""
    name = f"mkvlocal{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    enter = ("ip", "netns", "exec", name)
    try:
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True, capture_output=True)
        yield enter
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def memory_server(servers, folder, space, *args):
    return servers("--mode", "memory", "--memory", "64MiB", "--shm-dir", folder, *args, address="127.0.0.1:9900", prefix=space)


def test_commands_without_any_setting_reach_the_server_on_this_host(servers, space, tmp_path):
    folder = tmp_path / "run"
    env = clean_environment(MEMKV_SHM_DIR=folder)
    away = run("memkv", "get", "k", prefix=space, env=env)
    assert away.code == 3 and "127.0.0.1:9900" in away.err and "memkv start" in away.err, away

    server = memory_server(servers, folder, space)
    assert "local.key" in server.log()
    assert run("memkv", "put", "k", "-", prefix=space, env=env, stdin=b"block").code == 0
    assert run("memkv", "get", "k", prefix=space, env=env).out == b"block"
    named = clean_environment(MEMKV_SHM_DIR=folder, MEMKV_SERVERS="127.0.0.1:9900")
    assert run("memkv", "get", "k", prefix=space, env=named).out == b"block"
    assert run("memkv", "status", prefix=space, env=env).code == 0

    credential = (folder / "local.key").read_text()
    assert server.stop() == 0
    memory_server(servers, folder, space)
    assert (folder / "local.key").read_text() == credential, "clients of long standing would be turned away"


FILE = "memkv-data.memkv"


def start(folder, *args, **kwargs):
    return run("memkv", "start", "--shm-dir", folder / "run", *args, cwd=folder, env=clean_environment(), timeout=60, **kwargs)


def test_a_start_that_fails_leaves_no_file_of_its_own(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = start(tmp_path, "--address", address)
        assert told.code == 5 and f"making ./{FILE}" in told.err and f"./{FILE} is removed again" in told.err and not (tmp_path / FILE).exists(), told
        for args, code in ((["--address", "0.0.0.0:0"], 2), (["--io", "nonesuch"], 2), (["--address", "127.0.0.1:0", "--congestion", "nonesuch"], 2),
                           (["--address", "127.0.0.1:0", "--ready-file", tmp_path / "nowhere/ready"], 5)):
            told = start(tmp_path, *args)
            assert told.code == code and not (tmp_path / FILE).exists(), told


def test_a_start_that_is_interrupted_while_it_makes_its_file_leaves_none(tmp_path):
    argv = [BIN / "memkv", "start", "--address", "127.0.0.1:0", "--shm-dir", tmp_path / "run"]
    process = subprocess.Popen(argv, cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True)
    while "making ./" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 5 and "interrupted: the file is removed again" in err and not (tmp_path / FILE).exists(), err


def test_a_start_that_fails_leaves_a_file_that_was_there(memkv, servers, tmp_path):
    server = servers("--shm-dir", tmp_path / "run")
    assert memkv("put", "k", "-", server=server, stdin=b"block").code == 0
    told = start(tmp_path, "--address", server.address)
    assert told.code == 5 and "in use" in told.err and (tmp_path / FILE).exists(), told
    assert server.stop() == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = start(tmp_path, "--address", f"127.0.0.1:{taken.getsockname()[1]}")
        assert told.code == 5 and "removed again" not in told.err, told
    again = servers("--shm-dir", tmp_path / "run")
    assert memkv("get", "k", server=again).out == b"block"
    assert again.stop() == 0
    (tmp_path / FILE).unlink()  # pytest keeps folders


def test_the_doctor_tells_what_works_and_what_to_do(servers, space, tmp_path):
    env = clean_environment(MEMKV_SHM_DIR=tmp_path / "run")
    without = run("memkv", "doctor", prefix=space, env=env)
    assert without.code == 3 and "bad   server 127.0.0.1:9900" in without.text and "memkv start" in without.text, without
    memory_server(servers, tmp_path / "run", space)
    told = run("memkv", "doctor", "--json", prefix=space, env=env)
    assert told.code == 0, told
    verdicts = {f["what"]: f["verdict"] for f in json.loads(told.out)}
    assert verdicts.keys() >= {"kernel", "CPUs", "io_uring", "locked memory", "huge pages", "shm", "rdma", "CUDA", "GPU direct"}
    assert verdicts["server 127.0.0.1:9900"] == "ok" and set(verdicts.values()) <= {"ok", "note"}


def test_other_users_of_the_host_are_turned_away(servers, space, tmp_path):
    folder = tmp_path / "run"
    server = memory_server(servers, folder, space)
    for place in (tmp_path, *tmp_path.parents):
        if place.stat().st_uid == os.geteuid() and place.stat().st_mode & 0o001 == 0:
            place.chmod(place.stat().st_mode | 0o011)
    nobody = (*space, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    told = run("memkv", "get", "k", prefix=nobody, env=clean_environment(MEMKV_SHM_DIR=folder))
    assert told.code == 4 and "another user" in told.err and "MEMKV_AUTH_KEY" in told.err, told
    without = run("memkv", "get", "k", prefix=nobody, env=clean_environment(MEMKV_SHM_DIR=tmp_path, MEMKV_SERVERS=server.address))
    assert without.code == 4, without


def test_a_configured_credential_is_the_only_one(servers, space, tmp_path):
    config = tmp_path / "server.yaml"
    config.write_text(f"network:\n  auth_key: {DRAWN_KEY}\n")
    folder = tmp_path / "run"
    memory_server(servers, folder, space, "--config", config)
    assert not (folder / "local.key").exists()
    assert run("memkv", "get", "k", prefix=space, env=clean_environment(MEMKV_SHM_DIR=folder)).code == 4


def test_server_and_program_have_one_version(servers, space, tmp_path):
    memory_server(servers, tmp_path / "run", space)
    told = run("memkv", "status", "--json", prefix=space, env=clean_environment(MEMKV_SHM_DIR=tmp_path / "run"))
    assert json.loads(told.out)["servers"][0]["status"]["version"] == run("memkv", "--version").text.split()[1]
