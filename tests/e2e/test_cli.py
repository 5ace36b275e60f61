"""The command line as a user meets it."""

import json
import os
import re
import stat

from conftest import clean_environment, run, setup_store


def test_help_teaches():
    for args in (["--help"], ["setup", "--help"], ["start", "--help"], ["put", "--help"], ["get", "--help"], ["status", "--help"]):
        result = run("memkv", *args)
        assert result.code == 0 and len(result.text) > 200, result
    assert "exit" in run("memkv", "--help").text.lower()
    assert run("memkv-bench", "--help").code == 0
    assert run("memkv-bench", "sweep", "--help").code == 0


def test_mistyped_commands():
    for args, words in ((["starrt"], "did you mean start?"), (["frob"], "--help"), ([], "--help"), (["put", "k"], "memkv put --help"), (["start", "--workers", "x"], "--workers")):
        result = run("memkv", *args)
        assert result.code == 2 and words in result.err and len(result.err.splitlines()) == 1, result


def test_the_logs_level_is_an_option_of_server_and_commands(memkv, servers, tmp_path):
    quiet = servers("--mode", "memory", "--memory", "64MiB", "--log-level", "off")
    assert quiet.log() == ""
    assert memkv("put", "k", "-", server=quiet, stdin=b"v").code == 0
    silent = memkv("get", "k", server=quiet)
    assert silent.out == b"v" and silent.err == "", silent
    told = memkv("get", "k", "--log-level", "debug", server="127.0.0.1:1")
    assert told.code == 3 and "WARN" in told.err, told
    assert "WARN" not in memkv("get", "k", server="127.0.0.1:1").err
    for env in ("warn", "loud"):
        asked = run("memkv", "get", "k", env=clean_environment(MEMKV_SERVERS="127.0.0.1:1", MEMKV_LOG_LEVEL=env))
        assert (asked.code, "WARN" in asked.err) == ((3, True) if env == "warn" else (2, False)), asked
    assert "MEMKV_LOG_LEVEL: unknown log level 'loud'; known are debug, info, warn, error and off" in asked.err
    wrong = memkv("get", "k", "--log-level", "loud", server=quiet)
    assert wrong.code == 2 and "--log-level: unknown log level 'loud'" in wrong.err, wrong
    for args, env in ((["--log-level", "loud"], {}), ([], {"MEMKV_LOG_LEVEL": "loud"})):
        refused = run("memkv", "start", "--mode", "memory", *args, cwd=tmp_path, env=clean_environment(**env), timeout=20)
        assert refused.code == 2 and "loud is none of debug, info, warn, error, off" in refused.err, refused
    config = tmp_path / "server.yaml"
    config.write_text("storage: {mode: memory}\nmemory: {max_size: 64MiB}\nlog: {level: error}\n")
    assert servers("--config", config).log() == ""
    assert "ready on" in servers("--config", config, "--log-level", "info").log()


def test_status_shows_who_is_connected(memkv, servers):
    server = servers("--mode", "memory", "--memory", "64MiB")
    (client,) = json.loads(memkv("status", "--json", server=server).text)["servers"][0]["status"]["clients"]
    assert re.fullmatch(r"memkv\[\d+\]", client["name"]) and client["connections"] >= 1, client
    assert re.search(r"\n  clients\n    \[0\] +name memkv\[\d+\]  connections \d+  (tcp|shm) \d+", memkv("status", server=server).text)


def test_setup_start_and_every_command(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB", "d1.memkv:64MiB")
    assert "#" in config.read_text()  # it is commented
    assert stat.S_IMODE(os.stat(tmp_path / "store.key").st_mode) == 0o600
    server = servers("--config", config)
    call = lambda *args, **kw: memkv(*args, server=server, key=key, **kw)

    block = os.urandom(3_000_000)
    (tmp_path / "block").write_bytes(block)
    assert call("put", "a/key", "block").code == 0
    got = call("get", "a/key")
    assert got.code == 0 and got.out == block
    assert call("get", "a/key", "-o", "copy").code == 0
    assert (tmp_path / "copy").read_bytes() == block
    assert call("put", "from-stdin", "-", stdin=b"hello").code == 0
    assert call("get", "from-stdin").out == b"hello"
    assert call("exists", "a/key").code == 0
    assert call("exists", "a/key", "nope").code == 1
    assert call("get", "nope").code == 1
    listed = call("ls")
    assert listed.code == 0 and "a/key" in listed.text and "from-stdin" in listed.text
    shown = json.loads(call("stat", "a/key", "--json").text)
    assert "3000000" in json.dumps(shown)
    assert call("rm", "a/key").code == 0
    assert call("rm", "a/key").code == 1
    assert call("exists", "a/key").code == 1
    status = call("status")
    assert status.code == 0 and server.address in status.text
    parsed = json.loads(call("status", "--json").text)
    assert parsed
    assert call("flush", "--yes").code == 0
    assert call("exists", "from-stdin").code == 1
    assert server.stop() == 0


def test_a_ready_file_of_an_earlier_start_says_nothing(memkv, tmp_path):
    (tmp_path / "ready").write_text("127.0.0.1:1\n")
    assert memkv("start", "--config", "none.yaml", "--ready-file", "ready").code == 2
    assert not (tmp_path / "ready").exists()
    (tmp_path / "folder").mkdir()
    refused = memkv("start", "--mode", "memory", "--ready-file", "folder")
    assert refused.code == 2 and "--ready-file folder: it is there and cannot be removed" in refused.err


def test_start_without_config_uses_a_file_here_and_loopback(memkv, servers, tmp_path):
    server = servers()
    assert memkv("put", "k", "/etc/hostname", server=server).code == 0
    assert any(p.suffix == ".memkv" or "memkv" in p.name for p in tmp_path.iterdir())
    assert server.stop() == 0
    server = servers()
    assert memkv("exists", "k", server=server).code == 0
    assert server.stop() == 0


def test_keys_that_are_bytes(memkv, servers):
    server = servers("--mode", "memory", "--memory", "64MiB")
    assert memkv("put", "--hex", "00ff0a", "/etc/hostname", server=server).code == 0
    assert memkv("exists", "--hex", "00ff0a", server=server).code == 0


def test_bench_starts_its_own_server_and_leaves_nothing(tmp_path):
    before = {p for p in os.listdir("/proc") if p.isdigit()}
    result = run("memkv-bench", "sweep", "--sizes", "4KiB,64KiB,1MiB", "--bytes", "32MiB", "--threads", "2", "--json", "out.json", "--html", "out.html",
                 cwd=tmp_path, env=clean_environment(), timeout=240)
    assert result.code == 0, result
    assert "64 K" in result.text or "64K" in result.text, result
    report = json.loads((tmp_path / "out.json").read_text())
    assert "full" in json.dumps(report)
    html = (tmp_path / "out.html").read_text()
    assert "<svg" in html and "http://" not in html.replace("http://www.w3.org", "")
    for pid in {p for p in os.listdir("/proc") if p.isdigit()} - before:
        try:
            command = open(f"/proc/{pid}/cmdline", "rb").read()
        except OSError:
            continue
        assert not (b"memkv\0start" in command and str(tmp_path).encode() in command)


def test_verified_sweep_over_tcp_and_shm_to_64_mib(tmp_path):
    sizes = "4KiB,16KiB,64KiB,256KiB,1MiB,4MiB,16MiB,64MiB"
    result = run("memkv-bench", "sweep", "--own", "memory", "--transport", "tcp,shm", "--sizes", sizes, "--bytes", "16MiB", "--threads", "1", "--window", "128MiB",
                 "--no-ceiling", "--deadline", "60s", "--json", "out.json", cwd=tmp_path, timeout=240)
    assert result.code == 0 and " 0 wrong, 0 missed, 0 failed" in result.text, result
    runs = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert {run["transport"] for run in runs} == {"tcp", "shm"}
    assert len(runs) == 2 * 2 * 8 and all(run["verified_blocks"] > 0 for run in runs if run["op"] == "read"), runs


def test_shm_section(memkv, servers, tmp_path):
    def start(*lines):
        path = tmp_path / "shm.yaml"
        path.write_text("storage:\n  mode: memory\nmemory:\n  max_size: 128MiB\nshm:\n" + "".join(f"  {line}\n" for line in lines))
        return servers("--config", path)

    def put(server, transport):
        env = clean_environment(MEMKV_TRANSPORT=transport, MEMKV_SHM_DIR=tmp_path / "here", MEMKV_SERVERS=server.address)
        return run("memkv", "put", "key", "-", stdin=b"bytes", env=env)

    def shm_connections(server):
        return json.loads(memkv("status", "--json", server=server).text)["servers"][0]["status"]["shm"]

    server = start(f"dir: {tmp_path}/here", "socket_mode: 0666", "ring_size: 64KiB", "max_size: 5MiB")
    (socket,) = (tmp_path / "here").iterdir()
    assert stat.S_IMODE(socket.stat().st_mode) == 0o666 and socket.suffix == ".sock"
    assert put(server, "shm").code == 0
    assert shm_connections(server)["window_bytes_max"] == 5 << 20
    server.stop()
    assert not socket.exists()

    server = start("max_size: 64KiB", "ring_size: 64KiB", f"dir: {tmp_path}/here")
    assert "shm.max_size is 64 KiB, and one connection takes 2.07 MiB" in server.log()
    refused = put(server, "shm")
    assert refused.code != 0 and "shm" in refused.err, "the windows of one client do not fit"
    assert put(server, "auto").code == 0
    server.stop()

    server = start("enabled: false", f"dir: {tmp_path}/here")
    assert not any((tmp_path / "here").iterdir())
    assert put(server, "shm").code != 0 and put(server, "tcp").code == 0
