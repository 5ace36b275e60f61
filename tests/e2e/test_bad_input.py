"""Every bad input has a message that says what is wrong, where, and what to do."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
from conftest import DRAWN_KEY, ROOT, setup_store


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
    says(config_with(memkv, tmp_path, lambda t: t + "\nnetwrok:\n  address: 127.0.0.1:0\n"), "netwrok", "did you mean network?", "store.yaml, line ")


def test_mistyped_nested_key(memkv, tmp_path):
    says(config_with(memkv, tmp_path, lambda t: t.replace("address:", "adress:", 1)), "network.adress", "did you mean network.address?", "line ")


def test_size_without_unit(memkv, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("storage:\n  mode: memory\nmemory:\n  max_size: 64\n")
    says(memkv("start", "--config", path, "--address", "127.0.0.1:0", timeout=20), "line 4", "max_size", "64 has no unit", "64MiB")


def test_value_of_wrong_type(memkv, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("storage:\n  mode: sideways\n")
    says(memkv("start", "--config", path, timeout=20), "mode", "sideways", "direct")


SHM_CASES = [
    ("ring_size: 100KiB", "power of two from 64KiB to 64MiB"),
    ("ring_size: 32KiB", "power of two from 64KiB to 64MiB"),
    ("ring_size: 524288", "has no unit"),
    ("max_size: 0MiB", "more than 0"),
    ("socket_mode: 0888", "no permissions like 0600"),
    ("socket_mode: rw", "no permissions like 0600"),
    ("enabled: perhaps", "neither true nor false"),
    ("folder: /tmp", "shm.folder"),
]


@pytest.mark.parametrize("line, words", SHM_CASES)
def test_shm_section(memkv, tmp_path, line, words):
    path = tmp_path / "c.yaml"
    path.write_text(f"storage:\n  mode: memory\nmemory:\n  max_size: 128MiB\nshm:\n  {line}\n")
    says(memkv("start", "--config", path, "--address", "127.0.0.1:0", timeout=20), "shm", "line 6", words)


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


@pytest.mark.parametrize("at, data, found", [(0, b"%PDF-1.7\n" * 9, 'at byte 0: "%PDF-1.7"'), (0, b"\x7fELF\2\1\1\0", "at byte 0: hex 7f454c46020101"), (1080, b"\x53\xef" + bytes(20), "at byte 1080: hex 53ef0000"),
                                             (65536, b"_BHRfS_M\x01", 'at byte 65536: "_bhrfs_m"')])
def test_setup_refuses_a_file_that_holds_something_else(memkv, tmp_path, at, data, found):
    drive = tmp_path / "mine.img"
    with open(drive, "wb") as file:
        file.truncate(64 << 20)
        file.seek(at)
        file.write(data)
    before = drive.read_bytes()
    says(memkv("setup", "--drive", drive, cwd=tmp_path), f"{drive}: holds data that is no MemKV store", found, "--force")
    assert drive.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["mine.img"]
    says(memkv("setup", "--drive", f"{drive}:64MiB", cwd=tmp_path), "exists already", "--force")
    assert drive.read_bytes() == before
    assert memkv("setup", "--drive", drive, "--force", cwd=tmp_path).code == 0


def test_setup_refuses_a_block_device_in_the_same_words(memkv, tmp_path):
    if os.geteuid() != 0:
        pytest.fail("needs root for a loop device")
    image = tmp_path / "image"
    image.write_bytes(b"somebody's data".ljust(64 << 20, b"\0"))
    device = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True).stdout.strip()
    try:
        says(memkv("setup", "--drive", device, cwd=tmp_path), f"{device}: holds data that is no MemKV store", "somebody's data", "--force")
        assert memkv("setup", "--drive", device, "--force", cwd=tmp_path).code == 0
        says(memkv("setup", "--drive", device, cwd=tmp_path), "already formatted, by store", "--force")
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_setup_takes_a_file_of_zeros_and_tells_a_damaged_store(memkv, tmp_path):
    drive = tmp_path / "zeros.img"
    with open(drive, "wb") as file:
        file.truncate(64 << 20)
    assert memkv("setup", "--drive", drive, cwd=tmp_path).code == 0
    with open(drive, "r+b") as file:
        file.write(b"overwritten".ljust(4096))  # the first superblock; the second is whole
    says(memkv("setup", "--drive", drive, cwd=tmp_path), "--force", "store")
    drive.write_bytes(b"")
    says(memkv("setup", "--drive", drive, cwd=tmp_path), "has no room (size 0)")


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
        assert not (small / "d0.memkv").exists()
        says(memkv("start", cwd=small, timeout=20), "memkv-data.memkv", "space", code=5)  # the file that start makes by itself
        assert not (small / "memkv-data.memkv").exists()
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
    says(memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=30), "b0.memkv belongs to another store", "one store", code=2)


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
    says(memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=30), "d0.memkv", "not formatted", "memkv setup", code=5)


XXH3 = r"""
#define XXH_INLINE_ALL
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
int main(int argc, char** argv) {
  unsigned char block[4096];
  FILE* f = fopen(argv[1], "r+b");
  for (long at = 0; at <= 512 * 1024; at += 512 * 1024) {
    fseek(f, at, SEEK_SET);
    if (fread(block, 1, sizeof block, f) != sizeof block) return 1;
    block[8] = 77; /* format_version */
    memset(block + 24, 0, 8);
    unsigned long long sum = XXH3_64bits(block, sizeof block);
    memcpy(block + 24, &sum, 8);
    fseek(f, at, SEEK_SET);
    fwrite(block, 1, sizeof block, f);
  }
  return fclose(f);
}
"""


def test_newer_format(memkv, tmp_path):
    config, _ = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    (tmp_path / "newer.c").write_text(XXH3)
    subprocess.run(["gcc", "-O1", tmp_path / "newer.c", "-o", tmp_path / "newer"], check=True)
    subprocess.run([tmp_path / "newer", tmp_path / "d0.memkv"], check=True)
    says(memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=30), "d0.memkv", "format version 77", "newer program", code=5)


def test_a_stale_member_comes_back_empty_and_serves_nothing_old(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, *[f"d{i}.memkv:64MiB" for i in range(3)])
    server = servers("--config", config)
    for i in range(30):
        (tmp_path / "b").write_bytes(b"old%04d" % i * 1000)
        assert memkv("put", f"k{i}", "b", server=server, key=key).code == 0
    assert server.stop() == 0
    without = tmp_path / "without.yaml"
    without.write_text("\n".join(line for line in config.read_text().splitlines() if "d2.memkv" not in line))
    server = servers("--config", without)
    for i in range(30):
        (tmp_path / "b").write_bytes(b"new%04d" % i * 1000)
        assert memkv("put", f"k{i}", "b", server=server, key=key).code == 0
    assert server.stop() == 0
    server = servers("--config", config)
    assert "d2.memkv: was out of its store" in server.log() and "empty" in server.log()
    for i in range(30):
        assert memkv("get", f"k{i}", server=server, key=key).out == b"new%04d" % i * 1000
    assert server.stop() == 0


def test_a_drive_that_is_gone_but_still_in_the_file(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, *[f"d{i}.memkv:64MiB" for i in range(4)])
    (tmp_path / "d3.memkv").unlink()
    server = servers("--config", config)
    assert "d3.memkv: no such file or device" in server.log() and "degraded" in server.log()
    status = json.loads(memkv("status", "--json", server=server, key=key).text)["servers"][0]["status"]
    assert status["degraded"] and len(status["missing"]) == 1 and [d["state"] for d in status["drives"]].count("missing") == 1
    assert memkv("put", "k", "/etc/hostname", server=server, key=key).code == 0
    assert server.stop() == 0
    (tmp_path / "d1.memkv").unlink()
    server = servers("--config", config)  # 2 of the 3 that were in are more than half
    assert server.stop() == 0
    (tmp_path / "d2.memkv").unlink()
    refused = memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=30)
    says(refused, "only 1 of 2", "d2.memkv: no such file", "--accept-loss", code=5)
    name = refused.err.split("--accept-loss ")[1].split()[0].rstrip(";")
    server = servers("--config", config, "--accept-loss", name)
    assert server.stop() == 0
    (tmp_path / "d0.memkv").unlink()
    says(memkv("start", "--config", config, "--address", "127.0.0.1:0", timeout=30), "d0.memkv", "no such file", "storage.drives", code=2)


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
    says(memkv("put", "k", "/etc/hostname", server=server, key=DRAWN_KEY, timeout=30), "key", code=4)
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


def test_bad_keys(memkv, servers):
    server = servers("--mode", "memory", "--memory", "64MiB")
    says(memkv("put", "", "/etc/hostname", server=server), "key")
    says(memkv("put", "k" * 1025, "/etc/hostname", server=server), "1024")


def test_read_past_the_end(memkv, servers, tmp_path):
    server = servers("--mode", "memory", "--memory", "64MiB")
    (tmp_path / "b").write_bytes(b"0123456789")
    assert memkv("put", "k", "b", server=server).code == 0
    says(memkv("get", "k", "--offset", "11", server=server), "offset 11", "past the end", "10 bytes")
    assert memkv("get", "k", "--offset", "8", "--length", "100", server=server).out == b"89"
    assert memkv("get", "k", "--offset", "10", server=server).out == b""


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


def test_oversized_frame_is_cut_at_once(memkv, servers):
    server = servers("--mode", "memory", "--memory", "64MiB")
    host, port = server.address.split(":")
    for body, payload in ((4097, 0), (0xFFFFFFFF, 0), (48, 0xFFFFFFFF)):
        with socket.create_connection((host, int(port)), timeout=10) as s:
            started = time.monotonic()
            s.sendall(b"MKV1" + struct.pack("<BBHIIQQ", 0, 1, 0, body, payload, 0, 0) + b"\0" * 16)
            try:
                while s.recv(4096):
                    pass
            except ConnectionError:
                pass
            assert time.monotonic() - started < 3  # not the handshake's 5 s
    alive(memkv, server)


class Relay:
    """A port in front of a server that keeps what clients sent; without a server it is a mirror."""

    def __init__(self, target=None):
        self.sent, self.target = [], target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            record = bytearray()
            self.sent.append(record)
            if self.target is None:
                threading.Thread(target=self.pump, args=(near, near, record), daemon=True).start()
                continue
            host, port = self.target.split(":")
            far = socket.create_connection((host, int(port)))
            threading.Thread(target=self.pump, args=(near, far, record), daemon=True).start()
            threading.Thread(target=self.pump, args=(far, near, bytearray()), daemon=True).start()

    @staticmethod
    def pump(source, sink, record):
        try:
            while data := source.recv(65536):
                record += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.close()


WELCOME, GOODBYE = 4, 42


def opcodes(frames):
    found = []
    while len(frames) >= 48:
        found.append(frames[5])
        body, payload = struct.unpack_from("<II", frames, 8)
        frames = frames[48 + body + payload:]
    return found


def refused(memkv, server, key):
    return next(s["status"]["service"]["handshakes_refused"] for s in json.loads(memkv("status", "--json", server=server, key=key).text)["servers"])


def test_replayed_session_changes_nothing(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    server = servers("--config", config)
    relay = Relay(target=server.address)
    (tmp_path / "one").write_bytes(b"one" * 100)
    (tmp_path / "two").write_bytes(b"two" * 100)
    assert memkv("put", "k", "one", server=relay.address, key=key).code == 0
    relay.close()
    assert memkv("put", "k", "two", server=server, key=key).code == 0
    before = refused(memkv, server, key)
    host, port = server.address.split(":")
    assert any(b"one" * 100 in record for record in relay.sent)
    for record in relay.sent:
        with socket.create_connection((host, int(port)), timeout=10) as s:
            answer = b""
            try:
                s.sendall(record)
                while chunk := s.recv(65536):
                    answer += chunk
            except ConnectionError:
                pass
            assert WELCOME not in opcodes(answer), answer
    assert refused(memkv, server, key) > before
    assert memkv("get", "k", server=server, key=key).out == b"two" * 100
    assert server.stop() == 0


def test_reflected_handshake_proves_nothing(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    mirror = Relay()  # gives the client its own bytes back
    result = memkv("put", "k", "/etc/hostname", "--timeout", "3s", server=mirror.address, key=key, timeout=30)
    says(result, "server 127.0.0.1:", code=None)
    assert all(len(record) < 1000 for record in mirror.sent)  # no op left
    mirror.close()

    server = servers("--config", config)  # two connections to the server, each fed with the other's answers
    host, port = server.address.split(":")
    hello = bytes(mirror.sent[0][:48 + struct.unpack_from("<I", mirror.sent[0], 8)[0]])
    with socket.create_connection((host, int(port)), timeout=10) as a, socket.create_connection((host, int(port)), timeout=10) as b:
        a.sendall(hello)
        b.sendall(hello)
        try:
            to_b, to_a = a.recv(65536), b.recv(65536)
            a.sendall(to_a)
            b.sendall(to_b)
            for s in (a, b):
                while chunk := s.recv(65536):
                    assert opcodes(chunk) == [GOODBYE], chunk
        except ConnectionError:
            pass
    assert refused(memkv, server, key) >= 2
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
    assert answer[5] == 42 and b"speaks 2 to 2" in answer and b"900" in answer, answer


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
    told = [line for line in server.log().splitlines() if "memlock" in line]
    assert len(told) == 1 and "64 KiB" in told[0] and "ulimit -l" in told[0], server.log()
    alive(memkv, server)
    assert server.stop() == 0


def test_io_uring_denied_runs_on_epoll_and_says_so(memkv, servers, tmp_path):
    deny = (sys.executable, str(ROOT / "tests/support/container.py"), "--deny", "io_uring_setup=EPERM", "--")
    config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    server = servers("--config", config, prefix=deny)
    told = [line for line in server.log().splitlines() if "io_uring" in line]
    assert len(told) == 1 and "seccomp" in told[0] and "epoll" in told[0], server.log()
    (tmp_path / "b").write_bytes(os.urandom(5_000_000))
    assert memkv("put", "k", "b", server=server, key=key).code == 0
    assert memkv("get", "k", server=server, key=key).out == (tmp_path / "b").read_bytes()
    assert "epoll" in memkv("status", server=server, key=key).text
    assert server.stop() == 0
    says(memkv("start", "--config", config, "--address", "127.0.0.1:0", "--io", "uring", prefix=deny, timeout=20), "io_uring", "seccomp", code=5)
