"""Every bad input has a message that says what is wrong, where, and what to do."""

import contextlib
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import time

import pytest
from conftest import BIN, clean_environment, setup_store


def says(result, *words, code=2):
    text = (result.err + result.text).lower()
    assert result.code == code or (code is None and result.code != 0), result
    for word in words:
        assert word.lower() in text, f"'{word}' is not in: {result}"
    assert "terminate called" not in text and "assert" not in text, result


def config_with(memkv, tmp_path, change):
    config, _ = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    config.write_text(change(config.read_text()))
    return memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=20)


def test_unknown_config_key(memkv, tmp_path):
    says(config_with(memkv, tmp_path, lambda t: t + "\nnetwrok:\n  address: 127.0.0.1:0\n"), "netwrok", "network", "store.yaml")


def test_mistyped_nested_key(memkv, tmp_path):
    says(config_with(memkv, tmp_path, lambda t: t.replace("address:", "adress:", 1)), "adress", "address")


def test_size_without_unit(memkv, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("storage:\n  mode: memory\nmemory:\n  max_size: 64\n")
    says(memkv("start", "--config", path, "--address", "127.0.0.1:0", timeout=20), "max_size", "64", "MiB")


def test_value_of_wrong_type(memkv, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("storage:\n  mode: sideways\n")
    says(memkv("start", "--config", path, timeout=20), "mode", "sideways", "direct")


def test_config_is_not_yaml(memkv, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("storage: [\n")
    says(memkv("start", "--config", path, timeout=20), "c.yaml", "line")


def test_config_is_missing(memkv):
    says(memkv("start", "--config", "/nowhere/memkv.yaml", timeout=20), "/nowhere/memkv.yaml")


def test_drive_too_small(memkv, tmp_path):
    says(memkv("setup", "--drive", f"{tmp_path}/d.memkv:4MiB"), "d.memkv", "small", code=None)


def test_drive_size_without_unit(memkv, tmp_path):
    says(memkv("setup", "--drive", f"{tmp_path}/d.memkv:4000000000"), "unit", code=None)


def test_setup_refuses_a_formatted_drive(memkv, tmp_path):
    setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    says(memkv("setup", "--drive", f"{tmp_path}/d0.memkv", "--auth-key-file", f"{tmp_path}/other.key"), "d0.memkv", "--force", code=None)
    again = memkv("setup", "--drive", f"{tmp_path}/d0.memkv", "--auth-key-file", f"{tmp_path}/other.key", "--force")
    assert again.code == 0, again


def test_setup_in_a_missing_folder(memkv):
    says(memkv("setup", "--drive", "/nowhere/d0.memkv:64MiB"), "/nowhere", code=None)


def test_disk_full_at_setup(memkv, tmp_path):
    if os.geteuid() != 0:
        pytest.fail("needs root to mount a small tmpfs")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", small], check=True)
    try:
        says(memkv("setup", "--drive", f"{small}/d0.memkv:64MiB"), "d0.memkv", "space", code=None)
    finally:
        subprocess.run(["umount", small], check=True)


def test_no_permission(memkv, tmp_path):
    config, _ = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    os.chmod(tmp_path / "d0.memkv", 0o600)
    for folder in [tmp_path, *tmp_path.parents]:
        if str(folder).startswith("/tmp/"):
            os.chmod(folder, 0o755)
    result = memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=20, prefix=("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"))
    says(result, "permission", code=None)


def test_drive_in_use_by_another_server(memkv, servers, tmp_path):
    config, _ = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    servers("--config", config)
    says(memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=30), "d0.memkv", "in use", code=None)


def test_drive_of_another_store(memkv, tmp_path):
    config, _ = setup_store(memkv, tmp_path, "a0.memkv:64MiB", "a1.memkv:64MiB", name="a")
    setup_store(memkv, tmp_path, "b0.memkv:64MiB", name="b")
    config.write_text(config.read_text().replace("a1.memkv", "b0.memkv"))
    says(memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=30), "b0.memkv", "another store", code=None)


def damage(path, offset, data=b"\xa5" * 4096):
    with open(path, "r+b") as drive:
        drive.seek(offset)
        drive.write(data)


def test_one_damaged_superblock_is_survived_and_two_are_told(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    damage(tmp_path / "d0.memkv", 0)
    server = servers("--config", config)
    assert server.stop() == 0
    damage(tmp_path / "d0.memkv", 0)
    damage(tmp_path / "d0.memkv", 512 * 1024)
    says(memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=30), "d0.memkv", "superblock", code=None)


def test_unformatted_drive(memkv, tmp_path):
    config, _ = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    with open(tmp_path / "d0.memkv", "r+b") as drive:
        drive.write(bytes(1 << 20))
    says(memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=30), "d0.memkv", "memkv setup", code=None)


def test_half_of_the_members_missing(memkv, servers, tmp_path):
    config, _ = setup_store(memkv, tmp_path, *[f"d{i}.memkv:64MiB" for i in range(4)])
    lines = config.read_text().splitlines()
    kept = [line for line in lines if "d2.memkv" not in line and "d3.memkv" not in line]
    half = tmp_path / "half.yaml"
    half.write_text("\n".join(kept))
    says(memkv("start", "--config", half, "--address", "127.0.0.1:0", timeout=30), "missing", "--accept-loss", code=None)
    most = tmp_path / "most.yaml"
    most.write_text("\n".join(line for line in lines if "d3.memkv" not in line))
    server = servers("--config", most)
    assert "missing" in server.log().lower() or "degraded" in server.log().lower()
    assert server.stop() == 0


def test_port_in_use(memkv, servers):
    first = servers("--mode", "memory", "--memory", "64MiB")
    says(memkv("start", "--mode", "memory", "--memory", "64MiB", "--address", first.address, timeout=20), "in use", first.address.split(":")[1], code=None)


def test_no_keys_off_loopback(memkv):
    says(memkv("start", "--mode", "memory", "--memory", "64MiB", "--address", "0.0.0.0:0", timeout=20), "auth_key", code=None)


def test_wrong_key_and_no_key(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    server = servers("--config", config)
    says(memkv("put", "k", "/etc/hostname", server=server, key="ab" * 32, timeout=30), "key", code=4)
    says(memkv("put", "k", "/etc/hostname", server=server, timeout=30), "key", code=4)
    says(memkv("put", "k", "/etc/hostname", server=server, key="abcd", timeout=30), "64", code=2)
    assert memkv("put", "k", "/etc/hostname", server=server, key=key).code == 0


def test_server_that_is_not_there(memkv):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    says(memkv("get", "k", server=f"127.0.0.1:{port}", timeout=30), str(port), code=3)


def test_bad_server_list(memkv):
    says(memkv("get", "k", server="127.0.0.1:notaport"), "notaport")
    says(memkv("get", "k"), "MEMKV_SERVERS")


def test_bad_keys(memkv, servers):
    server = servers("--mode", "memory", "--memory", "64MiB")
    says(memkv("put", "", "/etc/hostname", server=server), "key")
    says(memkv("put", "k" * 1025, "/etc/hostname", server=server), "1024")


def test_block_too_large(memkv, servers, tmp_path):
    server = servers("--mode", "memory", "--memory", "64MiB")
    (tmp_path / "big").write_bytes(bytes(40 << 20))
    says(memkv("put", "k", "big", server=server), "large", code=None)


def alive(memkv, server):
    assert memkv("put", "alive", "/etc/hostname", server=server).code == 0
    assert memkv("get", "alive", server=server).code == 0


def test_garbage_on_the_port(memkv, servers):
    server = servers("--mode", "memory", "--memory", "64MiB")
    host, port = server.address.split(":")
    for data in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(100_000), b"MKV1" + os.urandom(60), b"\0" * 5000,
                 b"MKV1" + struct.pack("<BBHIIQQ", 0, 1, 0, 0xFFFFFFFF, 0xFFFFFFFF, 1, 0) + b"\0" * 16):
        with socket.create_connection((host, int(port)), timeout=10) as s:
            with contextlib.suppress(OSError):  # the server may hang up at any moment
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
    alive(memkv, server)
    assert server.stop() == 0


def test_version_from_the_future(servers):
    server = servers("--mode", "memory", "--memory", "64MiB")
    host, port = server.address.split(":")
    body = struct.pack("<HHIBBH", 900, 999, 0, 0, 0, 0xFFFF) + b"\0" * 8 + os.urandom(32) + struct.pack("<H", 0)
    frame = b"MKV1" + struct.pack("<BBHIIQQ", 0, 1, 0, len(body), 0, 0, 0) + b"\0" * 16 + body
    with socket.create_connection((host, int(port)), timeout=10) as s:
        s.sendall(frame)
        answer = b""
        while chunk := s.recv(4096):
            answer += chunk
    assert answer[5] == 42 and b"1" in answer and b"900" in answer, answer


def test_many_connections_that_never_speak(memkv, servers):
    server = servers("--mode", "memory", "--memory", "64MiB")
    host, port = server.address.split(":")
    silent = []
    try:
        for _ in range(10_000):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((host, int(port)))
            silent.append(s)
            if len(silent) >= 9_000:
                silent.pop(0).close()
        for attempt in range(5):  # its turn comes behind the crowd that waits for the door
            if memkv("put", "alive", "/etc/hostname", server=server).code == 0:
                break
        alive(memkv, server)
        resident = int(next(l for l in open(f"/proc/{server.process.pid}/status") if l.startswith("VmRSS")).split()[1])
        assert resident < 1_500_000
        fds = f"/proc/{server.process.pid}/fd"
        end = time.monotonic() + 20
        while len(os.listdir(fds)) >= 200 and time.monotonic() < end:
            time.sleep(0.2)
        assert len(os.listdir(fds)) < 200
        alive(memkv, server)
    finally:
        for s in silent:
            s.close()
    assert server.stop() == 0


def test_low_memlock_is_told_and_survived(memkv, servers):
    server = servers("--mode", "memory", "--memory", "64MiB", prefix=("setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock", "prlimit", "--memlock=65536", "--"))
    alive(memkv, server)
    assert server.stop() == 0
